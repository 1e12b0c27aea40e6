"""Scans whose values must be Hounsfield units, to make artificial pairs of."""

import dataclasses
from pathlib import Path

import numpy as np
from absl import logging

from regnet_jax.errors import InputError
from regnet_jax.io.images import Image, read_image

# The lowest value that a scanner stores, HU. What is not above it shows nothing.
_LOWEST = -1024
# An image with darker places than this has air in it, HU.
_AIR = -500
# Values that are stored without their sign are so much larger.
_STORED = 1024
# Voxels that are looked at for the distribution of values.
_SAMPLE = 1_000_000


def read_ct(path) -> Image:
    """Read an image in Hounsfield units.

    Padding beside the field of view (-2000, -3024) becomes -1024. Values that are
    stored as HU + 1024 are shifted back, which a warning says.

    Args:
        path: as in ``read_image``.

    Returns:
        The image, with no value below -1024.

    Raises:
        InputError: as ``read_image``; and if the values are not Hounsfield units.
    """
    image = read_image(path)
    low, high = image.array.min(), image.array.max()
    offset = hounsfield_offset(image.array)
    if offset is None:
        raise InputError(
            f"{Path(path)}: its values, {low:g} to {high:g}, are not Hounsfield units;"
            " convert it, so that air is -1000 and water 0"
        )
    array = image.array
    if offset:
        logging.warning(
            "%s: its values, %g to %g, are taken for HU + %d; %d is added",
            *(path, low, high, -offset, offset),
        )
        array = array.astype(np.float32) + offset
    if array.min() < _LOWEST:
        array = np.maximum(array, array.dtype.type(_LOWEST))
    return dataclasses.replace(image, array=array)


def hounsfield_offset(values) -> int | None:
    """What to add to the values of an image to have Hounsfield units.

    HU are told by air below -500, or, where a crop shows none, by fat below and soft
    tissue about 0 in a range of more than 8 bits. HU + 1024 are told by air at 0 and
    soft tissue near 1024 with little between and above.

    Args:
        values: of all voxels, finite, any shape. Those of -1024 and less, such as
            padding, tell nothing.

    Returns:
        0 or -1024; None where the values mean something else.
    """
    values = np.asarray(values)
    seen = values > _LOWEST
    if (seen & (values < _AIR)).any():
        return 0
    sample = values[seen]
    sample = sample[:: max(sample.size // _SAMPLE, 1)]
    if not sample.size:
        return None
    if _is_stored_without_sign(sample):
        return -_STORED
    # Here all air is below the range of the scanner and has one value.
    if _LOWEST <= values.min() < _AIR:
        return 0
    low, middle, high = np.percentile(sample, (1, 50, 99))
    crop = low < -20 and abs(middle) < 200 and high > 0
    return 0 if crop and np.ptp(sample) > 255 else None


def _is_stored_without_sign(sample) -> bool:
    """Whether air is at 0 and most of what is denser than lung at 1024."""
    # In two halves of the range from air to water.
    dense = sample[sample > 0.4 * _STORED]
    tissue = np.abs(dense - float(_STORED)) < 150
    air = np.abs(sample) < 150
    return bool(air.mean() > 0.05 and dense.size and tissue.mean() > 0.6)
