"""Images from and to files, checked at the edge.

Whatever cannot be used raises ``InputError`` with one line that names the file.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.io.frames import Frame, cosines
from regnet_jax.io.headers import check_header
from regnet_jax.io.native import quietly

_ORTHONORMAL_TOLERANCE = 1e-3
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

    Types that ITK lacks are widened: bool to uint8, half precision to float32.
    """
    array = np.asarray(array)
    if array.shape[: frame.ndim] != frame.shape or array.ndim > frame.ndim + 1:
        raise ValueError(f"array of {array.shape} on a grid of {frame.shape}")
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif array.dtype.kind not in "iu" and array.dtype.itemsize < 4:
        array = array.astype(np.float32)
    image = sitk.GetImageFromArray(array, isVector=array.ndim > frame.ndim)
    image.SetSpacing(frame.spacing)
    image.SetOrigin(frame.origin)
    image.SetDirection(frame.direction)
    return image


def as_image(given, name: str) -> Image:
    """An image however it is given, checked as one from a file is.

    Args:
        given: a SimpleITK image, an ``Image``, or what ``read_image`` takes.
        name: what messages call it, where it has none.

    Raises:
        InputError: as ``read_image``.
    """
    if isinstance(given, str | Path):
        return read_image(given)
    image = given
    if isinstance(given, sitk.Image):
        components = given.GetNumberOfComponentsPerPixel()
        _check_kind(name, given.GetDimension(), components)
        image = from_sitk(given, name)
    if not isinstance(image, Image):
        raise InputError(
            f"{name}: is a {type(given).__name__}; give a SimpleITK image, a path, or"
            " a regnet_jax.io.Image"
        )
    _check_direction(image)
    _check_values(image)
    return image


def read_image(path) -> Image:
    """Read a scalar 2D or 3D image, or a folder that holds one DICOM series.

    Args:
        path: .mha, .mhd, .nii, .nii.gz, .nrrd, .png, .tif, DICOM and a few more.

    Returns:
        The image with all its values finite. A 3D file of one slice stays 3D.

    Raises:
        InputError: missing, unreadable or truncated file; several components;
            not 2D or 3D; NaN or infinite values; an impossible spacing, origin
            or direction.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: does not exist; check the path")
    image = from_sitk(_read_series(path) if path.is_dir() else _read_file(path), "")
    image = Image(image.array, image.frame, str(path))
    _check_direction(image)
    _check_values(image)
    return image


def check_pair(fixed: Image, moving: Image) -> None:
    """Raise InputError unless the two images can be registered to each other."""
    if fixed.frame.ndim != moving.frame.ndim:
        raise InputError(
            f"{fixed.name} is {fixed.frame.ndim}D and {moving.name} is"
            f" {moving.frame.ndim}D; give two images of the same dimension"
        )
    for image in (fixed, moving):
        if image.array.min() == image.array.max():
            raise InputError(
                f"{image.name}: has the same value everywhere, so there is nothing"
                " to register; check that it is the right file"
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
    path = Path(path)
    if path.is_dir():
        return read_image(path).frame
    if not path.exists():
        raise InputError(f"{path}: does not exist; check the path")
    reader = _open(path)
    frame = Frame(
        shape=reader.GetSize()[::-1],
        spacing=reader.GetSpacing(),
        origin=reader.GetOrigin(),
        direction=reader.GetDirection(),
    )
    _check_direction(Image(np.empty(0), frame, str(path)))
    return frame


def _read_file(path: Path) -> sitk.Image:
    return quietly(_open(path).Execute, path, _UNREADABLE)


def _open(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))

    def find_reader():
        # Opening first gives the reason where the file may not be read at all.
        path.open("rb").close()
        return reader.GetImageIOFromFileName(str(path))

    check_header(path, quietly(find_reader, path, _UNREADABLE))
    quietly(reader.ReadImageInformation, path, _UNREADABLE)
    _check_kind(path, reader.GetDimension(), reader.GetNumberOfComponents())
    return reader


def _read_series(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    series = quietly(lambda: reader.GetGDCMSeriesIDs(str(folder)), folder, _UNREADABLE)
    if not series:
        raise InputError(
            f"{folder}: is a folder without a DICOM series; give an image file"
        )
    if len(series) > 1:
        raise InputError(
            f"{folder}: holds {len(series)} DICOM series ({', '.join(series)});"
            " move the one to use to a folder of its own"
        )
    names = reader.GetGDCMSeriesFileNames(str(folder), series[0])
    reader.SetFileNames(names)
    image = quietly(reader.Execute, folder, _UNREADABLE)
    _check_kind(folder, image.GetDimension(), image.GetNumberOfComponentsPerPixel())
    if image.HasMetaDataKey("ITK_non_uniform_sampling_deviation"):
        raise InputError(
            f"{folder}: its slices are not evenly spaced, one may be missing;"
            " export the series again"
        )
    return image


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


def _check_direction(image: Image) -> None:
    matrix = cosines(image.frame)
    deviation = np.abs(matrix.T @ matrix - np.eye(image.frame.ndim)).max()
    if not deviation < _ORTHONORMAL_TOLERANCE:
        raise InputError(
            f"{image.name}: its direction matrix is not orthonormal; resample it to"
            " an orthogonal grid or correct its header"
        )


def _check_values(image: Image) -> None:
    if not np.isfinite(image.frame.origin).all():
        raise InputError(f"{image.name}: its origin is not finite; correct its header")
    bad = int(np.size(image.array) - np.isfinite(image.array).sum())
    if bad:
        share = "all" if bad == image.array.size else f"{bad} of {image.array.size}"
        raise InputError(
            f"{image.name}: {share} of its values are NaN or infinite; replace them,"
            " for example by the background"
        )
