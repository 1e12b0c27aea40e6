"""Small copies of both images, on which the linear alignment works."""

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from scipy import ndimage

from regnet_jax.errors import InputError
from regnet_jax.spatial import (
    Frame,
    Image,
    as_mask,
    canonical_frame,
    fill_padding,
    isotropic_frame,
    rebase,
    resample,
)

# Voxels of a working grid: 256**2 or 64**3.
_VOXELS = {2: 2**16, 3: 2**18}
# Percentiles to which values are clipped: metal should not stretch the range.
_CLIPPED = (0.1, 99.9)
# With fewer voxels at the coarsest level any alignment fits.
_FEWEST = 50
# A voxel is compared if at least the first fraction of it lies in the mask, and the
# second outside of padding.
_IN_MASK, _SHOWN = 0.5, 0.95


@dataclass(frozen=True)
class WorkingImage:
    """A small copy of an image.

    Attributes:
        array: ``[*shape]``, values without outliers, of unit standard deviation;
            padding is replaced by the nearest other value.
        inside: ``[*shape]``, whether a voxel is compared.
        frame: isotropic, in the coordinate system of the canonical fixed image.
    """

    array: np.ndarray
    inside: np.ndarray
    frame: Frame


def make_working_image(
    image: Image, mask: Image | None, padding, base: Frame, *, coarsest: int
) -> WorkingImage:
    """Make the small copy of an image.

    Args:
        image: of any grid.
        mask: of the voxels to compare; None takes all.
        padding: bool, of the image's shape, where it shows nothing; or None.
        base: canonical frame of the fixed image, whose coordinate system the copy has.
        coarsest: subsampling factor of the coarsest level, where the mask must still
            hold some voxels.

    Returns:
        The copy.

    Raises:
        InputError: if the mask covers too little of the image, padding aside.
    """
    own = canonical_frame(image.frame)
    extent = np.prod(np.multiply(own.shape[::-1], own.spacing))
    frame = isotropic_frame(own, (extent / _VOXELS[own.ndim]) ** (1 / own.ndim))
    shown = np.ones(frame.shape, bool)
    if padding is not None:
        covered = _covered(image, ~padding, frame, _SHOWN)
        if _is_enough(covered, coarsest):
            # Any value does, as voxels that blend with padding are not compared.
            value = float(image.array[~padding].min())
            image = replace(image, array=fill_padding(image.array, padding, value))
            shown = covered
    array = resample(image, frame).array.astype(np.float64)
    if not shown.all():
        nearest = ndimage.distance_transform_edt(
            ~shown, return_distances=False, return_indices=True
        )
        array = array[tuple(cast(np.ndarray, nearest))]
    low, high = np.percentile(array[shown], _CLIPPED)
    if low < high:
        array = np.clip(array, low, high)
    inside = shown
    if mask is not None:
        mask = as_mask(mask)
        inside = shown & _covered(mask, mask.array > 0, frame, _IN_MASK)
        if not _is_enough(inside, coarsest):
            raise InputError(
                f"{mask.name}: covers too little of {image.name} to align them by;"
                " give a larger mask or none"
            )
    return WorkingImage(
        array / (array[shown].std() or 1.0), inside, rebase(frame, base)[0]
    )


def _is_enough(inside, coarsest: int) -> bool:
    """Return whether enough voxels remain at the coarsest level."""
    return inside[(slice(None, None, coarsest),) * inside.ndim].sum() >= _FEWEST


def _covered(image: Image, inside, frame: Frame, least: float) -> np.ndarray:
    """Find the voxels of which at least a fraction lies inside a mask."""
    marked = replace(image, array=inside.astype(np.uint8))
    return resample(marked, frame, background=0.0).array >= least
