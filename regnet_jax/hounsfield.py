"""Hounsfield units: what air is, what scanners write, what counts as CT."""

import numpy as np

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
