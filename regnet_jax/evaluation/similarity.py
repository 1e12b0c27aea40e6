"""How alike two images are."""

import numpy as np


def correlation(first, second, mask=None) -> float:
    """Pearson correlation of two images, also called global NCC.

    Args:
        first: any shape.
        second: of the same shape.
        mask: bool, of the same shape; None compares everything.

    Returns:
        A number in [-1, 1]; NaN where the mask is empty or an image constant.
    """
    inside = slice(None) if mask is None else np.asarray(mask, bool)
    a = np.asarray(first, np.float64)[inside].ravel()
    b = np.asarray(second, np.float64)[inside].ravel()
    if a.size < 2:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else float("nan")


def dice(first, second) -> float:
    """Overlap of two masks: twice the common part over the sum of both.

    Args:
        first: bool, any shape.
        second: bool, of the same shape.

    Returns:
        A number in [0, 1]; NaN where both masks are empty.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    total = first.sum() + second.sum()
    return float(2 * (first & second).sum() / total) if total else float("nan")
