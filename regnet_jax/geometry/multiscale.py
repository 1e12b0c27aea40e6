"""Images and fields on coarser grids, and the way back.

The first voxels of both grids coincide.
"""

from collections.abc import Sequence

import numpy as np

from regnet_jax.geometry.pyramids import upsample
from regnet_jax.geometry.smoothing import gaussian_smooth


def coarsen(image, factor: int):
    """An image with voxels ``factor`` times as wide, without aliasing.

    Both grids are taken as blurred by a Gaussian as wide at half height as their
    voxel, as ``io.resample`` has it.

    Args:
        image: ``[*spatial, channel]``.
        factor: whole number.

    Returns:
        ``[*ceil(spatial / factor), channel]``; the first voxels coincide.
    """
    if factor == 1:
        return image
    dimensions = image.ndim - 1
    sigma = float(np.sqrt((factor**2 - 1) / (8 * np.log(2))))
    smooth = gaussian_smooth(image, [sigma] * dimensions)
    return smooth[(slice(None, None, factor),) * dimensions]


def refine_field(displacement, factor: int, shape: Sequence[int]):
    """A displacement field on a grid with voxels ``1 / factor`` as wide.

    Args:
        displacement: ``[*coarse, d]``, coarse voxels.
        factor: whole number.
        shape: of the fine grid, whose first voxel is the coarse grid's.

    Returns:
        ``[*shape, d]``, fine voxels.
    """
    return factor * upsample(displacement, factor, shape)
