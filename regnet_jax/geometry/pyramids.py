"""Change of resolution: smooth and keep every n-th voxel, and interpolate back.

Coarse voxel ``i`` sits on fine voxel ``factor * i``, so the first voxels coincide
and a coarse coordinate times the factor is the fine coordinate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from regnet_jax.geometry.smoothing import apply_separable, gaussian_smooth

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float


def ceil_div(dividend: int, divisor: int) -> int:
    """Return a quotient of whole numbers, rounded up."""
    return -(-dividend // divisor)


def downsample(
    image: Float[Array, "*spatial c"], factor: int
) -> Float[Array, "*coarse c"]:
    """Return an image with voxels ``factor`` times as wide, without aliasing.

    Both grids are taken as blurred by a Gaussian that is as wide at half height as
    their voxel, as in ``spatial.resample``.

    Args:
        image: ``[*spatial, channel]``.
        factor: whole number, the same on each axis.

    Returns:
        ``[*ceil(spatial / factor), channel]``.
    """
    if factor == 1:
        return image
    dimensions = image.ndim - 1
    sigma = math.sqrt((factor**2 - 1) / (8 * math.log(2)))
    smooth = gaussian_smooth(image, [sigma] * dimensions)
    return smooth[(slice(None, None, factor),) * dimensions]


def _linear_matrix(size: int, coarse: int, factor: float):
    """Return the weights of linear interpolation along one axis: ``[size, coarse]``."""
    position = np.clip(np.arange(size) / factor, 0, coarse - 1)
    left = np.minimum(np.floor(position).astype(int), max(coarse - 2, 0))
    right = np.minimum(left + 1, coarse - 1)
    matrix = np.zeros((size, coarse))
    np.add.at(matrix, (np.arange(size), left), 1 - (position - left))
    np.add.at(matrix, (np.arange(size), right), position - left)
    return matrix


def upsample(
    array: Float[Array, "*coarse c"], factor: float, shape: Sequence[int]
) -> Float[Array, "*spatial c"]:
    """Interpolate linearly onto a finer grid; the edge continues beyond the last voxel.

    The values are not scaled: a displacement field in coarse voxels has to be
    multiplied by the factor to be in fine ones.

    Args:
        array: ``[*coarse, channel]``.
        factor: fine voxels in a coarse one.
        shape: spatial shape of the result.

    Returns:
        ``[*shape, channel]``.
    """
    sizes = zip(shape, array.shape[:-1], strict=True)
    return apply_separable(array, [_linear_matrix(n, m, factor) for n, m in sizes])


def upsample_field(
    displacement: Float[Array, "*coarse d"], factor: int, shape: Sequence[int]
) -> Float[Array, "*spatial d"]:
    """Return a displacement field on a grid with voxels ``1 / factor`` as wide.

    Args:
        displacement: ``[*coarse, d]``, coarse voxels.
        factor: whole number.
        shape: of the fine grid, whose first voxel is the coarse grid's.

    Returns:
        ``[*shape, d]``, fine voxels.
    """
    return factor * upsample(displacement, factor, shape)
