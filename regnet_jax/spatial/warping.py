"""Images and label maps through a transform or its inverse, in their own type."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.spatial.frames import (
    Frame,
    is_outside,
    split_frame,
    to_index,
    to_world,
)
from regnet_jax.spatial.images import Image, as_array, round_to
from regnet_jax.spatial.inversion import LOST, invert_on_grid, invert_transform
from regnet_jax.spatial.point_maps import CheckedMap, continued_map, leaves_grid
from regnet_jax.spatial.resampling import resample
from regnet_jax.spatial.transforms import composite, field_frame, flatten

_LOG = logging.getLogger(__name__)

# Voxels at which a transform is sampled at a time, to bound the memory.
_CHUNK = 1 << 22
# Interpolations that mix values, so that results are rounded to whole numbers.
_MIXING = ("linear", "bspline")


def warp_image(
    image: Image,
    frame: Frame,
    transform: sitk.Transform,
    *,
    interpolation: str = "linear",
    fill: float | None = None,
) -> Image:
    """Resample a moving image or label map on a fixed grid, as ITK does.

    Beyond the grid of a displacement field the displacement of its edge is used, see
    ``spatial.point_maps``, and a warning says how much of ``frame`` that concerns.

    Args:
        image: moving image.
        frame: where the result lies.
        transform: maps points of ``frame`` to points of ``image`` (mm).
        interpolation: as in ``resample``.
        fill: value outside of the image; by default its minimum, and 0 for the
            interpolations of labels.

    Returns:
        ``[*frame.shape]`` in the type of the image, or where ITK lacks that in the
        type of ``as_array``; whole numbers rounded.

    Raises:
        InputError: if the type of the image cannot hold ``fill``.
    """
    (warped,) = warp_images(
        [image], frame, transform, interpolation=interpolation, fills=[fill]
    )
    return warped


def warp_images(
    images: Sequence[Image],
    frame: Frame,
    transform: sitk.Transform,
    *,
    interpolation: str = "linear",
    fills: Sequence[float | None],
) -> list[Image]:
    """Resample several images on one grid, such as the channels of one.

    Args:
        images: as in ``warp_image``.
        frame: as in ``warp_image``.
        transform: as in ``warp_image``.
        interpolation: as in ``warp_image``.
        fills: ``fill`` of each image.

    Returns:
        The results of ``warp_image``.

    Raises:
        InputError: as ``warp_image``.
    """
    images = [replace(i, array=as_array(i.array, i.name)) for i in images]
    for image, fill in zip(images, fills, strict=True):
        _check_fill(image, fill)
    pieces = [
        [
            _typed(
                resample(
                    image,
                    part,
                    way,
                    interpolation=interpolation,
                    background=fill,
                    smooth=False,
                ),
                image.array.dtype,
                interpolation,
            )
            for image, fill in zip(images, fills, strict=True)
        ]
        for part, way in _parts(frame, transform, images[0].name)
    ]
    return [
        Image(
            arrays[0] if len(arrays) == 1 else np.concatenate(arrays), frame, image.name
        )
        for image, *arrays in zip(images, *pieces, strict=True)
    ]


def _parts(
    frame: Frame, transform: sitk.Transform, name: str
) -> Iterator[tuple[Frame, sitk.Transform]]:
    """Yield grids, slices of ``frame`` in turn, and a transform of ITK for each."""
    if not leaves_grid(transform, frame):
        yield frame, transform
        return
    mapped, outside = continued_map(transform), 0
    for _, part in split_frame(frame, _CHUNK):
        continued, left = _sampled(mapped, part)
        outside += left
        yield part, continued
    _warn_of_beyond(name, outside, frame)


def continue_over(
    transform: sitk.Transform, frame: Frame, name: str | None
) -> sitk.Transform:
    """Return a transform of ITK that maps the voxels of a grid as ``warp_image`` does.

    Args:
        transform: as in ``warp_image``.
        frame: the grid.
        name: of the image that it moves, for the warning of ``warp_image``; None for
            no warning.

    Returns:
        The transform itself, if no voxel lies beyond a grid of it.
    """
    if not leaves_grid(transform, frame):
        return transform
    continued, outside = _sampled(continued_map(transform), frame)
    if name is not None:
        _warn_of_beyond(name, outside, frame)
    return continued


def _sampled(mapped: CheckedMap, frame: Frame) -> tuple[sitk.Transform, int]:
    """Return an ITK transform that equals a map on a grid, and how many lay outside."""
    index = np.moveaxis(np.indices(frame.shape), 0, -1).reshape(-1, frame.ndim)
    points = to_world(frame, index)
    moved, beyond = mapped(points)
    vectors = (moved - points).reshape(*frame.shape, frame.ndim)
    return composite(frame, vectors, np.eye(frame.ndim + 1)), int(beyond.sum())


def _warn_of_beyond(name: str, outside: int, frame: Frame) -> None:
    if outside:
        _LOG.warning(
            "%s: %s of the result lies beyond the grid of the transform; the"
            " displacement of its edge is used there",
            name,
            f"{100 * outside / np.prod(frame.shape):.3g} %",
        )


def _check_fill(image: Image, fill: float | None) -> None:
    if fill is None:
        return
    dtype = image.array.dtype
    widest = np.finfo(np.float32 if dtype.kind in "iu" else dtype).max
    held = abs(fill) <= float(widest)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        held = held and info.min <= fill <= info.max and fill == round(fill)
    if not held:
        raise InputError(
            f"fill value {fill:g}: cannot be stored among the {dtype} values of"
            f" {image.name}; give another"
        )


def _typed(warped: Image, dtype: np.dtype, interpolation: str) -> np.ndarray:
    """Return the values in a type, rounded if it is one of whole numbers."""
    array = warped.array
    if dtype.kind in "iu" and interpolation in _MIXING:
        return round_to(array, dtype)
    return array.astype(dtype)


def warp_images_back(
    images: Sequence[Image],
    frame: Frame,
    transform: sitk.Transform,
    *,
    interpolation: str = "linear",
    fills: Sequence[float | None],
    progress: bool = False,
) -> tuple[list[Image], int]:
    """Resample fixed images or label maps on a moving grid, by the inverse transform.

    Args:
        images: of one grid.
        frame: where the result lies.
        transform: fixed to moving: points of ``images`` to points of ``frame`` (mm).
        interpolation: as for ``warp_images``.
        fills: as for ``warp_images``.
        progress: show a bar.

    Returns:
        The images, and the number of voxels of ``frame`` without an inverse, where the
        transform folds; they are background.

    Raises:
        InputError: if the transform has no inverse anywhere.
    """
    if sum(not part.IsLinear() for part in flatten(transform)) > 1:
        # No single grid shows all of it.
        inverse, _ = invert_transform(transform, progress=progress)
        lost = _unmatched(
            transform, inverse, frame, LOST * min(images[0].frame.spacing)
        )
    else:
        shown, fixed, known = images[0].frame, field_frame(transform), transform
        if fixed is None:
            fixed, known = shown, continue_over(transform, shown, None)
        vectors, errors = invert_on_grid(known, fixed, frame, progress=progress)
        inverse = composite(frame, vectors, np.eye(frame.ndim + 1))
        lost = errors > LOST * min(fixed.spacing)
        if leaves_grid(transform, shown):
            beyond = _shown_beyond(transform, shown, frame, vectors, lost)
            _warn_of_beyond(images[0].name, beyond, frame)
    warped = warp_images(
        images, frame, inverse, interpolation=interpolation, fills=fills
    )
    for image, result, fill in zip(images, warped, fills, strict=True):
        usual = image.array.min() if interpolation in _MIXING else 0
        result.array[lost] = usual if fill is None else fill
    return warped, int(lost.sum())


def _shown_beyond(
    transform: sitk.Transform,
    fixed: Frame,
    frame: Frame,
    vectors: np.ndarray,
    lost: np.ndarray,
) -> int:
    """Count the voxels that show a fixed point beyond the grid of the transform."""
    mapped, count = continued_map(transform), 0
    for rows, part in split_frame(frame, _CHUNK):
        points = to_world(part, np.moveaxis(np.indices(part.shape), 0, -1))
        points = (points + vectors[rows]).reshape(-1, frame.ndim)
        _, beyond = mapped(points)
        beyond &= ~is_outside(fixed, to_index(fixed, points))
        count += int((beyond & ~lost[rows].ravel()).sum())
    return count


def _unmatched(
    transform: sitk.Transform, inverse: sitk.Transform, frame: Frame, tolerance: float
) -> np.ndarray:
    """``[*frame.shape]`` bool, where the inverse does not lead back, within its grids.

    Beyond a grid the displacement of its edge stands for both, which is a guess anyway.
    """
    there, back = continued_map(transform), continued_map(inverse)
    parts = []
    for _, part in split_frame(frame, _CHUNK):
        points = to_world(part, np.moveaxis(np.indices(part.shape), 0, -1))
        points = points.reshape(-1, frame.ndim)
        found, left = back(points)
        again, left_again = there(found)
        off = np.linalg.norm(again - points, axis=-1) > tolerance
        parts.append((off & ~left & ~left_again).reshape(part.shape))
    return np.concatenate(parts)
