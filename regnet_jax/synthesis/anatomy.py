"""Where body and lungs are in a CT, by thresholds and under ``jit``.

Good enough to steer an artificial deformation. To measure, ``evaluation.lungs`` is
exact, and needs the host.
"""

import jax.numpy as jnp
from jax import lax

# Between air and soft tissue, HU.
_THRESHOLD = -400.0


def body_mask(volume):
    """Voxels with tissue on all sides of them in the plane of the last two axes.

    Args:
        volume: ``[*spatial, 1]``, HU.

    Returns:
        ``[*spatial]`` bool; the air in lungs and bowel belongs to the body.
    """
    tissue = (volume[..., 0] > _THRESHOLD).astype(jnp.float32)
    inside = jnp.ones_like(tissue)
    for axis in (tissue.ndim - 2, tissue.ndim - 1):
        for reverse in (False, True):
            inside *= lax.cummax(tissue, axis=axis, reverse=reverse)
    return inside > 0


def lung_mask(volume):
    """The air in the body.

    Args:
        volume: ``[*spatial, 1]``, HU.

    Returns:
        ``[*spatial]`` bool.
    """
    return body_mask(volume) & (volume[..., 0] < _THRESHOLD)


def extent(mask, axis: int, *, tail: float = 0.02):
    """Between which positions along an axis a mask lies, but for its tails.

    Args:
        mask: ``[*spatial]`` bool.
        axis: along which to look.
        tail: part of the mask that may lie before the first, and after the last.

    Returns:
        First and last position, voxels; the ends of the axis for an empty mask.
    """
    others = tuple(a for a in range(mask.ndim) if a != axis)
    counts = jnp.sum(mask, axis=others, dtype=jnp.float32)
    part = jnp.cumsum(counts) / jnp.maximum(jnp.sum(counts), 1.0)
    first = jnp.sum(part < tail)
    last = mask.shape[axis] - 1 - jnp.sum(part > 1.0 - tail)
    full = jnp.any(mask)
    return (
        jnp.where(full, first, 0).astype(jnp.float32),
        jnp.where(full, jnp.maximum(last, first), mask.shape[axis] - 1).astype(
            jnp.float32
        ),
    )
