"""Refinement of a displacement field on the pair at hand.

Gradient descent on a similarity starts from the field that a network predicted, which
is near the optimum already, so few steps are enough. The images are compared by local
correlation, where the fixed one shows structure. The change of the field is a cubic
B-spline (D. Rueckert et al., "Nonrigid registration using free-form deformations", IEEE
TMI 18(8), 1999), with a penalty of its roughness, and one of small Jacobian
determinants.
"""

import functools
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from regnet_jax.geometry import (
    bspline_field,
    downsample,
    jacobian_determinant,
    upsample_field,
    warp,
)
from regnet_jax.geometry.bspline import control_points
from regnet_jax.geometry.slices import SLICE_AXES, drop_across
from regnet_jax.hounsfield import AIR, SOFT_TISSUE_RANGE
from regnet_jax.registration.inference.boxes import (
    BlendBox,
    CropBox,
    blend_crop,
    body_box,
    cover_grid,
    crop_box,
    lung_box,
    sample_displaced,
)
from regnet_jax.registration.inference.programs import KeptProgram
from regnet_jax.registration.inference.slices import compute_by_slices
from regnet_jax.registration.local_correlation import (
    local_correlation_coefficient,
    mean_over_cube,
)


class RefinementWeights(NamedTuple):
    """Weights of the objective and the step size of the descent.

    Attributes:
        smoothness: weight of the squared derivatives of the change of the field. A
            penalty of the whole field would flatten what the network found.
        folding: weight of the squared shortfall of the Jacobian determinant.
        learning_rate: of Adam, voxels.
    """

    smoothness: float = 1.0
    folding: float = 10.0
    learning_rate: float = 0.15


DEFAULT = RefinementWeights()
# Half of the width of the cubes of the local correlation, voxels.
_RADIUS = 2
# Distance of the control points of the B-spline, voxels.
_KNOTS = 3.0
# The penalty of folding acts on Jacobian determinants below this.
LEAST_JACOBIAN = 0.3
# Voxel size of the first resolution, in voxels of the images.
_COARSEST = 2

# Standard deviation in a cube that gives it half of the full weight, as a fraction of
# `SOFT_TISSUE_RANGE`; noise alone has less.
_STRUCTURE = 0.04
# The fraction of a voxel's cube that may be hidden.
_HIDDEN = 0.01


def _structure(image):
    """Return weights from 0, where an image is flat, towards 1, ``[*spatial]``."""
    # Zeros beyond the border are not structure.
    pads = [(_RADIUS, _RADIUS)] * image.ndim
    padded = jnp.pad(image, pads, "edge")
    middle = (slice(_RADIUS, -_RADIUS),) * image.ndim
    mean, squares = (
        mean_over_cube(each, _RADIUS)[middle] for each in (padded, padded**2)
    )
    variance = jnp.maximum(squares - mean**2, 0.0)
    return variance / (variance + _STRUCTURE**2)


def _roughness(field):
    """Return the mean squared derivative along the axes."""
    slopes = (jnp.diff(field, axis=axis) for axis in range(field.ndim - 1))
    return sum(jnp.mean(jnp.sum(slope**2, -1)) for slope in slopes)


def _shortfall(field):
    """Return by how much the Jacobian determinant falls short of the least."""
    return jnp.maximum(LEAST_JACOBIAN - jacobian_determinant(field), 0.0)


def _mean_squared_shortfall(field):
    return jnp.mean(_shortfall(field) ** 2)


@jax.custom_vjp
def _folding(field):
    """Return the mean squared shortfall of the Jacobian determinant."""
    return _mean_squared_shortfall(field)


def _folding_forward(field):
    shortfall = _shortfall(field)
    return jnp.mean(shortfall**2), (field, jnp.any(shortfall > 0.0))


def _folding_backward(residuals, gradient):
    field, falls_short = residuals
    slope = jax.grad(_mean_squared_shortfall)
    # Mostly nothing falls short, and then the gradient need not be computed.
    return (gradient * jax.lax.cond(falls_short, slope, jnp.zeros_like, field),)


_folding.defvjp(_folding_forward, _folding_backward)


def _spline(coefficients, shape: Sequence[int]):
    return bspline_field(coefficients, shape, [_KNOTS] * len(shape))


def objective(
    coefficients,
    fixed,
    moving,
    field,
    mobility,
    weight,
    box: BlendBox,
    weights: RefinementWeights,
):
    """Return the objective, which the refinement minimises.

    Args:
        coefficients: ``[*control points, d]`` of the change of the field, voxels.
        fixed: ``[*box.shape]``, in [0, 1].
        moving: ``[*spatial]``, the whole image that the box is in.
        field: ``[*box.shape, d]``, voxels, before the refinement.
        mobility: ``[*box.shape, 1]``, factor of the change.
        weight: ``[*box.shape]``, of the correlation at each voxel.
        box: place of the fixed voxels in the moving image's grid.
        weights: of the terms.

    Returns:
        One minus the weighted mean correlation, with the penalties of roughness and
        folding.
    """
    change = mobility * _spline(coefficients, fixed.shape)
    total = field + change
    warped = sample_displaced(moving[..., None], box, total)[..., 0]
    correlation = local_correlation_coefficient(fixed, warped, _RADIUS)
    similarity = jnp.sum(weight * correlation) / jnp.maximum(jnp.sum(weight), 1.0)
    return (
        1.0
        - similarity
        + weights.smoothness * _roughness(change)
        + weights.folding * _folding(total)
    )


def _descend(fixed, moving, field, mobility, shown, ignored, box, iterations, weights):
    """Return the change of the field, without the factor, by steps of Adam.

    ``shown`` is of both images, by the field at the beginning; what is ``ignored`` in
    the moving one, the second of both, is followed as the field changes.
    """
    # Imported only here, as a registration without refinement does not need it.
    import optax

    ignored_here, ignored_there = ignored
    fixed, field, mobility, shown, ignored_here = (
        crop_box(each, box)
        for each in (fixed[..., None], field, mobility, shown, ignored_here)
    )
    fixed = fixed[..., 0]
    shape = fixed.shape
    counts = [control_points(n, _KNOTS) for n in shape]
    start = jnp.zeros((*counts, len(shape)))
    schedule = optax.cosine_decay_schedule(weights.learning_rate, 1)
    # The count is traced: one program for any number of steps.
    optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=0.0)
    # Compare only voxels whose cube is shown by both images.
    weight = _structure(fixed)
    weight *= mean_over_cube(1.0 - shown[..., 0], _RADIUS) < _HIDDEN

    def weight_after(coefficients):
        """Return the weight without the cubes that touch what is ignored."""
        total = field + mobility * _spline(coefficients, shape)
        found = ignored_here + sample_displaced(ignored_there, box, total) > 0.0
        found = found[..., 0].astype(jnp.float32)
        return weight * (mean_over_cube(found, _RADIUS) == 0.0)

    is_ignored = jnp.any(ignored_here > 0.0) | jnp.any(ignored_there > 0.0)
    gradient = jax.grad(objective)

    def step(i, state):
        coefficients, memory = state
        fraction = i / jnp.maximum(iterations, 1)
        memory.hyperparams["learning_rate"] = schedule(fraction)
        current = jax.lax.cond(is_ignored, weight_after, lambda _: weight, coefficients)
        slope = gradient(
            coefficients, fixed, moving, field, mobility, current, box, weights
        )
        change, memory = optimizer.update(slope, memory)
        return optax.apply_updates(coefficients, change), memory

    state = (start, optimizer.init(start))
    coefficients, _ = jax.lax.fori_loop(0, iterations, step, state)
    return _spline(coefficients, shape)


@functools.partial(jax.jit, static_argnames=("factors", "weights"))
def refine(
    fixed,
    moving,
    displacement,
    iterations: Sequence[int],
    *,
    shown=(None, None),
    ignored=(None, None),
    mobility=None,
    box: BlendBox | None = None,
    factors: Sequence[int] = (_COARSEST, 1),
    weights: RefinementWeights = DEFAULT,
):
    """Improve a displacement field on its pair of images.

    Args:
        fixed: ``[*spatial]``, HU.
        moving: ``[*spatial]``, on the same grid.
        displacement: ``[*spatial, d]``, voxels, fixed to moving.
        iterations: steps at each resolution; may be traced.
        shown: ``[*spatial]`` of both images, where they show something; only there are
            they compared. None is everywhere.
        ignored: ``[*spatial]`` of both images, positive where they are not compared
            although they show something; None is nowhere. That of the moving image is
            warped by the field of each step, where ``shown`` is warped once for each
            resolution, and no voxel counts whose neighbourhood touches either.
        mobility: ``[*spatial]`` from 0 to 1, by which the change of the field is
            multiplied; None is 1 everywhere.
        box: where the field may change; None for everywhere.
        factors: voxel sizes of the resolutions, in voxels of the images.
        weights: of the objective, and the step size.

    Returns:
        ``[*spatial, d]``, voxels.
    """
    dark, bright = SOFT_TISSUE_RANGE
    images = [
        jnp.clip((image[..., None] - dark) / (bright - dark), 0.0, 1.0)
        for image in (fixed, moving)
    ]
    box = box or cover_grid(fixed.shape)
    here, there, movable = (
        jnp.ones((*fixed.shape, 1)) if s is None else jnp.asarray(s)[..., None] * 1.0
        for s in (*shown, mobility)
    )
    ignored = [
        jnp.zeros((*fixed.shape, 1)) if s is None else jnp.asarray(s)[..., None] * 1.0
        for s in ignored
    ]
    for factor, count in zip(factors, iterations, strict=True):
        one, other = (downsample(image, factor)[..., 0] for image in images)
        every = (slice(None, None, factor),) * one.ndim
        field = displacement[every] / factor
        both = downsample(here, factor) * warp(downsample(there, factor), field)
        coarse = box.coarsen(factor)
        change = _descend(
            *(one, other, field, movable[every], both),
            [downsample(each, factor) for each in ignored],
            *(coarse, count, weights),
        )
        change = upsample_field(change, factor, box.shape)
        crop = crop_box(displacement, box) + crop_box(movable, box) * change
        displacement = blend_crop(displacement, crop, box)
    return displacement


@functools.partial(KeptProgram, static_argnames=())
def _refine_in_box(fixed, moving, displacement, iterations, limits, box):
    return refine(fixed, moving, displacement, iterations, **limits, box=box)


class RefinedRegion(NamedTuple):
    """Where a refinement may change a field.

    Attributes:
        body: the part of the grid that is computed.
        lungs: a box of that part, where the field changes.
    """

    body: CropBox
    lungs: BlendBox


def find_refined_region(fixed, *, spacing: float, whole: bool = False) -> RefinedRegion:
    """Find the lungs or, where there are none, the body.

    Args:
        fixed: ``[*spatial]``, HU.
        spacing: isotropic voxel size, mm.
        whole: whether to compute the whole grid, as something beside the body stays in
            its place, next to which the field is continued.

    Returns:
        The region.
    """
    grid = fixed.shape
    body = CropBox((0,) * len(grid), grid, grid) if whole else body_box(fixed)
    crop = body.crop(fixed, AIR)
    return RefinedRegion(body, lung_box(crop, spacing, multiple=_COARSEST))


def compile_refinement_ahead(region: RefinedRegion, pool: Executor) -> None:
    """Begin to compile the program of ``refine_on_body``, while something else is done.

    Args:
        region: where it will refine.
        pool: of threads.
    """
    shape = region.body.shape
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    field = jax.ShapeDtypeStruct((*shape, len(shape)), jnp.float32)
    limits = {"shown": (image, image), "ignored": (image, image), "mobility": image}
    counts = _share_steps(0)
    _refine_in_box.prepare(pool, image, image, field, counts, limits, region.lungs)


def _share_steps(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps of each resolution, as arrays, so that no number is compiled."""
    return np.asarray(steps - steps // 3, np.int32), np.asarray(steps // 3, np.int32)


def refine_on_body(
    fixed,
    moving,
    displacement,
    *,
    steps: int,
    spacing: float,
    shown=(None, None),
    ignored=(None, None),
    mobility=None,
    slice_axis: str | None = None,
    region: RefinedRegion | None = None,
):
    """Improve a field within the lungs or, where there are none, the body.

    Args:
        fixed: ``[*spatial]``, HU.
        moving: ``[*spatial]``, on the same grid.
        displacement: ``[*spatial, d]``, voxels.
        steps: total number; two thirds at half the resolution.
        spacing: isotropic voxel size, mm.
        shown: as for ``refine``.
        ignored: as for ``refine``.
        mobility: as for ``refine``.
        slice_axis: a key of ``geometry.slices.SLICE_AXES``: refine slice by slice,
            with nothing moving across; None for images of the field's dimension.
        region: from ``find_refined_region``; None calls it. Not used with
            ``slice_axis``.

    Returns:
        ``[*spatial, d]`` float32, voxels.
    """
    if slice_axis:
        within = drop_across(jnp.asarray(displacement), SLICE_AXES[slice_axis])
        volumes = (fixed, moving, np.asarray(within), *shown, *ignored, mobility)

        def refine_slice(fixed, moving, displacement, *limits):
            return refine_on_body(
                *(fixed, moving, displacement),
                steps=steps,
                spacing=spacing,
                shown=limits[:2],
                ignored=limits[2:4],
                mobility=limits[4],
            )

        return compute_by_slices(refine_slice, volumes, slice_axis)
    region = region or find_refined_region(
        fixed, spacing=spacing, whole=mobility is not None
    )
    body = region.body
    # Never None, so that one compiled program serves all pairs of a shape.
    everywhere = np.ones(fixed.shape, np.float32)
    *shown, mobility = (
        body.crop(everywhere if where is None else where, 0.0)
        for where in (*shown, mobility)
    )
    nowhere = np.zeros(fixed.shape, np.float32)
    ignored = tuple(
        body.crop(nowhere if where is None else where, 0.0) for where in ignored
    )
    images = [body.crop(image, AIR) for image in (fixed, moving)]
    field = body.crop(displacement, 0.0)
    limits = {"shown": tuple(shown), "ignored": ignored, "mobility": mobility}
    return body.restore(
        _refine_in_box(*images, field, _share_steps(steps), limits, region.lungs)
    )
