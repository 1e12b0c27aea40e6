"""Values of an image at arbitrary points: nearest, linear, cubic B-spline."""

import itertools

import jax.numpy as jnp

from regnet_jax.geometry.bspline import cubic_weights, prefilter


def _nearest_taps(x, size: int):
    return jnp.floor(x + 0.5), (0,), (jnp.ones_like(x),)


def _linear_taps(x, size: int):
    # The last voxel ends the last interval: its gradient is that interval's.
    base = jnp.clip(jnp.floor(x), 0, max(size - 2, 0))
    fraction = x - base
    return base, (0, 1), (1 - fraction, fraction)


def _cubic_taps(x, size: int):
    base = jnp.floor(x)
    return base, (-1, 0, 1, 2), cubic_weights(x - base)


_TAPS = {0: _nearest_taps, 1: _linear_taps, 3: _cubic_taps}


def _mirror(index, size: int):
    """Reflects about the first and last voxel, then clips what is still outside."""
    index = jnp.abs(index)
    index = (size - 1) - jnp.abs(size - 1 - index)
    return jnp.clip(index, 0, size - 1)


def _axis_taps(x, size: int, order: int):
    """Indices and weights of the voxels that a coordinate draws from."""
    # Beyond the outermost centres the image continues with its edge value.
    base, offsets, weights = _TAPS[order](jnp.clip(x, 0, size - 1), size)
    base = base.astype(jnp.int32)
    return [(_mirror(base + o, size), w) for o, w in zip(offsets, weights, strict=True)]


def _inside(points, shape):
    """True where a point lies in the extent of the voxels, as ITK defines it."""
    inside = jnp.ones(points.shape[:-1], bool)
    for axis, size in enumerate(shape):
        x = points[..., axis]
        inside &= (x >= -0.5) & (x <= size - 0.5)
    return inside


def sample(volume, points, *, order: int = 1, fill: float | None = None):
    """Interpolates an image at arbitrary points.

    Args:
        volume: ``[*spatial, channel]``; whole numbers with order 0 only.
        points: ``[..., d]``, voxels, array-axis order.
        order: 0 nearest, 1 linear, 3 cubic B-spline (prefiltered here, so that
            the image's own values are met at its voxels).
        fill: value outside the extent of the image, half a voxel beyond the
            outermost centres. ``None`` continues the edge.

    Returns:
        ``[..., channel]`` in the volume's type. Differentiable in the volume and,
        but for ``order=0``, in the points.

    Raises:
        ValueError: if the order is not 0, 1 or 3, if whole numbers are to be
            interpolated, or if the points have another dimension than the volume.
    """
    if order not in _TAPS:
        raise ValueError(f"order must be one of {sorted(_TAPS)}, not {order}")
    if order and not jnp.issubdtype(volume.dtype, jnp.floating):
        raise ValueError(f"order {order} takes floating point, not {volume.dtype}")
    *shape, channels = volume.shape
    if points.shape[-1] != len(shape):
        raise ValueError(
            f"points have {points.shape[-1]} coordinates, the volume {len(shape)} axes"
        )
    if order == 3:
        volume = prefilter(volume)
    flat = volume.reshape(-1, channels)
    axes = [_axis_taps(points[..., a], n, order) for a, n in enumerate(shape)]
    result = jnp.zeros((*points.shape[:-1], channels), volume.dtype)
    for taps in itertools.product(*axes):
        index, weight = 0, 1.0
        for (tap_index, tap_weight), size in zip(taps, shape, strict=True):
            index = index * size + tap_index
            weight = weight * tap_weight
        values = jnp.take(flat, index, axis=0, mode="clip")
        result += weight[..., None].astype(volume.dtype) * values
    if fill is None:
        return result
    outside = jnp.asarray(fill, volume.dtype)
    return jnp.where(_inside(points, shape)[..., None], result, outside)
