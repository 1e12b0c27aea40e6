"""Images from and to files, checked at the edge.

Whatever cannot be used raises ``InputError`` with one line that names the file.
"""

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError, shown
from regnet_jax.io.arrays import as_array, as_numbers
from regnet_jax.io.dicom import (
    find_stack,
    is_multiframe,
    read_stack,
    split_series,
    stack_frame,
)
from regnet_jax.io.frames import Frame, cosines, straighten
from regnet_jax.io.headers import check_header
from regnet_jax.io.native import quietly, text_of
from regnet_jax.io.nifti import header_frame, permissively

_LOG = logging.getLogger(__name__)

# Directions are held in few digits: what moves no voxel by more than this fraction
# of one is mended without a word, and up to this skew (a sine) with a warning.
_MOVED, _SKEW = 0.1, 2e-3
# Of single precision: a value beyond which, or below whose inverse, it may end, and
# the fewest steps that make an image.
_LARGEST, _STEPS = 1e30, 16
# A nanometre to a metre, mm.
_SPACINGS = (1e-6, 1e3)
_ORDER = {2: "(x, y)", 3: "(x, y, z)"}
_IMAGES = "a SimpleITK image, a path, a regnet_jax.io.Image or an array of real numbers"
_UNREADABLE = "cannot be read; check that it is whole and may be read"


@dataclass(frozen=True, eq=False)
class Image:
    """A scalar image in the world.

    Attributes:
        array: ``[z, y, x]`` or ``[y, x]``, in the type the file has.
        frame: where its voxels lie.
        name: what messages call it, usually its path.
    """

    array: np.ndarray
    frame: Frame
    name: str

    @classmethod
    def from_array(
        cls, array, spacing, origin=None, direction=None, *, name: str = "array"
    ) -> "Image":
        """An image of an array, checked as one from a file is.

        The axes of the array are (z, y, x) or (y, x), as in NumPy; what is in
        millimetres is in (x, y, z) or (x, y) order, as in SimpleITK. So an array of 40
        slices, 3 mm apart, of 256 x 256 voxels of 0.7 mm has the shape
        ``(40, 256, 256)`` and the spacing ``(0.7, 0.7, 3)``.

        Args:
            array: ``[z, y, x]`` or ``[y, x]`` real numbers of any type and layout,
                see ``as_array``.
            spacing: mm between voxel centres, x first; one number for all axes.
            origin: mm, x first, of the centre of voxel zero; by default zero.
            direction: d x d cosines as ITK has them; by default the identity.
            name: what messages call the image.

        Returns:
            The image.

        Raises:
            InputError: the array is none of an image, or there is no such grid.
        """
        array = as_array(array, name)
        d = _check_axes(array, name)
        frame = Frame(
            shape=array.shape,
            spacing=_spacing(spacing, d, name),
            origin=np.zeros(d) if origin is None else as_numbers(origin, "origin"),
            direction=np.eye(d) if direction is None else direction,
        )
        return _checked(cls(array, frame, name))


def from_sitk(image: sitk.Image, name: str) -> Image:
    """The array (channels last, if it has any) and frame of a SimpleITK image."""
    frame = Frame(
        shape=image.GetSize()[::-1],
        spacing=image.GetSpacing(),
        origin=image.GetOrigin(),
        direction=image.GetDirection(),
    )
    return Image(sitk.GetArrayFromImage(image), frame, name)


def to_sitk(array, frame: Frame) -> sitk.Image:
    """A SimpleITK image of ``[*frame.shape]``, or ``[*frame.shape, c]`` vectors.

    Types that ITK lacks are widened, see ``as_array``.

    Raises:
        InputError: the array holds no real numbers or has another shape.
    """
    array = as_array(array, "array")
    if array.shape[: frame.ndim] != frame.shape or array.ndim > frame.ndim + 1:
        raise InputError(
            f"array: has shape {array.shape} on a grid of {frame.shape}; give an array"
            " of the grid"
        )
    image = sitk.GetImageFromArray(array, isVector=array.ndim > frame.ndim)
    image.SetSpacing(frame.spacing)
    image.SetOrigin(frame.origin)
    image.SetDirection(frame.direction)
    return image


def has_geometry(given) -> bool:
    """Whether what is given says where its voxels lie; a bare array does not."""
    return isinstance(given, str | os.PathLike | sitk.Image | Image)


def as_image(given, name: str, *, spacing=None, frame: Frame | None = None) -> Image:
    """An image however it is given, checked as one from a file is.

    Args:
        given: a SimpleITK image, an ``Image``, what ``read_image`` takes, or a bare
            array with either of the following.
        name: what messages call it, where it has none.
        spacing: of a bare array, as in ``Image.from_array``.
        frame: where the voxels of a bare array lie.

    Raises:
        InputError: as ``read_image`` and ``Image.from_array``; or a bare array comes
            alone.
    """
    if isinstance(given, str | os.PathLike):
        return read_image(given)
    if isinstance(given, sitk.Image):
        components = given.GetNumberOfComponentsPerPixel()
        _check_kind(name, given.GetDimension(), components)
        return _checked(from_sitk(_without_runs(given), name))
    if isinstance(given, Image):
        return _checked(given)
    array = as_array(given, name, wanted=_IMAGES)
    if frame is not None:
        return _checked(Image(array, frame, name))
    if spacing is None:
        raise InputError(
            f"{name}: is an array, which does not say how large its voxels are; give"
            " spacing= in mm, (x, y, z) order, or a regnet_jax.io.Image"
        )
    return Image.from_array(array, spacing, name=name)


def read_image(path) -> Image:
    """Read a scalar 2D or 3D image, or a DICOM series.

    Args:
        path: .mha, .mhd, .nii, .nii.gz, .nrrd, .png, .tif, DICOM and a few more; a
            folder of DICOM, or ``FOLDER::SERIES`` with the number, description or
            UID of a series in it.

    Returns:
        The image with all its values finite. A 3D file of one slice stays 3D.

    Raises:
        InputError: missing, unreadable or truncated file; several components;
            not 2D or 3D; NaN or infinite values; an impossible spacing, origin
            or direction.
    """
    path, series = split_series(path)
    name = str(path) + f"::{series}" * bool(series)
    if path.is_dir() or is_multiframe(path):
        stack = find_stack(path, series)
        if len(stack.slices) > 1 or path.is_file():
            return as_image(Image(*read_stack(path, stack), name), name)
        path = stack.slices[0].file
    image = from_sitk(_read_file(path), name)
    return as_image(replace(image, frame=header_frame(path, image.frame)), name)


def check_pair(fixed: Image, moving: Image) -> None:
    """Raise InputError unless the two images can be registered to each other.

    Registration computes in single precision, so their contrast must survive that.
    """
    if fixed.frame.ndim != moving.frame.ndim:
        raise InputError(
            f"{fixed.name} is {fixed.frame.ndim}D and {moving.name} is"
            f" {moving.frame.ndim}D; give two images of the same dimension"
        )
    for image in (fixed, moving):
        _check_contrast(image)


def _check_contrast(image: Image) -> None:
    low, high = image.array.min().item(), image.array.max().item()
    if low == high:
        raise InputError(
            f"{image.name}: has the same value everywhere, so there is nothing"
            " to register; check that it is the right file"
        )
    extremes = f"{image.name}: its values lie between {low:.9g} and {high:.9g}"
    largest = max(-low, high)
    if largest > _LARGEST or high - low < 1 / _LARGEST:
        raise InputError(
            f"{extremes}, beyond single precision; scale them, for example to 0 to 1000"
        )
    if high - low < _STEPS * float(np.spacing(np.float32(largest))):
        raise InputError(
            f"{extremes}, too close together for single precision; subtract {low:.9g}"
        )


def read_frame(path) -> Frame:
    """Where the voxels of an image lie, from its header alone where that is enough.

    Args:
        path: as in ``read_image``.

    Returns:
        The frame.

    Raises:
        InputError: as ``read_image`` raises, but for what only the values tell.
    """
    path, series = split_series(path)
    if path.is_dir() or is_multiframe(path):
        stack = find_stack(path, series)
        if len(stack.slices) > 1 or path.is_file():
            return straight_frame(str(path), stack_frame(path, stack))
        path = stack.slices[0].file
    reader = _open(path)
    frame = Frame(
        shape=reader.GetSize()[::-1],
        spacing=reader.GetSpacing(),
        origin=reader.GetOrigin(),
        direction=reader.GetDirection(),
    )
    return straight_frame(str(path), header_frame(path, frame))


def _read_file(path: Path) -> sitk.Image:
    reader = _open(path)
    return quietly(lambda: permissively(reader.Execute), path, _UNREADABLE)


def _open(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(text_of(path))

    def find_reader():
        # Opening first gives the reason where the file may not be read at all.
        path.open("rb").close()
        return reader.GetImageIOFromFileName(str(path))

    check_header(path, quietly(find_reader, path, _UNREADABLE))
    quietly(lambda: permissively(reader.ReadImageInformation), path, _UNREADABLE)
    _check_kind(path, reader.GetDimension(), reader.GetNumberOfComponents())
    return reader


def _check_kind(path, dimension: int, components: int) -> None:
    if components != 1:
        raise InputError(
            f"{path}: has {components} components per voxel where one is needed;"
            " convert it to grey values or extract one component"
        )
    if dimension not in (2, 3):
        raise InputError(
            f"{path}: is {dimension}D where 2D or 3D is needed; extract one volume"
        )


def _checked(image: Image) -> Image:
    """An image whose array and grid are known from a program, not from a file."""
    name, frame = image.name, image.frame
    if not isinstance(frame, Frame):
        raise InputError(
            f"{name}: its frame is of type {type(frame).__name__}; give a"
            " regnet_jax.io.Frame"
        )
    array = as_array(image.array, name)
    if array.shape != frame.shape:
        raise InputError(
            f"{name}: has shape {array.shape} on a grid of {frame.shape} voxels; give"
            " one value for each voxel of the grid"
        )
    d = _check_axes(array, name)
    _spacing(frame.spacing, d, name)
    image = Image(array, straight_frame(name, frame), name)
    _check_values(image)
    return image


def _check_axes(array: np.ndarray, name: str) -> int:
    """The dimension of the image that an array is."""
    if array.ndim not in (2, 3):
        raise InputError(
            f"{name}: has shape {array.shape}; give [z, y, x] or [y, x], one channel of"
            " one image, such as array[0, ..., 0] of [batch, z, y, x, channel]"
        )
    if not array.size:
        raise InputError(f"{name}: has shape {array.shape}; give one with voxels")
    return array.ndim


def _spacing(given, d: int, name: str) -> np.ndarray:
    """``[d]`` mm, x first."""
    spacing = as_numbers(given, f"{name}, spacing")
    if spacing.shape not in ((), (d,)) or not (spacing > 0).all():
        raise InputError(
            f"{name}: its spacing is {shown(given)}; give one number above zero, or"
            f" {d} of them in {_ORDER[d]} order, in mm"
        )
    return np.broadcast_to(spacing, d)


def _without_runs(image: sitk.Image) -> sitk.Image:
    """A label map of ITK, which is kept as runs, as an image; any other as it is."""
    if "label of" in image.GetPixelIDTypeAsString():
        return sitk.LabelMapToLabel(image)
    return image


def straight_frame(name: str, frame: Frame) -> Frame:
    """The frame with an orthonormal direction, where it lacks that by rounding only.

    Args:
        name: what messages call the image.
        frame: with any direction.

    Raises:
        InputError: if its axes are sheared or not of length 1.
    """
    matrix = cosines(frame)
    lengths = np.linalg.norm(matrix, axis=0)
    gram = matrix.T @ matrix
    deviation = np.abs(gram - np.eye(frame.ndim)).max()
    if deviation < 1e-6:
        return frame
    moved = np.inf
    # Not so where it is NaN.
    if deviation < 0.5:
        straight, moved = straighten(frame)
    if moved <= _MOVED:
        return straight
    if moved < np.inf and deviation <= _SKEW:
        _LOG.warning(
            "%s: its direction matrix is not quite orthonormal; the nearest rotation is"
            " taken, which moves its corners by up to %.2g voxels",
            name,
            moved,
        )
        return straight
    if np.isfinite(lengths).all() and lengths.all():
        sines = np.abs(gram / np.outer(lengths, lengths) - np.eye(frame.ndim))
        angle = np.degrees(np.arcsin(min(sines.max(), 1.0)))
        fact = f"its axes are {angle:.3g} degrees off a right angle"
        if angle < 0.01:
            fact = "its axes are not of length 1"
    else:
        fact = "it is singular or not finite"
    raise InputError(
        f"{name}: its direction matrix is not orthonormal ({fact}); resample it to an"
        " orthogonal grid or correct its header"
    )


def _check_values(image: Image) -> None:
    if not np.isfinite(image.frame.origin).all():
        raise InputError(f"{image.name}: its origin is not finite; correct its header")
    low, high = _SPACINGS
    if not all(low <= size <= high for size in image.frame.spacing):
        raise InputError(
            f"{image.name}: its spacing is {image.frame.spacing} mm, which no image"
            f" has; give millimetres, {low:g} to {high:g}"
        )
    bad = int(np.size(image.array) - np.isfinite(image.array).sum())
    if bad:
        share = "all" if bad == image.array.size else f"{bad} of {image.array.size}"
        raise InputError(
            f"{image.name}: {share} of its values are NaN or infinite; replace them,"
            " for example by the background"
        )
