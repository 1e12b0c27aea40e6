"""Lungs in a chest CT, by threshold."""

import numpy as np
from scipy import ndimage

from regnet_jax.evaluation.body import body_mask

# Between air and soft tissue, HU: half of a voxel at the lung's surface is lung.
_THRESHOLD = -400.0
# A CT has darker voxels than the first and brighter ones than the second, HU.
_NO_AIR, _NO_TISSUE = -700.0, 0.0
# Smaller parts are gas in the bowel or airways, ml.
_SMALLEST_ML = 50.0


def lung_mask(image, spacing) -> np.ndarray:
    """The air in the body: lungs and main airways.

    Args:
        image: ``[z, y, x]``, canonical orientation.
        spacing: (z, y, x), mm.

    Returns:
        Bool, of the image's shape; empty where there is no lung, as in another organ,
        in a single slice, and in images that are not in Hounsfield units.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.min() > _NO_AIR or image.max() < _NO_TISSUE:
        return np.zeros(image.shape, bool)
    # In slices the lungs are holes of the body, also where they or the airways open to
    # the air outside at the ends of the image.
    parts, _ = ndimage.label((image < _THRESHOLD) & body_mask(image))
    millilitres = np.bincount(parts.ravel()) * np.prod(spacing) / 1000.0
    keep = millilitres >= _SMALLEST_ML
    keep[0] = False
    return keep[parts]
