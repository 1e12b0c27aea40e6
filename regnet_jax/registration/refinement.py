"""Refinement of a displacement field on the pair at hand.

The field that a network predicts is where gradient descent on a similarity starts: it
is near the answer already, so few steps are enough. The images are compared by local
correlation (B. Avants et al., "Symmetric diffeomorphic image registration with
cross-correlation", Medical Image Analysis 12(1), 2008), and the change is a cubic
B-spline (D. Rueckert et al., "Nonrigid registration using free-form deformations", IEEE
TMI 18(8), 1999) that pays for bending the map and for coming near to folding it.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from regnet_jax.geometry import (
    bspline_field,
    downsample,
    jacobian_determinant,
    upsample_field,
    warp,
)
from regnet_jax.geometry.bspline import control_points
from regnet_jax.hounsfield import AIR, SOFT_TISSUE_RANGE
from regnet_jax.registration.inference.boxes import (
    Window,
    body_region,
    cut,
    look,
    lung_window,
    paste,
    whole,
)


class Refinement(NamedTuple):
    """What is traded for what.

    Attributes:
        radius: of the windows of the local correlation, voxels.
        knots: distance of the B-spline's control points, voxels.
        smoothness: weight of the squared derivatives of the field.
        barrier: weight of the squared shortfall of the Jacobian determinant.
        least_jacobian: from which on the determinant falls short.
        rate: of Adam, voxels.
    """

    radius: int = 2
    knots: float = 3.0
    smoothness: float = 0.2
    barrier: float = 10.0
    least_jacobian: float = 0.3
    rate: float = 0.15


DEFAULT = Refinement()
# Voxel size of the first resolution, in voxels of the images.
_COARSEST = 2

# The noise that correlation is not to take for structure, as a fraction of
# `SOFT_TISSUE_RANGE`.
_NOISE = 0.02
# Of what the local correlation sees of a place, the fraction that may be hidden.
_HIDDEN = 0.01


def _box(image, radius: int):
    """Mean over a cube around each voxel; beyond the border there is nothing."""
    for axis in range(image.ndim):
        pads = [(radius, radius) if a == axis else (0, 0) for a in range(image.ndim)]
        padded = jnp.pad(image, pads)
        size = image.shape[axis]
        image = sum(
            jax.lax.slice_in_dim(padded, i, i + size, axis=axis)
            for i in range(2 * radius + 1)
        ) / (2 * radius + 1)
    return image


def local_correlation_coefficient(first, second, radius: int, *, noise: float = _NOISE):
    """Correlation of two images in a cube around each voxel.

    Args:
        first: ``[*spatial]``.
        second: ``[*spatial]``.
        radius: of the cube, voxels.
        noise: standard deviation of what is no structure.

    Returns:
        ``[*spatial]`` in [-1, 1], near zero where an image is flat.
    """
    mean, other_mean = _box(first, radius), _box(second, radius)
    floor = noise**2
    variance = _box(first**2, radius) - mean**2
    other_variance = _box(second**2, radius) - other_mean**2
    covariance = _box(first * second, radius) - mean * other_mean
    scale = (jnp.maximum(variance, 0.0) + floor) * (
        jnp.maximum(other_variance, 0.0) + floor
    )
    return covariance * jax.lax.rsqrt(scale)


def _roughness(field):
    """Mean squared derivative along the axes."""
    slopes = (jnp.diff(field, axis=axis) for axis in range(field.ndim - 1))
    return sum(jnp.mean(jnp.sum(slope**2, -1)) for slope in slopes)


def _change(coefficients, shape: Sequence[int], knots: float):
    return bspline_field(coefficients, shape, [knots] * len(shape))


def objective(
    coefficients, fixed, moving, field, weight, window: Window, options: Refinement
):
    """What the refinement makes small.

    Args:
        coefficients: ``[*control points, d]`` of the change, voxels.
        fixed: ``[*window]``, in [0, 1].
        moving: ``[*spatial]``, the whole image that the window is in.
        field: ``[*window, d]``, voxels, where the refinement started.
        weight: ``[*window]``, of the correlation at each voxel.
        window: where the fixed voxels lie in the moving image's grid.
        options: the trade.

    Returns:
        A number.
    """
    total = field + _change(coefficients, fixed.shape, options.knots)
    warped = look(moving[..., None], window, total)[..., 0]
    likeness = local_correlation_coefficient(fixed, warped, options.radius)
    similarity = jnp.sum(weight * likeness) / jnp.maximum(jnp.sum(weight), 1.0)
    shortfall = jnp.maximum(options.least_jacobian - jacobian_determinant(total), 0.0)
    return (
        1.0
        - similarity
        + options.smoothness * _roughness(total)
        + options.barrier * jnp.mean(shortfall**2)
    )


def _descend(fixed, moving, field, shown, window, iterations, options: Refinement):
    """Some steps of Adam at one resolution; returns the change of the field."""
    fixed, field = cut(fixed[..., None], window)[..., 0], cut(field, window)
    shape = fixed.shape
    counts = [control_points(n, options.knots) for n in shape]
    start = jnp.zeros((*counts, len(shape)))
    rate = optax.cosine_decay_schedule(options.rate, 1.0)
    # The count is traced: one program for any number of steps.
    optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=0.0)
    weight = (_box(fixed, options.radius) > _NOISE).astype(jnp.float32)
    # Only where all that the local correlation sees is shown by both images.
    weight *= _box(cut(1.0 - shown, window)[..., 0], options.radius) < _HIDDEN
    gradient = jax.grad(objective)

    def step(i, state):
        coefficients, memory = state
        part = i / jnp.maximum(iterations, 1)
        memory.hyperparams["learning_rate"] = rate(part)
        slope = gradient(coefficients, fixed, moving, field, weight, window, options)
        change, memory = optimizer.update(slope, memory)
        return optax.apply_updates(coefficients, change), memory

    state = (start, optimizer.init(start))
    coefficients, _ = jax.lax.fori_loop(0, iterations, step, state)
    return _change(coefficients, shape, options.knots)


@functools.partial(jax.jit, static_argnames=("factors", "options"))
def refine(
    fixed,
    moving,
    displacement,
    iterations: Sequence[int],
    *,
    shown=(None, None),
    window: Window | None = None,
    factors: Sequence[int] = (_COARSEST, 1),
    options: Refinement = DEFAULT,
):
    """Improves a displacement field on its pair of images.

    Args:
        fixed: ``[*spatial]``, HU.
        moving: ``[*spatial]``, on the same grid.
        displacement: ``[*spatial, d]``, voxels, fixed to moving.
        iterations: steps at each resolution; may be traced.
        shown: ``[*spatial]`` of both images, where they show something; what they do
            not show is not compared. None is everywhere.
        window: where the field may change; None for everywhere.
        factors: voxel sizes of the resolutions, in voxels of the images.
        options: the trade between likeness and smoothness.

    Returns:
        ``[*spatial, d]``, voxels.
    """
    dark, bright = SOFT_TISSUE_RANGE
    images = [
        jnp.clip((image[..., None] - dark) / (bright - dark), 0.0, 1.0)
        for image in (fixed, moving)
    ]
    window = window or whole(fixed.shape)
    here, there = (
        jnp.ones((*fixed.shape, 1)) if s is None else jnp.asarray(s)[..., None] * 1.0
        for s in shown
    )
    for factor, count in zip(factors, iterations, strict=True):
        one, other = (downsample(image, factor)[..., 0] for image in images)
        every = (slice(None, None, factor),) * one.ndim
        field = displacement[every] / factor
        both = downsample(here, factor) * warp(downsample(there, factor), field)
        where = window.coarser(factor)
        change = _descend(one, other, field, both, where, count, options)
        change = upsample_field(change, factor, window.shape)
        displacement = paste(displacement, cut(displacement, window) + change, window)
    return displacement


def refine_on_body(
    fixed, moving, displacement, steps: int, *, spacing: float, shown=(None, None)
):
    """Improves a field where the lungs are, or else the body; ``refine`` on the host.

    Args:
        fixed: ``[*spatial]``, HU.
        moving: ``[*spatial]``, on the same grid.
        displacement: ``[*spatial, d]``, voxels.
        steps: in all; two thirds at half the resolution.
        spacing: isotropic voxel size, mm.
        shown: as for ``refine``.

    Returns:
        ``[*spatial, d]`` float32, voxels.
    """
    region = body_region(fixed)
    # Arrays in any case, so that one program serves all pairs of a shape.
    everywhere = np.ones(fixed.shape, np.float32)
    shown = tuple(
        region.cut(everywhere if where is None else where, 0.0) for where in shown
    )
    images = [region.cut(image, AIR) for image in (fixed, moving)]
    window = lung_window(images[0], spacing, multiple=_COARSEST)
    counts = (steps - steps // 3, steps // 3)
    field = region.cut(displacement, 0.0)
    return region.restore(refine(*images, field, counts, shown=shown, window=window))
