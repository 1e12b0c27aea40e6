"""The body in a CT, by threshold."""

import numpy as np
from scipy import ndimage

# Between air and tissue, HU.
_THRESHOLD = -500.0


def body_mask(image) -> np.ndarray:
    """The patient with the lungs, without the air around and most of the table.

    Args:
        image: ``[z, y, x]`` or an axial slice ``[y, x]``, HU.

    Returns:
        A mask of the same shape: the largest piece of tissue and the holes that it
        has in axial slices; empty where there is no tissue.
    """
    parts, count = ndimage.label(np.asarray(image) > _THRESHOLD)
    if not count:
        return parts > 0
    largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    # Connected within slices alone, so that what opens at the ends is a hole too.
    plane = np.zeros((3,) * largest.ndim, bool)
    plane[(1,) * (largest.ndim - 2)] = ndimage.generate_binary_structure(2, 1)
    return ndimage.binary_fill_holes(largest, structure=plane)
