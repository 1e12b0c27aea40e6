"""Images and label maps through a transform or its inverse, in their own type."""

from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from regnet_jax.spatial.frames import Frame
from regnet_jax.spatial.images import Image, as_array
from regnet_jax.spatial.inversion import LOST, invert_on_grid
from regnet_jax.spatial.resampling import resample
from regnet_jax.spatial.transforms import composite, field_frame


def warp_image(
    image: Image, frame: Frame, transform: sitk.Transform, *, interpolation="linear"
) -> Image:
    """Resample a moving image or label map on a fixed grid, as ITK does.

    Args:
        image: moving image; its minimum, or 0 with ``nearest``, is the background.
        frame: where the result lies.
        transform: maps points of ``frame`` to points of ``image`` (mm).
        interpolation: ``linear``, or ``nearest`` for labels.

    Returns:
        ``[*frame.shape]`` in the type of the image, or where ITK lacks that in the
        type of ``as_array``; whole numbers rounded.
    """
    image = replace(image, array=as_array(image.array, image.name))
    array = resample(
        image, frame, transform, interpolation=interpolation, smooth=False
    ).array
    dtype = image.array.dtype
    if dtype.kind in "iu" and interpolation == "linear":
        array = _rounded(array, dtype)
    return Image(array.astype(dtype), frame, image.name)


def _rounded(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round float values to whole numbers within the range of an integer type."""
    info, kind = np.iinfo(dtype), array.dtype.type
    # 2**31 - 1 and 2**63 - 1 are not floats; the largest is the next float below.
    highest = np.nextafter(kind(info.max + 1), kind(0))
    return np.clip(np.rint(array), kind(info.min), highest)


def warp_image_back(
    image: Image,
    frame: Frame,
    transform: sitk.Transform,
    *,
    interpolation="linear",
    progress: bool = False,
) -> tuple[Image, int]:
    """Resample a fixed image or label map on a moving grid, by the inverse transform.

    Args:
        image: as for ``warp_image``.
        frame: where the result lies.
        transform: fixed to moving: points of ``image`` to points of ``frame`` (mm).
        interpolation: as for ``warp_image``.
        progress: show a bar.

    Returns:
        The image, and the number of voxels without an inverse, where the transform
        folds; they are background.

    Raises:
        InputError: if the transform has no inverse anywhere.
    """
    fixed = field_frame(transform) or image.frame
    vectors, errors = invert_on_grid(transform, fixed, frame, progress=progress)
    inverse = composite(frame, vectors, np.eye(frame.ndim + 1))
    warped = warp_image(image, frame, inverse, interpolation=interpolation)
    lost = errors > LOST * min(fixed.spacing)
    warped.array[lost] = image.array.min() if interpolation == "linear" else 0
    return warped, int(lost.sum())
