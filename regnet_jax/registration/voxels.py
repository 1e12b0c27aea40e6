"""The voxel size of the grid that registration works on."""

import math

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.io import Frame

# The geometric mean of an image's extents, mm, within which it can be a part of a
# human body; a chest has some 300.
_HUMAN = (60.0, 1500.0)
_CHEST = 300.0
# Voxels of a working grid that are too many for any machine.
_MOST = 2e9


def extent(frame: Frame) -> float:
    """The geometric mean of a grid's extents, mm."""
    sizes = np.multiply(frame.shape[::-1], frame.spacing)
    # An axis of one slice has the thickness of the slice, which says nothing.
    sizes = [size for size, n in zip(sizes, frame.shape[::-1], strict=True) if n > 1]
    return float(np.prod(sizes) ** (1 / len(sizes))) if sizes else frame.spacing[0]


def choose_voxel_size(fixed: Frame, moving: Frame, network: float) -> float:
    """Choose the voxel size of the working grid.

    A network knows structures by their size in voxels. Images that are too small or too
    large for a human body therefore get as many voxels as a chest has, though no finer
    ones than the images have.

    Args:
        fixed: grid of the fixed image.
        moving: grid of the moving image.
        network: the voxel size that the network was trained with, mm.

    Returns:
        Isotropic, mm; that of the network where the images can be human.
    """
    size = max(extent(fixed), extent(moving))
    if _HUMAN[0] <= size <= _HUMAN[1]:
        return network
    wanted = network * size / _CHEST
    if size > _HUMAN[1]:
        return wanted
    finest = min(min(fixed.spacing), min(moving.spacing))
    return min(max(wanted, finest), network)


def check_voxel_size(voxel_size: float | None, frame: Frame) -> float | None:
    """Return a voxel size that was given as a number.

    Args:
        voxel_size: mm, or None.
        frame: of the fixed image.

    Raises:
        InputError: if it is not positive and finite, or the image would have more
            voxels than any machine can hold, or only one.
    """
    if voxel_size is None:
        return None
    try:
        size = float(voxel_size)
    except (TypeError, ValueError):
        size = math.nan
    if not 0.0 < size < math.inf:
        raise InputError(
            f"voxel_size {voxel_size}: must be a number of mm above zero, or be left"
            " out"
        )
    extents = np.multiply(frame.shape, frame.spacing[::-1])
    if np.prod(np.ceil(extents / size)) > _MOST:
        raise InputError(
            f"voxel_size {size:g} mm: gives the fixed image more than"
            f" {_MOST / 1e9:g} billion voxels; choose a larger one"
        )
    if size > max(extents) / 2:
        raise InputError(
            f"voxel_size {size:g} mm: is more than half of the fixed image; choose a"
            " smaller one"
        )
    return size
