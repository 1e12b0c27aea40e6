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


def looks_like_ct(values) -> bool:
    """Tell whether values are Hounsfield units of a CT.

    Args:
        values: any shape, of what the image shows, without padding.

    Returns:
        True where some are as dark as air.
    """
    values = np.asarray(values)
    return bool(values.size) and bool(values.min() < _AIR_BELOW)
