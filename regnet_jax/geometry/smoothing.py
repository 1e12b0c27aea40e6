"""Separable linear operations, and Gaussian smoothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float


def apply_separable(
    array: Float[Array, "*axes"], matrices: Sequence
) -> Float[Array, "*new_axes"]:
    """Multiply every leading axis of an array by its matrix.

    Args:
        array: ``[n_0, ..., n_{d-1}, ...]``, floating point; axes beyond the
            matrices are kept.
        matrices: one ``[m_a, n_a]`` for each of the first ``d`` axes.

    Returns:
        ``[m_0, ..., m_{d-1}, ...]``.

    Raises:
        ValueError: if the array has whole numbers, which would round the matrices.
    """
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"takes an array of floating point, not {array.dtype}")
    for matrix in matrices:
        # Always the first axis, which goes to the end: no transpose in between.
        array = jnp.tensordot(
            array,
            jnp.asarray(matrix, array.dtype),
            axes=((0,), (1,)),
            precision=jax.lax.Precision.HIGHEST,
        )
    kept = array.ndim - len(matrices)
    return jnp.moveaxis(array, range(kept), range(-kept, 0))


def gaussian_matrix(size: int, sigma, dtype=jnp.float32) -> Float[Array, "n n"]:
    """Return the matrix, with rows that sum to one, that smooths along one axis.

    Args:
        size: number of voxels.
        sigma: standard deviation in voxels, may be traced; 0 gives the identity.
        dtype: type of the result.

    Returns:
        ``[size, size]``.
    """
    index = jnp.arange(size, dtype=dtype)
    distance = index[:, None] - index[None, :]
    # The floor keeps sigma 0 finite: every weight but the centre's is then 0.
    scale = jnp.maximum(jnp.asarray(sigma, dtype), 1e-3)
    weights = jnp.exp(-0.5 * (distance / scale) ** 2)
    return weights / jnp.sum(weights, axis=1, keepdims=True)


def gaussian_smooth(
    volume: Float[Array, "*spatial c"], sigma: Sequence[float | Array] | Array
) -> Float[Array, "*spatial c"]:
    """Smooth an image with a Gaussian.

    Weights are renormalised at the border: voxels outside do not count, and a
    constant stays constant.

    Args:
        volume: ``[*spatial, channel]``.
        sigma: standard deviation in voxels for each spatial axis; values may be
            traced, so that a random blur needs no recompilation.

    Returns:
        An array of the same shape.
    """
    sizes = volume.shape[:-1]
    matrices = [
        gaussian_matrix(n, s, volume.dtype) for n, s in zip(sizes, sigma, strict=True)
    ]
    return apply_separable(volume, matrices)
