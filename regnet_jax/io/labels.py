"""Label maps from files."""

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.io.images import Image, read_image


def read_labels(path) -> Image:
    """Read an image of whole numbers, a number for each structure, 0 for none.

    Raises InputError as ``read_image``, and if a value has a fraction.
    """
    image = read_image(path)
    if (image.array != np.rint(image.array)).any():
        raise InputError(
            f"{path}: holds fractions, so it is no label map; give whole numbers"
        )
    return image
