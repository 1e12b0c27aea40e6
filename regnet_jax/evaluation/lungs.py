"""Lungs in a chest CT, by threshold."""

import numpy as np
from scipy import ndimage

from regnet_jax.evaluation.body import body_mask

# Between air and soft tissue, HU: half of a voxel at the lung's surface is lung.
_THRESHOLD = -400.0
# Smaller parts are gas in the bowel or airways, ml.
_SMALLEST_ML = 50.0


def lung_mask(image, spacing) -> np.ndarray:
    """The air in the body: lungs and main airways.

    Args:
        image: ``[z, y, x]`` HU, canonical orientation.
        spacing: (z, y, x), mm.

    Returns:
        ``[z, y, x]`` bool; empty where there is no lung, as in another organ.
    """
    # In slices the lungs are holes of the body, also where they or the airways open to
    # the air outside at the ends of the image.
    parts, _ = ndimage.label((np.asarray(image) < _THRESHOLD) & body_mask(image))
    millilitres = np.bincount(parts.ravel()) * np.prod(spacing) / 1000.0
    keep = millilitres >= _SMALLEST_ML
    keep[0] = False
    return keep[parts]


def is_chest_ct(image, spacing) -> bool:
    """Whether an image is in Hounsfield units and shows lungs.

    Args:
        image: ``[z, y, x]``.
        spacing: (z, y, x), mm.

    Returns:
        True if air, tissue and a lung of some size are there.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.min() > -700 or image.max() < 0:
        return False
    return bool(lung_mask(image, spacing).any())
