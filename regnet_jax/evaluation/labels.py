"""How well structures lie on each other, label by label."""

import numpy as np
from scipy import ndimage

from regnet_jax.evaluation.similarity import dice


def label_overlap(first, second, spacing) -> dict[int, dict]:
    """Dice and surface distance of each label of two label maps.

    Args:
        first: ``[*spatial]`` whole numbers, 0 is background.
        second: of the same shape.
        spacing: mm, array-axis order.

    Returns:
        For each label of either map, in order, ``dice`` and ``hd95`` (mm). A label
        that one map lacks has a Dice of 0 and a distance of NaN.
    """
    first, second = np.asarray(first), np.asarray(second)
    labels = np.union1d(first, second)
    result = {}
    for label in labels[labels != 0]:
        masks = _cropped(first == label, second == label)
        result[int(label)] = {"dice": dice(*masks), "hd95": hd95(*masks, spacing)}
    return result


def hd95(first, second, spacing) -> float:
    """Robust Hausdorff distance of two masks, mm.

    From each voxel of one surface to the nearest of the other: the 95th percentile,
    and of both directions the larger. The surface of a mask are its voxels with a
    face on the outside, and beyond the image is outside.

    Args:
        first: bool, ``[*spatial]``.
        second: bool, of the same shape.
        spacing: mm, array-axis order.

    Returns:
        The distance; NaN where a mask is empty.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    if not (first.any() and second.any()):
        return float("nan")
    surfaces = [_surface(mask) for mask in _cropped(first, second)]
    away = [ndimage.distance_transform_edt(~s, sampling=spacing) for s in surfaces]
    directions = (away[1][surfaces[0]], away[0][surfaces[1]])
    return float(max(np.percentile(distances, 95) for distances in directions))


def _surface(mask) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)


def _cropped(first, second):
    """Both masks in the smallest box that holds them, to save time and memory."""
    box = ndimage.find_objects((first | second).astype(np.uint8))[0]
    return first[box], second[box]
