"""Scans whose values must be Hounsfield units, to make artificial pairs of."""

import dataclasses
import logging
from pathlib import Path

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.hounsfield import RANGE, hounsfield_offset, looks_like_ct
from regnet_jax.io.images import Image, read_image
from regnet_jax.io.padding import fill_padding, find_padding

_LOG = logging.getLogger(__name__)
# The lowest value that a scanner stores, HU.
_LOWEST = int(RANGE[0])


def read_ct(path) -> Image:
    """Read an image in Hounsfield units.

    Padding beside the field of view (see ``find_padding``) becomes -1024. Values that
    are stored as HU + 1024 are shifted back, which a warning says.

    Args:
        path: as in ``read_image``.

    Returns:
        The image, with no value below -1024.

    Raises:
        InputError: as ``read_image``; and if the values are not Hounsfield units.
    """
    image = read_image(path)
    padding = find_padding(image.array, grow=0)
    seen = image.array if padding is None else image.array[~padding]
    low, high = seen.min(), seen.max()
    offset = hounsfield_offset(seen)
    if offset is None and looks_like_ct(image.array, padding):
        offset = 0
    if offset is None:
        raise InputError(
            f"{Path(path)}: its values, {low:g} to {high:g}, are not Hounsfield units;"
            " convert it, so that air is -1000 and water 0"
        )
    array = image.array
    if offset:
        _LOG.warning(
            "%s: its values, %g to %g, are taken for HU + %d; %d is subtracted",
            *(path, low, high, -offset, -offset),
        )
        array = array.astype(np.float32) + offset
    if array.min() < _LOWEST:
        array = np.maximum(array, array.dtype.type(_LOWEST))
    if padding is not None:
        array = fill_padding(array, padding, _LOWEST).astype(array.dtype)
    return dataclasses.replace(image, array=array)
