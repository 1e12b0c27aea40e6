"""Hounsfield units: what air is, what scanners write, what counts as CT."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy import ndimage

# Air, HU.
AIR = -1000.0
# What scans are clipped to, HU.
RANGE = (-1024.0, 3071.0)
# Darker values, HU, are no tissue and no air, however noisy: scanners write them where
# they have not measured.
LEAST = -1100.0
# An image with darker places than this has air in it, in Hounsfield units.
_AIR_BELOW = -500.0
# Fat is darker than this, HU, and tissues differ by more than that.
_FAT, _TISSUES = -20.0, 100.0
# Values that are stored without their sign are so much larger.
STORED = 1024
# Voxels that are looked at for the distribution of values.
_SAMPLE = 1_000_000


def looks_like_ct(image, padding=None) -> bool:
    """Tell whether values are Hounsfield units of a CT.

    Args:
        image: any shape.
        padding: bool, of the same shape, where the image shows nothing; or None.

    Returns:
        True where the image shows something as dark as air. Where it shows no air, but
        its padding has the value of air, true if it shows fat, below zero.
    """
    image = np.asarray(image)
    shown = image if padding is None else image[~padding]
    if not shown.size:
        return False
    if shown.min() < _AIR_BELOW:
        return True
    if padding is None or shown.min() > _FAT or np.ptp(shown) < _TISSUES:
        return False
    return bool((np.abs(image[padding] - AIR) < 100).any())


def hounsfield_offset(values) -> int | None:
    """Return what to add to the values of an image to have Hounsfield units.

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
    seen = values > RANGE[0]
    if (seen & (values < _AIR_BELOW)).any():
        return 0
    sample = values[seen]
    sample = sample[:: max(sample.size // _SAMPLE, 1)]
    if not sample.size:
        return None
    if _is_stored_without_sign(sample):
        return -STORED
    # Here all air is below the range of the scanner and has one value.
    if RANGE[0] <= values.min() < _AIR_BELOW:
        return 0
    low, middle, high = np.percentile(sample, (1, 50, 99))
    crop = low < -20 and abs(middle) < 200 and high > 0
    return 0 if crop and np.ptp(sample) > 255 else None


def _is_stored_without_sign(sample) -> bool:
    """Whether air is at 0 and most of what is denser than lung at 1024."""
    # In two halves of the range from air to water.
    dense = sample[sample > 0.4 * STORED]
    tissue = np.abs(dense - float(STORED)) < 150
    air = np.abs(sample) < 150
    return bool(air.mean() > 0.05 and dense.size and tissue.mean() > 0.6)


def scale_hounsfield(image):
    """Hounsfield units to [0, 1], the scaling of RegNet 2017.

    Args:
        image: any shape, HU. Air outside the scanner's range and metal are cut to
            [-1000, 3095].

    Returns:
        ``(HU + 1000) / 4095``.
    """
    return jnp.clip((image + 1000.0) / 4095.0, 0.0, 1.0)


# Between air and tissue, HU.
_BODY_THRESHOLD = -500.0


def body_mask(image) -> np.ndarray:
    """The patient with the lungs, without the air around and most of the table.

    Args:
        image: ``[z, y, x]`` or an axial slice ``[y, x]``, HU.

    Returns:
        A mask of the same shape: the largest piece of tissue and the holes that it
        has in axial slices; empty where there is no tissue.
    """
    parts, count = ndimage.label(np.asarray(image) > _BODY_THRESHOLD)
    if not count:
        return parts > 0
    largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    # Connected within slices alone, so that what opens at the ends is a hole too.
    plane = np.zeros((3,) * largest.ndim, bool)
    plane[(1,) * (largest.ndim - 2)] = ndimage.generate_binary_structure(2, 1)
    return ndimage.binary_fill_holes(largest, structure=plane)


# Between air and soft tissue, HU: half of a voxel at the lung's surface is lung.
_LUNG_THRESHOLD = -400.0
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
    parts, _ = ndimage.label((image < _LUNG_THRESHOLD) & body_mask(image))
    millilitres = np.bincount(parts.ravel()) * np.prod(spacing) / 1000.0
    keep = millilitres >= _SMALLEST_ML
    keep[0] = False
    return keep[parts]


def traced_body_mask(volume):
    """Voxels with tissue on all sides of them in the plane of the last two axes.

    Args:
        volume: ``[*spatial, 1]``, HU.

    Returns:
        ``[*spatial]`` bool; the air in lungs and bowel belongs to the body.
    """
    tissue = (volume[..., 0] > _LUNG_THRESHOLD).astype(jnp.float32)
    inside = jnp.ones_like(tissue)
    for axis in (tissue.ndim - 2, tissue.ndim - 1):
        for reverse in (False, True):
            inside *= lax.cummax(tissue, axis=axis, reverse=reverse)
    return inside > 0


def traced_lung_mask(volume):
    """The air in the body.

    Args:
        volume: ``[*spatial, 1]``, HU.

    Returns:
        ``[*spatial]`` bool.
    """
    return traced_body_mask(volume) & (volume[..., 0] < _LUNG_THRESHOLD)


def extent(mask, axis: int, *, tail: float = 0.02):
    """Between which positions along an axis a mask lies, but for its tails.

    Args:
        mask: ``[*spatial]`` bool.
        axis: along which to look.
        tail: part of the mask that may lie before the first, and after the last.

    Returns:
        First and last position, voxels; the ends of the axis for an empty mask.
    """
    others = tuple(a for a in range(mask.ndim) if a != axis)
    counts = jnp.sum(mask, axis=others, dtype=jnp.float32)
    part = jnp.cumsum(counts) / jnp.maximum(jnp.sum(counts), 1.0)
    first = jnp.sum(part < tail)
    last = mask.shape[axis] - 1 - jnp.sum(part > 1.0 - tail)
    full = jnp.any(mask)
    return (
        jnp.where(full, first, 0).astype(jnp.float32),
        jnp.where(full, jnp.maximum(last, first), mask.shape[axis] - 1).astype(
            jnp.float32
        ),
    )
