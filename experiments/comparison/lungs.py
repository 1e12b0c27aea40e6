"""The lungs of a chest CT with the vessels in them."""

import numpy as np
from scipy import ndimage

from regnet_jax.evaluation import find_lungs
from regnet_jax.spatial import Image, resample

# Vessels up to twice as wide belong to the lung, mm.
_REACH = 5.0


def lungs_with_vessels(image: Image) -> Image | None:
    """Find the lungs, and close them over their vessels.

    A threshold leaves the vessels out, so that a mask has a hole at each. Masks that
    people draw have none, and what erodes a mask would lose the surroundings of every
    vessel, where there is most to be matched.

    Args:
        image: of any grid.

    Returns:
        A mask of zeros and ones on the grid of the image; None unless it is a chest CT.
    """
    lungs = find_lungs(image)
    if lungs is None:
        return None
    mask = resample(lungs, image.frame, interpolation="nearest").array > 0
    spacing = image.frame.spacing[::-1]
    # A closing by a ball; that of scipy takes minutes for a ball of many voxels.
    grown = ndimage.distance_transform_edt(~mask, spacing) <= _REACH
    if not grown.all():
        mask = ndimage.distance_transform_edt(grown, spacing) > _REACH
    return Image(mask.astype(np.uint8), image.frame, image.name)
