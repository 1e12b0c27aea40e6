"""Interpolation of an image at arbitrary points: nearest, linear, cubic B-spline.

Reading from memory dominates the cost. Therefore all voxels of one line that a point
depends on are read at once, and derivatives are written out: by the chain rule, each
read would become a scatter of its own.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from regnet_jax.geometry.bspline import cubic_weights, prefilter

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float, Num


def along_axis(values, axis: int, dimensions: int):
    """Return values along one axis of a grid, in a shape that broadcasts with it.

    Args:
        values: ``[n]``.
        axis: of the grid.
        dimensions: of the grid.

    Returns:
        ``[1, ..., n, ..., 1]`` with as many axes as dimensions.
    """
    return values.reshape([-1 if a == axis else 1 for a in range(dimensions)])


def identity_grid(
    shape: Sequence[int], dtype=jnp.float32
) -> Float[Array, "*spatial d"]:
    """Return the index coordinates of every voxel.

    Args:
        shape: spatial shape, (z, y, x) or (y, x).
        dtype: floating-point type of the result.

    Returns:
        ``[*shape, len(shape)]``, in voxels and array-axis order.
    """
    axes = [jnp.arange(n, dtype=dtype) for n in shape]
    return jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1)


# Voxels on an axis that a point depends on, by order.
_TAPS = {0: 1, 1: 2, 3: 4}


def _weights(x, size: int, order: int):
    """Return the first voxel that a coordinate depends on, and the weights of all."""
    # Beyond the outermost centres the image continues with its edge value.
    x = jnp.clip(x, 0, size - 1)
    if order == 0:
        return jnp.floor(x + 0.5), (jnp.ones_like(x),)
    if order == 1:
        # The last voxel ends the last interval: its gradient is that interval's.
        first = jnp.clip(jnp.floor(x), 0, max(size - 2, 0))
        return first, (1 - (x - first), x - first)
    # The image is padded by one voxel in front: the first tap is one to the left.
    return jnp.floor(x), cubic_weights(x - jnp.floor(x))


def _slopes(x, size: int, order: int):
    """Return the derivatives of the weights."""
    return jax.jvp(lambda x: _weights(x, size, order)[1], (x,), (jnp.ones_like(x),))[1]


def _pad(volume, order: int):
    """Pad an image by the voxels that points at its border depend on."""
    if order == 3:
        # Mirrored as in the prefilter. A single voxel has nothing to mirror.
        for axis, size in enumerate(volume.shape[:-1]):
            reach = [(1, 2) if a == axis else (0, 0) for a in range(volume.ndim)]
            volume = jnp.pad(volume, reach, "reflect" if size > 1 else "edge")
        return volume
    reach = [(0, max(_TAPS[order] - n, 0)) for n in volume.shape[:-1]]
    return (
        jnp.pad(volume, [*reach, (0, 0)], "edge")
        if any(b for _, b in reach)
        else volume
    )


def _read(volume, starts, taps):
    """Return blocks ``[points, *taps, channel]`` that begin at integer ``[points, d]``.

    XLA keeps blocks inside the image, whatever the positions are.
    """
    numbers = lax.GatherDimensionNumbers(
        offset_dims=tuple(range(1, volume.ndim + 1)),
        collapsed_slice_dims=(),
        start_index_map=tuple(range(volume.ndim - 1)),
    )
    block = (*taps, volume.shape[-1])
    return lax.gather(volume, starts, numbers, block, mode="promise_in_bounds")


def _sum_by_lines(volume, firsts, weights):
    """Return the weighted sums for all points, ``[points, channel]``, line by line."""
    *shape, channels = volume.shape
    flat = volume.reshape(-1, channels)
    *others, last = weights
    total = 0
    for taps in itertools.product(*(range(len(w)) for w in others)):
        start = 0
        for first, tap, size in zip(firsts, (*taps, 0), shape, strict=True):
            start = start * size + first + tap
        line = _read(flat, cast("Array", start)[:, None], (len(last),))
        value = sum(w[:, None] * line[:, i] for i, w in enumerate(last))
        weight = math.prod(w[tap] for w, tap in zip(others, taps, strict=True))
        total += cast("Array", weight)[:, None] * value if others else value
    return total


def _sum_by_blocks(volume, firsts, weights):
    """Return the same at once: slower, but its transpose is a single scatter."""
    block = _read(volume, jnp.stack(firsts, axis=-1), [len(w) for w in weights])
    for w in weights:
        w = jnp.stack(w, axis=-1)
        w = w.reshape(w.shape + (1,) * (block.ndim - 2))
        block = jnp.sum(block * w, axis=1)
    return block


def _taps(coordinates, shape, order: int, dtype):
    """Return first voxels and weights on each axis."""
    pairs = zip(coordinates, shape, strict=True)
    axes = [_weights(x, size, order) for x, size in pairs]
    firsts = [first.astype(jnp.int32) for first, _ in axes]
    return firsts, [[w.astype(dtype) for w in weights] for _, weights in axes]


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _interpolate(volume, coordinates, shape, order: int):
    """Return ``[points, channel]`` of a padded image, for ``[points]`` on each axis."""
    return _sum_by_lines(volume, *_taps(coordinates, shape, order, volume.dtype))


@functools.partial(_interpolate.defjvp, symbolic_zeros=True)
def _derivative(shape, order, primals, tangents):
    volume, coordinates = primals
    volume_tangent, coordinate_tangents = tangents
    firsts, weights = _taps(coordinates, shape, order, volume.dtype)
    value = _sum_by_lines(volume, firsts, weights)
    tangent = jnp.zeros_like(value)
    if not isinstance(volume_tangent, SymbolicZero):
        tangent += _sum_by_blocks(volume_tangent, firsts, weights)
    for axis, along in enumerate(coordinate_tangents):
        if isinstance(along, SymbolicZero):
            continue
        slopes = _slopes(coordinates[axis], shape[axis], order)
        slopes = [s.astype(volume.dtype) for s in slopes]
        changed = [*weights[:axis], slopes, *weights[axis + 1 :]]
        slope = _sum_by_lines(volume, firsts, changed)
        tangent += along[:, None].astype(volume.dtype) * slope
    return value, tangent


def _inside(coordinates, shape):
    """Tell whether points lie in the extent of the voxels, as ITK defines it."""
    inside = True
    for x, size in zip(coordinates, shape, strict=True):
        inside &= (x >= -0.5) & (x <= size - 0.5)
    return cast("Array", inside)


def sample(
    volume: Num[Array, "*volume c"],
    points: Float[Array, "*batch d"],
    *,
    order: int = 1,
    fill: float | None = None,
) -> Num[Array, "*batch c"]:
    """Interpolate an image at arbitrary points.

    Args:
        volume: ``[*spatial, channel]``; integers with order 0 only.
        points: ``[..., d]``, voxels, array-axis order.
        order: 0 nearest, 1 linear, 3 cubic B-spline (prefiltered here, so that
            the image's own values are met at its voxels).
        fill: value outside the extent of the image, half a voxel beyond the
            outermost centres. ``None`` continues the edge.

    Returns:
        ``[..., channel]`` in the volume's type. Differentiable in the volume and,
        but for ``order=0``, in the points.

    Raises:
        ValueError: if the order is not 0, 1 or 3, if integers are to be interpolated
            with another order than 0, or if the points have another dimension than
            the volume.
    """
    if points.shape[-1] != volume.ndim - 1:
        raise ValueError(
            f"points have {points.shape[-1]} coordinates, the volume"
            f" {volume.ndim - 1} axes"
        )
    axes = range(points.shape[-1])
    coordinates = [points[..., axis] for axis in axes]
    return sample_at(volume, coordinates, order=order, fill=fill)


def sample_at(
    volume: Num[Array, "*volume c"],
    coordinates: Sequence[Float[Array, "*batch"]],
    *,
    order: int = 1,
    fill: float | None = None,
) -> Num[Array, "*batch c"]:
    """Interpolate as ``sample``, with an array of coordinates for each axis.

    Args:
        volume: see ``sample``.
        coordinates: ``[...]`` for each spatial axis, voxels.
        order: see ``sample``.
        fill: see ``sample``.

    Returns:
        ``[..., channel]``.

    Raises:
        ValueError: see ``sample``.
    """
    if order not in _TAPS:
        raise ValueError(f"order must be one of {sorted(_TAPS)}, not {order}")
    if order and not jnp.issubdtype(volume.dtype, jnp.floating):
        raise ValueError(f"order {order} takes floating point, not {volume.dtype}")
    *shape, channels = volume.shape
    if order == 3:
        volume = prefilter(volume)
    flat = [x.reshape(-1) for x in coordinates]
    # Nearest neighbours have no slope, and integers no derivative at all.
    function = _interpolate if order else _interpolate.fun
    result = function(_pad(volume, order), flat, tuple(shape), order)
    result = result.reshape(*coordinates[0].shape, channels)
    if fill is None:
        return result
    outside = jnp.asarray(fill, volume.dtype)
    return jnp.where(_inside(coordinates, shape)[..., None], result, outside)
