"""Overlap and surface distance of label maps, label by label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from jaxtyping import Bool, Num

# Labels that a message names.
_NAMED = 5


@dataclass(frozen=True)
class LabelOverlap:
    """How well two masks lie on each other.

    Attributes:
        dice: from 0, apart, to 1, the same.
        hd95: 95th percentile of the surface distance, mm; NaN where a mask is empty.
    """

    dice: float
    hd95: float


def label_overlap(
    first: Num[np.ndarray, "*spatial"],
    second: Num[np.ndarray, "*spatial"],
    spacing: Sequence[float],
    labels: Iterable[int] | None = None,
) -> dict[int, LabelOverlap]:
    """Compare each label of two label maps.

    Args:
        first: ``[*spatial]`` whole numbers, 0 is background.
        second: of the same shape.
        spacing: mm, array-axis order.
        labels: those to compare; None takes all that are in either map. A map that was
            warped may have lost some of its labels.

    Returns:
        The overlap of each label, in ascending order. A label that a map lacks has a
        Dice of 0 and a distance of NaN.
    """
    first, second = np.asarray(first), np.asarray(second)
    if labels is None:
        labels = labels_of(first, second)
    result = {}
    for label in sorted(labels):
        masks = first == label, second == label
        if all(mask.any() for mask in masks):
            masks = _cropped(*masks)
            result[int(label)] = LabelOverlap(dice(*masks), hd95(*masks, spacing))
        else:
            result[int(label)] = LabelOverlap(0.0, float("nan"))
    return result


def labels_of(*maps: Num[np.ndarray, "*spatial"]) -> list[int]:
    """Return the labels that are in any of several maps, without the background.

    Args:
        *maps: whole numbers of any shape.

    Returns:
        The labels, in ascending order.
    """
    return sorted({int(label) for each in maps for label in np.unique(each)} - {0})


def describe_overlap(overlap: Mapping[int, LabelOverlap]) -> list[str]:
    """Say what is odd about the labels of two maps.

    Args:
        overlap: from ``label_overlap``, after the one map was warped to the other.

    Returns:
        Lines for the user; mostly none.
    """
    missing = [str(label) for label, each in overlap.items() if np.isnan(each.hd95)]
    if missing and len(missing) == len(overlap):
        return [
            "no label is in both label maps, so their overlap is 0; check that they"
            " have the same labels and lie in the same place"
        ]
    if missing:
        more = ["..."] if len(missing) > _NAMED else []
        return [
            f"label {', '.join(missing[:_NAMED] + more)}: is not in both label maps"
            " after warping, so its Dice of 0 counts in the mean; take it out of both"
            " maps if it should not"
        ]
    return []


def dice(
    first: Bool[np.ndarray, "*shape"], second: Bool[np.ndarray, "*shape"]
) -> float:
    """Return the Dice overlap of two masks: twice the intersection over both sizes.

    Args:
        first: bool, any shape.
        second: bool, of the same shape.

    Returns:
        A number in [0, 1]; NaN where both masks are empty.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    total = first.sum() + second.sum()
    return float(2 * (first & second).sum() / total) if total else float("nan")


def hd95(
    first: Bool[np.ndarray, "*spatial"],
    second: Bool[np.ndarray, "*spatial"],
    spacing: Sequence[float],
) -> float:
    """Return the robust Hausdorff distance of two masks.

    For each direction, the distances from the voxels of one surface to the nearest
    voxel of the other are taken at their 95th percentile; the larger of both counts.
    The surface is the set of voxels with a face on the background, and beyond the
    image counts as background.

    Args:
        first: bool, ``[*spatial]``.
        second: bool, of the same shape.
        spacing: mm, array-axis order.

    Returns:
        The distance, mm; NaN where a mask is empty.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    if not (first.any() and second.any()):
        return float("nan")
    surfaces = [_surface(mask) for mask in _cropped(first, second)]
    away = [
        cast(np.ndarray, ndimage.distance_transform_edt(~s, sampling=spacing))
        for s in surfaces
    ]
    directions = (away[1][surfaces[0]], away[0][surfaces[1]])
    return float(max(np.percentile(distances, 95) for distances in directions))


def _surface(mask) -> np.ndarray:
    return mask & ~cast(np.ndarray, ndimage.binary_erosion(mask))


def _cropped(first, second):
    """Crop both masks to the smallest box that holds them; saves time and memory."""
    box = ndimage.find_objects((first | second).astype(np.uint8))[0]
    return first[box], second[box]
