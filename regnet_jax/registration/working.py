"""Small copies of images, on which the linear alignment works."""

from dataclasses import dataclass, replace

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.io import (
    Frame,
    Image,
    canonical_frame,
    isotropic_frame,
    rebase,
    resample,
)

# Voxels of a working grid: 256**2 or 64**3.
_VOXELS = {2: 2**16, 3: 2**18}
# Percentiles: metal and padding values should not stretch the range.
_CLIPPED = (0.1, 99.9)
# With fewer voxels at the coarsest level anything fits.
_FEWEST = 50


@dataclass(frozen=True)
class Working:
    """A small copy of an image.

    Attributes:
        array: ``[*shape]``, values without outliers, of unit deviation.
        inside: ``[*shape]``, whether a voxel counts.
        frame: isotropic, in the coordinates that hang on the fixed image.
    """

    array: np.ndarray
    inside: np.ndarray
    frame: Frame


def make_working(
    image: Image, mask: Image | None, base: Frame, *, coarsest: int
) -> Working:
    """The small copy of an image.

    Args:
        image: of any grid.
        mask: where it counts; None takes everything.
        base: of the fixed image, canonical: its coordinates are the copy's.
        coarsest: of how many voxels on an axis the mask must still show some.

    Raises:
        InputError: if the mask covers too little.
    """
    own = canonical_frame(image.frame)
    extent = np.prod(np.multiply(own.shape[::-1], own.spacing))
    frame = isotropic_frame(own, (extent / _VOXELS[own.ndim]) ** (1 / own.ndim))
    array = resample(image, frame).array.astype(np.float64)
    low, high = np.percentile(array, _CLIPPED)
    if low < high:
        array = np.clip(array, low, high)
    inside = np.ones(frame.shape, bool)
    if mask is not None:
        inside = _inside(mask, frame, image.name, coarsest)
    return Working(array / (array.std() or 1.0), inside, rebase(frame, base)[0])


def _inside(mask: Image, frame: Frame, name: str, coarsest: int) -> np.ndarray:
    share = resample(replace(mask, array=mask.array != 0), frame, background=0.0).array
    inside = share >= 0.5
    if inside[(slice(None, None, coarsest),) * inside.ndim].sum() < _FEWEST:
        raise InputError(
            f"{mask.name}: covers too little of {name} to align them by; give a"
            " larger mask or none"
        )
    return inside
