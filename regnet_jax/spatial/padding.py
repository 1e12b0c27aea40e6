"""Padding: constant values where an image shows nothing.

Scanners write -3024 or -2000 beside the round field of view of a CT, resampling writes
zeros beside the old image, and masks leave one value outside of an organ. They are not
tissue, dark or bright, and must not be compared.
"""

import math
from typing import cast

import numpy as np
from scipy import ndimage

from regnet_jax.hounsfield import UNMEASURED_BELOW, looks_like_ct

# Padding fills at least this fraction of the voxels at the border, this fraction of all
# voxels, and this number.
_LEAST_OF_BORDER = 0.02
_LEAST_OF_IMAGE = 1e-3
_LEAST_VOXELS = 16
# The number of values that are tried, the most frequent ones at the border, and the
# fraction of the voxels there whose neighbours at the border must have the value, too.
# Values that are frequent in noise lie apart.
_CANDIDATES = 4
_LEAST_SOLID = _LEAST_OF_BORDER / 2
# Values within this fraction of the image's range are equal.
_SAME = 1e-6
# A constant region is padding if this fraction of its surface borders on values that
# differ by more than this fraction of the contrast. Air that was clipped to a constant
# borders on air that was not: on eleven CT and MR volumes at most 0.025 of its surface
# differs so much, and 0.16 to 0.51 where a round field of view cuts a body.
_LEAST_OF_SURFACE = 0.05
_JUMP = 0.2
# At most this fraction of the faces of a region's voxels lies on its surface; connected
# equal values in noise have more.
_RAGGED = 0.3
# Padding may be nested in padding this many times.
_LAYERS = 3
# Voxels that are counted at a time.
_AT_ONCE = 1 << 24
# At least this fraction of the voxels must show something.
_LEAST_SHOWN = 0.02


def find_padding(image, *, grow: int = 1) -> np.ndarray | None:
    """Find the voxels where an image shows nothing.

    A region is padding if it reaches the border of the image, has one value, and ends
    in a jump. A background that merges into the picture, such as clipped air, is not.
    In CT, whatever is connected to the border and darker than any air is padding.

    Args:
        image: ``[*spatial]``, finite.
        grow: voxels that each region is grown by, since resampling blends there.

    Returns:
        Bool, ``[*spatial]``; None where all voxels show something.
    """
    image = np.asarray(image)
    if image.dtype == bool:
        image = image.astype(np.uint8)
    if image.size == 1:
        return None
    padding = np.zeros(image.shape, bool)
    beside = np.concatenate([face.ravel() for face in _faces(image)])
    low, high = float(image.min()), float(image.max())
    margin = _SAME * (high - low)
    values = [v for v in _frequent(beside) if _is_solid(image, v, margin)]
    # Padding may be nested in padding.
    for _ in range(_LAYERS):
        found = _darker_than_air(image, padding)
        for value in values:
            region = _constant_region(image, value, margin, padding | found)
            if region is not None and _is_padding(image, value, region, padding):
                found |= region
        if not found.any():
            break
        padding |= found
        # Nested padding is darker than the image; synthetic images have constant
        # regions of any other value.
        beside = image[_dilated(padding) & ~padding]
        values = _frequent(beside[beside <= image[~padding].min(initial=high)])
    if not padding.any():
        return None
    grown = _dilated(padding, grow)
    shown = image[~grown]
    if shown.size < _LEAST_SHOWN * image.size or shown.min() == shown.max():
        # The picture has a single value, as in a mask.
        return None
    return grown


def fill_padding(image, padding, value: float) -> np.ndarray:
    """Return the image with ``value`` where ``padding`` is true, which may be None."""
    if padding is None:
        return np.asarray(image)
    image = np.asarray(image)
    filled = image.astype(np.result_type(image.dtype, np.float32))
    filled[padding] = value
    return filled


def _faces(image):
    """Yield the first and last slice of each axis that has more than one."""
    for axis, n in enumerate(image.shape):
        for index in {0, n - 1} if n > 1 else ():
            yield np.take(image, index, axis=axis)


def _frequent(values) -> np.ndarray:
    """Return the most frequent of some values."""
    values, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_CANDIDATES]
    return values[order[counts[order] >= _LEAST_OF_BORDER * counts.sum()]]


def _is_solid(image, value, margin: float) -> bool:
    """Whether voxels of a value at the border lie beside each other there."""
    faces = [_equal(face, value, margin) for face in _faces(image)]
    solid = sum(np.count_nonzero(~_dilated(~face)) for face in faces)
    return bool(solid >= _LEAST_SOLID * sum(face.size for face in faces))


def _equal(image, value, margin: float) -> np.ndarray:
    """Return the voxels that have a value up to rounding."""
    low, high = float(value) - margin, float(value) + margin
    if image.dtype.kind in "iu":
        # Whole numbers are compared as they are, several times as fast.
        info = np.iinfo(image.dtype)
        low, high = max(math.ceil(low), info.min), min(math.floor(high), info.max)
    same = image >= low
    same &= image <= high
    return same


def _constant_region(image, value, margin: float, found) -> np.ndarray | None:
    """Find the voxels of a value that touch the border or known padding."""
    same = _equal(image, value, margin)
    same &= ~found
    return _connected(same, found)


def _darker_than_air(image, found) -> np.ndarray:
    """Find the voxels too dark for CT that touch the border or padding."""
    dark = image < UNMEASURED_BELOW
    if not dark.any() or not _has_usual_value(image[dark]):
        # Many values below air are those of another scale.
        return np.zeros(image.shape, bool)
    if not looks_like_ct(image[~dark]):
        return np.zeros(image.shape, bool)
    region = _connected(dark & ~found, found)
    return np.zeros(image.shape, bool) if region is None else region


def _has_usual_value(values) -> bool:
    """Tell whether half of the values are the same, by at most a million of them."""
    sample = values[:: max(values.size // 1_000_000, 1)]
    _, counts = np.unique(sample, return_counts=True)
    return bool(2 * counts.max() >= counts.sum())


def _connected(region, found) -> np.ndarray | None:
    """Return the large components that touch the image's border or ``found``."""
    least = max(_LEAST_OF_IMAGE * region.size, _LEAST_VOXELS)
    if np.count_nonzero(region) < least:
        return None
    pieces, count = cast(tuple[np.ndarray, int], ndimage.label(region))
    touched = [face.ravel() for face in _faces(pieces)]
    if found.any():
        touched.append(pieces[_dilated(found)])
    keep = np.zeros(count + 1, bool)
    for piece in touched:
        keep[np.unique(piece)] = True
    # In parts, as it would copy all of them to 64 bits.
    flat = pieces.ravel()
    parts = (flat[k : k + _AT_ONCE] for k in range(0, flat.size, _AT_ONCE))
    keep &= sum(np.bincount(part, minlength=count + 1) for part in parts) >= least
    keep[0] = False
    return keep[pieces] if keep.any() else None


def _is_padding(image, value, region, found) -> bool:
    """Whether a region is compact, and the values beside it are far from its own."""
    together = region | found
    faces = sum(np.diff(together, axis=axis).sum() for axis in range(image.ndim))
    if faces > _RAGGED * 2 * image.ndim * together.sum():
        return False
    beside = image[_dilated(together) & ~together].astype(np.float64)
    rest = image[~together]
    if not beside.size:
        return False
    low, high = np.percentile(rest[:: max(rest.size // 10**6, 1)], (1, 99))
    jumps = np.abs(beside - float(value)) > _JUMP * (high - low)
    return bool(jumps.mean() >= _LEAST_OF_SURFACE)


def _dilated(mask, times: int = 1) -> np.ndarray:
    """Grow a mask by the voxels that share a face with it.

    The logical operations are several times as fast as ``ndimage.binary_dilation``.
    """
    for _ in range(times):
        grown = mask.copy()
        for axis in range(mask.ndim):
            # Views of both, so that the axis comes first.
            before, after = np.moveaxis(mask, axis, 0), np.moveaxis(grown, axis, 0)
            after[1:] |= before[:-1]
            after[:-1] |= before[1:]
        mask = grown
    return mask
