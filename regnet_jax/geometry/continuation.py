"""Smooth continuation of values to where they are not known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jax import lax

from regnet_jax.geometry.pyramids import upsample
from regnet_jax.geometry.smoothing import apply_separable

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Bool, Float

# Voxels along an axis that become one at the next resolution.
_FACTOR = 4
# Rounds at each resolution in which unknown values become the mean of their neighbours.
_ROUNDS = 6


def _coarsening_matrix(size: int) -> np.ndarray:
    """Return linear weights around every ``factor``-th voxel: ``[coarse, size]``."""
    centres = _FACTOR * np.arange(math.ceil(size / _FACTOR))
    distance = np.abs(centres[:, None] - np.arange(size))
    return np.maximum(1.0 - distance / _FACTOR, 0.0)


def _mean_of_neighbours(values):
    """Return the mean of the two neighbours on each axis; the border continues."""
    total = jnp.zeros_like(values)
    for axis in range(values.ndim - 1):
        first, last = (
            lax.slice_in_dim(values, start, start + 1, axis=axis)
            for start in (0, values.shape[axis] - 1)
        )
        inner = lax.slice_in_dim(values, 1, None, axis=axis)
        total += jnp.concatenate([inner, last], axis)
        inner = lax.slice_in_dim(values, 0, -1, axis=axis)
        total += jnp.concatenate([first, inner], axis)
    return total / (2 * (values.ndim - 1))


def continue_smoothly(
    values: Float[Array, "*spatial c"], known: Bool[Array, "*spatial 1"]
) -> Float[Array, "*spatial c"]:
    """Continue values smoothly to where they are not known.

    The continuation meets the known values at their border and is close to harmonic.
    It is computed coarse to fine, as in the pull-push algorithm (S. Gortler et al.,
    "The lumigraph", SIGGRAPH 1996), with a few rounds of relaxation at each resolution.

    Args:
        values: ``[*spatial, channel]``; those that are not known are ignored, also NaN.
        known: bool, ``[*spatial, 1]``.

    Returns:
        ``[*spatial, channel]``: the known values as they are, and their continuation
        elsewhere; zero if no value is known.
    """
    *shape, channels = values.shape
    # Not a product, which would keep NaN.
    values = jnp.where(known, values, 0.0)
    both = jnp.concatenate([values, known.astype(values.dtype)], axis=-1)
    if max(shape) <= _FACTOR:
        total = jnp.sum(both, tuple(range(len(shape))), keepdims=True)
        mean = total[..., :channels] / jnp.maximum(total[..., channels:], 1.0)
        return jnp.where(known, values, mean)
    both = apply_separable(both, [_coarsening_matrix(n) for n in shape])
    weight = both[..., channels:]
    coarse = both[..., :channels] / jnp.maximum(weight, 1e-6)
    coarse = continue_smoothly(coarse, weight > 1e-6)
    guess = jnp.where(known, values, upsample(coarse, _FACTOR, shape))

    def relax(_, guess):
        return jnp.where(known, values, _mean_of_neighbours(guess))

    return lax.fori_loop(0, _ROUNDS, relax, guess)
