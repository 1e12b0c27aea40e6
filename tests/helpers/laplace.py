"""Laplace's equation by a direct solver."""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve


def laplace(values, known):
    """The harmonic continuation of one channel, without flow through the border."""
    shape, index = values.shape, np.arange(values.size).reshape(values.shape)
    laplacian = sparse.lil_array((values.size, values.size))
    for axis, n in enumerate(shape):
        first, second = (
            np.take(index, places, axis=axis).ravel()
            for places in (range(n - 1), range(1, n))
        )
        for one, other in ((first, second), (second, first)):
            for i, j in zip(one, other, strict=True):
                laplacian[i, i] -= 1
                laplacian[i, j] += 1
    laplacian, free = laplacian.tocsr(), np.flatnonzero(~known)
    fixed = np.flatnonzero(known)
    right = -laplacian[free][:, fixed] @ values.ravel()[fixed]
    result = values.copy().ravel()
    result[free] = spsolve(laplacian[free][:, free].tocsc(), right)
    return result.reshape(shape)
