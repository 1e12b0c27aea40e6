"""Linear maps that act on each spatial axis by a matrix of its own.

Smoothing, B-spline prefiltering, B-spline fields and resizing are all of this
kind. A dense matrix product per axis runs at the full speed of any machine and
is differentiable for free, which beats a clever filter for the sizes of medical
images.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def apply_separable(array, matrices: Sequence):
    """Multiplies every leading axis of an array by its matrix.

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
