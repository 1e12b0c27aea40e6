"""Similarity of images: correlation, and the lungs of chest CTs.

Likeness is not accuracy: a method that optimises correlation gets a high one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from regnet_jax.evaluation.labels import dice
from regnet_jax.hounsfield import AIR, body_mask, lung_mask
from regnet_jax.spatial import (
    Image,
    canonicalise,
    continue_over,
    fill_padding,
    find_padding,
    resample,
    where_shown,
)

if TYPE_CHECKING:
    from jaxtyping import Bool, Num


def correlation(
    first: Num[np.ndarray, "*shape"],
    second: Num[np.ndarray, "*shape"],
    mask: Bool[np.ndarray, "*shape"] | None = None,
) -> float:
    """Return the Pearson correlation of two images, also called global NCC.

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
    return float(np.clip(a @ b / scale, -1.0, 1.0)) if scale > 0 else float("nan")


@dataclass(frozen=True)
class Similarity:
    """Similarity of two images on one grid.

    Attributes:
        correlation: where both images show something.
        lung_correlation: the same within the fixed lungs; None but for chest CT.
        lung_overlap: Dice of the lungs, where both images show something; None but for
            two chest CTs.
    """

    correlation: float
    lung_correlation: float | None = None
    lung_overlap: float | None = None

    def to_dict(self) -> dict:
        """Return the numbers that there are, by name, as they go into JSON."""
        return {name: value for name, value in vars(self).items() if value is not None}


def image_similarity(
    fixed: Num[np.ndarray, "*spatial"],
    other: Num[np.ndarray, "*spatial"],
    shown: Bool[np.ndarray, "*spatial"],
    lungs: Bool[np.ndarray, "*spatial"] | None = None,
    other_lungs: Bool[np.ndarray, "*spatial"] | None = None,
) -> Similarity:
    """Compare two images on one grid.

    Args:
        fixed: ``[*spatial]``.
        other: ``[*spatial]``, the moving image, warped or not.
        shown: bool, ``[*spatial]``, where both images show something.
        lungs: bool, ``[*spatial]``, of the fixed image; None where it has none.
        other_lungs: bool, ``[*spatial]``, of the other image, likewise.

    Returns:
        The measures.
    """
    everywhere = correlation(fixed, other, shown)
    if lungs is None:
        return Similarity(everywhere)
    seen = lungs & shown
    overlap = None if other_lungs is None else dice(seen, other_lungs & shown)
    return Similarity(everywhere, correlation(fixed, other, seen), overlap)


def make_similarity(fixed: Image, moving: Image) -> Callable[..., Similarity]:
    """Prepare the comparison of two images under several transforms.

    Only voxels that both images show count: neither padding nor voxels outside.

    Args:
        fixed: the image that keeps its place.
        moving: the image that is warped.

    Returns:
        ``measure(transform)`` of a SimpleITK transform from fixed to moving, or of
        None, the identity: the similarity on the fixed grid.
    """
    array, _ = canonicalise(fixed.array, fixed.frame)
    paddings = [find_padding(image.array) for image in (fixed, moving)]
    lungs, moving_lungs = find_lungs(fixed), find_lungs(moving)

    def measure(transform):
        if transform is not None:
            transform = continue_over(transform, fixed.frame, moving.name)
        warped = resample(moving, fixed.frame, transform, smooth=False).array
        shown = where_shown(moving, paddings[1], fixed.frame, transform)
        if paddings[0] is not None:
            shown &= ~paddings[0]
        other, shown = (canonicalise(a, fixed.frame)[0] for a in (warped, shown))
        if lungs is None:
            return image_similarity(array, other, shown)
        carried = None
        if moving_lungs is not None:
            carried = _carry(moving_lungs, lungs, transform)
        return image_similarity(array, other, shown, lungs.array > 0, carried)

    return measure


class Lungs(NamedTuple):
    """Lungs of the fixed image, and of the moving one before and after, on its grid.

    Attributes:
        fixed: ``[*spatial]`` bool.
        moving: ``[*spatial]`` bool.
        warped: ``[*spatial]`` bool.
    """

    fixed: np.ndarray
    moving: np.ndarray
    warped: np.ndarray


def segment_lungs(transform, fixed: Image, moving: Image) -> Lungs | None:
    """Find the lungs in both images, where both are chest CTs.

    The moving lungs are found in the moving image and carried over, since in a warped
    image they may hang together with the air outside.

    Args:
        transform: SimpleITK's, from fixed points to moving points.
        fixed: image.
        moving: image.

    Returns:
        Masks in the canonical orientation of the fixed image; None unless both images
        show lungs.
    """
    masks = [find_lungs(fixed), find_lungs(moving)]
    if masks[0] is None or masks[1] is None:
        return None
    carried = [_carry(masks[1], masks[0], how) for how in (None, transform)]
    return Lungs(masks[0].array > 0, *carried)


def find_lungs(image: Image) -> Image | None:
    """Find the lungs in an image.

    Args:
        image: of any grid; padding is taken as air.

    Returns:
        Their mask of zeros and ones, in canonical orientation; None unless the image
        is a chest CT in Hounsfield units.
    """
    padding = find_padding(image.array, grow=0)
    seen = fill_padding(image.array, padding, AIR)
    array, frame = canonicalise(seen, image.frame)
    mask = lung_mask(array, frame.spacing[::-1])
    return Image(mask.astype(np.uint8), frame, image.name) if mask.any() else None


def find_body(image: Image) -> np.ndarray:
    """Find the body in a CT.

    Args:
        image: in Hounsfield units, of any grid.

    Returns:
        ``[*spatial]`` bool, on its grid.
    """
    # Slices of the array as it is stored may show no body that air surrounds.
    array, frame = canonicalise(image.array, image.frame)
    body = Image(body_mask(array).astype(np.uint8), frame, image.name)
    return resample(body, image.frame, interpolation="nearest").array > 0


def _carry(lungs: Image, fixed: Image, transform) -> np.ndarray:
    """Return the mask of the moving lungs on the grid of the fixed ones."""
    return resample(lungs, fixed.frame, transform, interpolation="nearest").array > 0
