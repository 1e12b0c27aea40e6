"""Refinement of a displacement field on the pair at hand.

Gradient descent on a similarity starts from the field that a network predicted, which
is near the optimum already, so few steps are enough. The images are compared by local
correlation (B. Avants et al., "Symmetric diffeomorphic image registration with
cross-correlation", Medical Image Analysis 12(1), 2008). The change of the field is a
cubic B-spline (D. Rueckert et al., "Nonrigid registration using free-form
deformations", IEEE TMI 18(8), 1999), with penalties of roughness and of small Jacobian
determinants.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple, cast

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
    cover_grid,
    crop_box,
    find_body,
    find_lungs,
    sample_displaced,
)
from regnet_jax.registration.inference.slices import compute_by_slices


class RefinementWeights(NamedTuple):
    """Weights of the objective and the step size of the descent.

    Attributes:
        smoothness: weight of the squared derivatives of the field.
        folding: weight of the squared shortfall of the Jacobian determinant.
        learning_rate: of Adam, voxels.
    """

    smoothness: float = 0.2
    folding: float = 10.0
    learning_rate: float = 0.15


DEFAULT = RefinementWeights()
# Half of the width of the cubes of the local correlation, voxels.
_RADIUS = 2
# Distance of the control points of the B-spline, voxels.
_KNOTS = 3.0
# The penalty of folding acts on Jacobian determinants below this.
_LEAST_JACOBIAN = 0.3
# Voxel size of the first resolution, in voxels of the images.
_COARSEST = 2

# Standard deviation that the correlation treats as noise, as a fraction of
# `SOFT_TISSUE_RANGE`.
_NOISE = 0.02
# The fraction of a voxel's cube that may be hidden.
_HIDDEN = 0.01


def _mean_over_cube(image, radius: int):
    """Return the mean over a cube around each voxel, with zeros beyond the border."""
    for axis in range(image.ndim):
        pads = [(radius, radius) if a == axis else (0, 0) for a in range(image.ndim)]
        padded = jnp.pad(image, pads)
        size = image.shape[axis]
        total = sum(
            jax.lax.slice_in_dim(padded, i, i + size, axis=axis)
            for i in range(2 * radius + 1)
        )
        image = cast(jax.Array, total) / (2 * radius + 1)
    return image


def local_correlation_coefficient(first, second, radius: int, *, noise: float = _NOISE):
    """Correlate two images in a cube around each voxel.

    Args:
        first: ``[*spatial]``.
        second: ``[*spatial]``.
        radius: half of the width of the cube, voxels.
        noise: standard deviation of noise, which does not count as structure.

    Returns:
        ``[*spatial]`` in [-1, 1], near zero where an image is flat.
    """
    mean, other_mean = _mean_over_cube(first, radius), _mean_over_cube(second, radius)
    floor = noise**2
    variance = _mean_over_cube(first**2, radius) - mean**2
    other_variance = _mean_over_cube(second**2, radius) - other_mean**2
    covariance = _mean_over_cube(first * second, radius) - mean * other_mean
    scale = (jnp.maximum(variance, 0.0) + floor) * (
        jnp.maximum(other_variance, 0.0) + floor
    )
    return covariance * jax.lax.rsqrt(scale)


def _roughness(field):
    """Return the mean squared derivative along the axes."""
    slopes = (jnp.diff(field, axis=axis) for axis in range(field.ndim - 1))
    return sum(jnp.mean(jnp.sum(slope**2, -1)) for slope in slopes)


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
    total = field + mobility * _spline(coefficients, fixed.shape)
    warped = sample_displaced(moving[..., None], box, total)[..., 0]
    correlation = local_correlation_coefficient(fixed, warped, _RADIUS)
    similarity = jnp.sum(weight * correlation) / jnp.maximum(jnp.sum(weight), 1.0)
    shortfall = jnp.maximum(_LEAST_JACOBIAN - jacobian_determinant(total), 0.0)
    return (
        1.0
        - similarity
        + weights.smoothness * _roughness(total)
        + weights.folding * jnp.mean(shortfall**2)
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
    weight = (_mean_over_cube(fixed, _RADIUS) > _NOISE).astype(jnp.float32)
    weight *= _mean_over_cube(1.0 - shown[..., 0], _RADIUS) < _HIDDEN

    def weight_after(coefficients):
        """Return the weight without the cubes that touch what is ignored."""
        total = field + mobility * _spline(coefficients, shape)
        found = ignored_here + sample_displaced(ignored_there, box, total) > 0.0
        found = found[..., 0].astype(jnp.float32)
        return weight * (_mean_over_cube(found, _RADIUS) == 0.0)

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
        slice_axis: a key of ``geometry.SLICE_AXES``: refine slice by slice, with
            nothing moving across; None for images of the field's dimension.

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
    # Beside the box the field is continued, where something immobile may lie.
    grid = fixed.shape
    body = (
        find_body(fixed) if mobility is None else CropBox((0,) * len(grid), grid, grid)
    )
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
    lungs = find_lungs(images[0], spacing, multiple=_COARSEST)
    counts = (steps - steps // 3, steps // 3)
    field = body.crop(displacement, 0.0)
    limits = {"shown": tuple(shown), "ignored": ignored, "mobility": mobility}
    return body.restore(refine(*images, field, counts, **limits, box=lungs))
