"""Regular grids."""

from collections.abc import Sequence

import jax.numpy as jnp


def identity_grid(shape: Sequence[int], dtype=jnp.float32):
    """Index coordinates of every voxel.

    Args:
        shape: spatial shape, (z, y, x) or (y, x).
        dtype: floating-point type of the result.

    Returns:
        ``[*shape, len(shape)]``, in voxels and array-axis order.
    """
    axes = [jnp.arange(n, dtype=dtype) for n in shape]
    return jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1)
