"""Displacement fields of B-splines: one frequency, several, blocks, flows.

Source: Sokooti et al., "3D convolutional neural networks image registration based on
efficient supervised learning from artificial deformations", arXiv 1908.10235, 2019.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax

from regnet_jax.geometry import exponentiate, gaussian_smooth
from regnet_jax.geometry.bspline import cubic_bspline
from regnet_jax.geometry.smoothing import apply_separable
from regnet_jax.synthesis.fields.deformation import Deformation, everywhere, rescale

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Bool, Float

# The smallest distance of control points that arrays have room for, mm.
FINEST = 20.0
# Distances of control points that a volume holds at least: on a coarser grid no
# control point would be free to move while the border is held.
_INTERVALS = 5
# Control points before the first voxel and after the last that reach inside.
_OUTSIDE = 2
_GRID_SIGMA = 0.8
# Fields of different frequency in a multiscale one.
_OCTAVES = 3


class SplineFamily(NamedTuple):
    """The parameters of a family; lengths in millimetres.

    Attributes:
        amplitude: largest component of any displacement.
        least: the largest component of a field is sampled from ``least * amplitude``
            up, so that small displacements are learned too.
        finest: smallest distance of control points; at least ``FINEST``.
        coarsest: largest distance of control points.
        held_border: 1 for fields that are zero at the border, 0 for free ones.
    """

    amplitude: float
    least: float = 0.2
    finest: float = FINEST
    coarsest: float = 80.0
    held_border: float = 1.0


def spline_field(
    key, shape: Sequence[int], distance, held_border, *, spacing: float
) -> Float[Array, "*spatial d"]:
    """Sample a smooth field of one frequency that has no scale yet.

    Its coefficients are uniform, and smoothed on their grid with a sigma of 0.8, as in
    2019.

    Args:
        key: random key.
        shape: spatial shape, 2D or 3D.
        distance: of control points, mm; may be traced. Clipped to ``FINEST`` and to
            a fifth of the shortest axis, whichever is smaller, from below, and to
            that fifth from above: in small volumes most fields have that distance.
        held_border: 1 for a field that is zero at the border, 0 for a free one; may
            be traced.
        spacing: isotropic voxel size, mm.

    Returns:
        ``[*shape, d]``, of the order of one.
    """
    value_key, phase_key = jax.random.split(key)
    dimensions = len(shape)
    coarsest = (min(shape) - 1) / _INTERVALS
    finest = min(FINEST / spacing, coarsest)
    distance = jnp.clip(distance / spacing, finest, coarsest)
    counts = [math.ceil((n - 1) / finest) + 2 * _OUTSIDE for n in shape]
    phases = jax.random.uniform(phase_key, (dimensions,))
    values = jax.random.uniform(
        value_key, (*counts, dimensions), minval=-1.0, maxval=1.0
    )
    values = gaussian_smooth(values, [_GRID_SIGMA] * dimensions)
    matrices = []
    for size, count, phase in zip(shape, counts, phases, strict=True):
        control = (jnp.arange(count) - _OUTSIDE + phase) * distance
        matrix = cubic_bspline(
            (jnp.arange(size)[:, None] - control[None, :]) / distance
        )
        # A control point reaches two distances far: those nearer move the border.
        inside = jnp.minimum(control, size - 1 - control) >= 2 * distance
        weights = jnp.where(inside, 1.0, 1.0 - held_border)
        matrices.append(matrix * weights[None, :])
    return apply_separable(values, matrices)


def sample_spline_field(
    key, shape: Sequence[int], family, held_border, *, spacing: float
) -> Float[Array, "*spatial d"]:
    """Sample a smooth field of a random frequency that has no scale yet.

    Args:
        key: random key.
        shape: spatial shape, 2D or 3D.
        family: with ``finest`` and ``coarsest``, between which the distance of the
            control points is sampled uniformly, mm.
        held_border: see ``spline_field``.
        spacing: isotropic voxel size, mm.

    Returns:
        ``[*shape, d]``, of the order of one.
    """
    distance_key, field_key = jax.random.split(key)
    distance = jax.random.uniform(
        distance_key, minval=family.finest, maxval=family.coarsest
    )
    return spline_field(field_key, shape, distance, held_border, spacing=spacing)


def single_frequency(
    key, shape: Sequence[int], family: SplineFamily, *, spacing: float
) -> Deformation:
    """Sample a field of the single-frequency family of 2019.

    Its largest component is sampled uniformly, and the field scaled to it as a whole.

    Args:
        key: random key.
        shape: spatial shape, 2D or 3D.
        family: its entries may be traced.
        spacing: isotropic voxel size, mm.

    Returns:
        A ``Deformation``.
    """
    size_key, field_key = jax.random.split(key)
    field = sample_spline_field(
        field_key, shape, family, family.held_border, spacing=spacing
    )
    largest = family.amplitude * sample_fraction(size_key, family.least)
    return everywhere(rescale(field, largest / spacing))


def multiscale(
    key, shape: Sequence[int], family: SplineFamily, *, spacing: float
) -> Deformation:
    """Sample the sum of fields of several frequencies, as bodies move.

    Control points of the finest field lie ``family.finest`` to half of
    ``family.coarsest`` apart, those of the others twice and four times as far where the
    volume has room. The weight of each field is uniform, and at most one, two and four.

    Args:
        key: random key.
        shape: spatial shape, 2D or 3D.
        family: its entries may be traced.
        spacing: isotropic voxel size, mm.

    Returns:
        A ``Deformation``.
    """
    size_key, *keys = jax.random.split(key, 1 + 3 * _OCTAVES)
    total = 0.0
    for octave in range(_OCTAVES):
        distance_key, weight_key, field_key = keys[3 * octave : 3 * octave + 3]
        factor = 2.0**octave
        distance = factor * jax.random.uniform(
            distance_key, minval=family.finest, maxval=0.5 * family.coarsest
        )
        weight = factor * jax.random.uniform(weight_key)
        field = spline_field(
            field_key, shape, distance, family.held_border, spacing=spacing
        )
        total = total + weight * field
    largest = family.amplitude * sample_fraction(size_key, family.least)
    return everywhere(rescale(cast("Array", total), largest / spacing))


def sample_fraction(key, least) -> Float[Array, ""]:
    """Sample the fraction of its amplitude that a field has, from ``least`` to 1.

    Args:
        key: random key.
        least: in [0, 1], may be traced.

    Returns:
        A number.
    """
    return jax.random.uniform(key, minval=least, maxval=1.0)


# Slope of an edge, HU per mm, in an image smoothed by a sigma in mm.
_SLOPE = 30.0
_EDGE_SIGMA = 2.0
# Edge voxels that are kept, on average, and the width of the block that each becomes,
# mm.
_KEPT = 40.0
_BLOCK = 25.0


class MixedFamily(NamedTuple):
    """The parameters of a family; lengths in millimetres.

    Attributes:
        amplitude: largest component of any displacement.
        least: the largest component is sampled from this fraction of the amplitude up.
        finest: smallest distance of control points of the field in the blocks.
        coarsest: largest distance of them.
        sharpest: smallest sigma of the smoothing.
        smoothest: largest sigma of the smoothing.
    """

    amplitude: float
    least: float = 0.2
    finest: float = FINEST
    coarsest: float = 80.0
    sharpest: float = 5.0
    smoothest: float = 15.0


def edges(
    volume: Float[Array, "*spatial 1"], *, spacing: float
) -> Bool[Array, "*spatial"]:
    """Tell where an image is steep.

    Args:
        volume: ``[*spatial, 1]``, HU.
        spacing: isotropic voxel size, mm.

    Returns:
        ``[*spatial]`` bool.
    """
    dimensions = volume.ndim - 1
    smooth = gaussian_smooth(volume, [_EDGE_SIGMA / spacing] * dimensions)[..., 0]
    slopes = jnp.gradient(smooth, spacing)
    return cast("Array", sum(s**2 for s in slopes)) > _SLOPE**2


def dilate(mask: Bool[Array, "*spatial"], width: int) -> Bool[Array, "*spatial"]:
    """Turn each true voxel into a block.

    Args:
        mask: ``[*spatial]`` bool.
        width: of the block in voxels, odd.

    Returns:
        ``[*spatial]`` bool.
    """
    values = mask.astype(jnp.float32)
    for axis in range(mask.ndim):
        block = [width if a == axis else 1 for a in range(mask.ndim)]
        values = lax.reduce_window(
            values, 0.0, lax.max, block, (1,) * mask.ndim, "SAME"
        )
    return values > 0


def mixed_frequency(
    key, volume: Float[Array, "*spatial 1"], family: MixedFamily, *, spacing: float
) -> Deformation:
    """Sample a field that moves in blocks along edges and rests elsewhere.

    Args:
        key: random key.
        volume: ``[*spatial, 1]``, HU.
        family: its entries may be traced.
        spacing: isotropic voxel size, mm.

    Returns:
        A ``Deformation``; zero where the image has no edge.
    """
    keys = jax.random.split(key, 4)
    shape = volume.shape[:-1]
    steep = edges(volume, spacing=spacing)
    probability = _KEPT / jnp.maximum(jnp.sum(steep), _KEPT)
    kept = steep & jax.random.bernoulli(keys[0], probability, shape)
    blocks = dilate(kept, 2 * round(_BLOCK / spacing / 2) + 1)
    field = sample_spline_field(keys[1], shape, family, 0.0, spacing=spacing)
    sigma = jax.random.uniform(keys[2], minval=family.sharpest, maxval=family.smoothest)
    field = jnp.where(blocks[..., None], field, 0.0)
    field = gaussian_smooth(field, [sigma / spacing] * len(shape))
    largest = family.amplitude * sample_fraction(keys[3], family.least)
    return everywhere(rescale(field, largest / spacing))


def diffeomorphic(
    key, shape: Sequence[int], family: SplineFamily, *, spacing: float
) -> Deformation:
    """Sample a field that does not fold, by flowing along a random velocity.

    Source of the idea: Arsigny et al., "A log-Euclidean framework for statistics on
    diffeomorphisms", MICCAI 2006. The velocity is a single-frequency field. Its
    largest component bounds that of the displacement, as a path of unit duration is
    no longer than its speed.

    Args:
        key: random key.
        shape: spatial shape, 2D or 3D.
        family: its entries may be traced.
        spacing: isotropic voxel size, mm.

    Returns:
        A ``Deformation``.
    """
    velocity = single_frequency(key, shape, family, spacing=spacing).displacement
    return everywhere(exponentiate(velocity))
