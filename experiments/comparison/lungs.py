"""The closed lungs of a chest CT: their air and all that lies within it."""

import numpy as np

from regnet_jax.evaluation import find_lungs
from regnet_jax.hounsfield import close_lungs
from regnet_jax.spatial import Image, resample


def closed_lungs(image: Image) -> Image | None:
    """Find the lungs, and close them over their vessels.

    Masks that people draw have no hole at each vessel, and what erodes a mask would
    lose the surroundings of every one, where there is most to be matched.

    Args:
        image: of any grid.

    Returns:
        A mask of zeros and ones on the grid of the image; None unless it is a chest CT.
    """
    lungs = find_lungs(image)
    if lungs is None:
        return None
    mask = resample(lungs, image.frame, interpolation="nearest").array > 0
    mask = close_lungs(mask, image.frame.spacing[::-1])
    return Image(mask.astype(np.uint8), image.frame, image.name)
