"""The anatomy that a scan shows, without its noise and without what lies beside it."""

from typing import cast

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from regnet_jax.hounsfield import AIR, TISSUE_THRESHOLD

# Sigma in voxels, and in HU: above the noise of a chest CT at 2 mm, and below the
# contrast of its smaller vessels.
_NEAR, _ALIKE = 1.0, 60.0
# What is thinner than twice this, mm, does not hold the table to the body.
_JOINT = 4.0


def remove_noise(image: np.ndarray) -> np.ndarray:
    """Smooth an image where it is nearly constant, and keep its vessels and borders.

    A pair that is made of a scan must not share its noise, which no two scans do.

    Source: Tomasi and Manduchi, "Bilateral filtering for gray and color images",
    ICCV 1998.

    Args:
        image: ``[*spatial]`` HU, 2D or 3D.

    Returns:
        ``[*spatial]`` float32.
    """
    source = sitk.GetImageFromArray(np.asarray(image, np.float32))
    return sitk.GetArrayFromImage(sitk.Bilateral(source, _NEAR, _ALIKE))


def trunk_mask(image: np.ndarray, *, spacing: float) -> np.ndarray:
    """Return the trunk with its lungs, without table, clothes, and arms beside it.

    Args:
        image: ``[*spatial]`` HU, in canonical orientation.
        spacing: isotropic voxel size, mm.

    Returns:
        Bool, of the image's shape; empty where there is no tissue of that thickness.
    """
    steps = max(round(_JOINT / spacing), 1)
    # At the border of the image the body goes on.
    core = ndimage.binary_erosion(
        image > TISSUE_THRESHOLD, iterations=steps, border_value=1
    )
    pieces, count = cast(tuple[np.ndarray, int], ndimage.label(core))
    if not count:
        return core
    largest = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    # The voxels at the skin are partly air: one more.
    trunk = ndimage.binary_dilation(largest, iterations=steps + 1)
    plane = np.zeros((3,) * trunk.ndim, bool)
    plane[(1,) * (trunk.ndim - 2)] = ndimage.generate_binary_structure(2, 1)
    return cast(np.ndarray, ndimage.binary_fill_holes(trunk, structure=plane))


def anatomy(image: np.ndarray, *, spacing: float) -> np.ndarray:
    """Return the patient of a scan: no noise, no table, no arms beside the trunk.

    Table and arms do not move with the trunk, so pairs get them separately
    (``synthesis.surroundings``).

    Args:
        image: ``[*spatial]`` HU, in canonical orientation, on an isotropic grid.
        spacing: its voxel size, mm.

    Returns:
        ``[*spatial]`` float32 HU: air wherever there is no trunk.
    """
    image = np.maximum(image, AIR)
    trunk = trunk_mask(image, spacing=spacing)
    image = remove_noise(image)
    return np.where(trunk, image, np.float32(AIR)) if trunk.any() else image
