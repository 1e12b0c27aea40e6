"""Local volume change of a displacement field."""

import jax.numpy as jnp


def jacobian_matrix(displacement):
    """Derivatives of the map ``x -> x + displacement(x)``.

    Central differences inside, one-sided at the border, as ``numpy.gradient``.

    Args:
        displacement: ``[*spatial, d]``, voxels, at least two voxels on each axis.

    Returns:
        ``[*spatial, d, d]``; entry ``[i, j]`` is the derivative of component i
        along axis j.
    """
    dimensions = displacement.shape[-1]
    columns = jnp.gradient(displacement, axis=tuple(range(dimensions)))
    identity = jnp.eye(dimensions, dtype=displacement.dtype)
    matrix = jnp.stack(columns, axis=-1)
    return matrix + jnp.broadcast_to(identity, matrix.shape)


def jacobian_determinant(displacement):
    """Ratio of the volumes after and before the map; at or below 0 it folds.

    Args:
        displacement: ``[*spatial, d]``, voxels, at least two voxels on each axis.

    Returns:
        ``[*spatial]``.
    """
    return determinant(jacobian_matrix(displacement))


def determinant(m):
    """Determinants of many small matrices.

    Args:
        m: ``[..., d, d]``, d being 2 or 3.

    Returns:
        ``[...]``.
    """
    if m.shape[-1] == 2:
        return m[..., 0, 0] * m[..., 1, 1] - m[..., 0, 1] * m[..., 1, 0]
    # Written out: a batched LU of millions of 3 x 3 matrices is far slower.
    return jnp.sum(m[..., 0, :] * jnp.cross(m[..., 1, :], m[..., 2, :]), axis=-1)
