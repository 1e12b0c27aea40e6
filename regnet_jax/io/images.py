"""Images, label maps and masks from and to files.

Everything that is read is checked; an unusable file raises ``InputError`` with one line
that names it.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.files import check_suffix, quietly, text_of, write_atomically
from regnet_jax.hounsfield import SCANNER_RANGE, hounsfield_offset, looks_like_ct
from regnet_jax.io.dicom import (
    count_slices,
    find_stack,
    is_multiframe,
    lacks_pixel_size,
    read_stack,
    rescale_file,
    split_series,
    stack_frame,
)
from regnet_jax.io.headers import check_header, header_frame, permissively
from regnet_jax.io.nifti import readable_by_itk
from regnet_jax.spatial.frames import Frame
from regnet_jax.spatial.images import (
    Image,
    as_array,
    check_kind,
    check_labels,
    checked_image,
    frame_of,
    from_nibabel,
    from_sitk,
    is_nibabel,
    straight_frame,
    to_sitk,
)
from regnet_jax.spatial.padding import fill_padding, find_padding
from regnet_jax.spatial.resampling import as_mask

_LOG = logging.getLogger(__name__)

# Formats that are written: a single file with origin, spacing and direction.
IMAGE_SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd")
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
# The lowest value that a scanner stores, HU.
_LOWEST = int(SCANNER_RANGE[0])
_IMAGES = "a SimpleITK or nibabel image, a path, a regnet_jax.Image or real numbers"
_UNREADABLE = "cannot be read; check that it is whole and may be read"


def has_geometry(given) -> bool:
    """Tell whether an input has a frame of its own, which a bare array has not."""
    known = isinstance(given, str | os.PathLike | sitk.Image | Image)
    return known or is_nibabel(given)


def as_image(given, name: str, *, spacing=None, frame: Frame | None = None) -> Image:
    """Return any kind of input as an image, with the checks of ``read_image``.

    Args:
        given: a SimpleITK image, an image of nibabel, an ``Image``, what ``read_image``
            takes, or a bare array with either of the following.
        name: in messages, for an input without a name.
        spacing: of a bare array, as in ``Image.from_array``.
        frame: where the voxels of a bare array lie.

    Returns:
        The image.

    Raises:
        InputError: as ``read_image`` and ``Image.from_array``; or a bare array without
            spacing and frame.
    """
    if isinstance(given, str | os.PathLike):
        return read_image(given)
    if isinstance(given, sitk.Image):
        components = given.GetNumberOfComponentsPerPixel()
        check_kind(name, given.GetDimension(), components)
        return checked_image(from_sitk(given, name))
    if isinstance(given, Image):
        return checked_image(given)
    if is_nibabel(given):
        return from_nibabel(given, name)
    array = as_array(given, name, wanted=_IMAGES)
    if frame is not None:
        return checked_image(Image(array, frame, name))
    if spacing is None:
        raise InputError(
            f"{name}: is an array, which does not say how large its voxels are; give"
            " spacing= in mm, (x, y, z) order, or a regnet_jax.Image"
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
    elif (count := count_slices(path)) > 1:
        _LOG.warning(
            "%s: is one of %d slices of its DICOM series, and is read alone; give the"
            " folder for all of them",
            *(path, count),
        )
    with open_image(path) as reader:
        check_kind(path, reader.GetDimension(), reader.GetNumberOfComponents())
        image = from_sitk(execute(reader, path), name)
    image = replace(image, array=rescale_file(path, image.array))
    warn_of_guess(path)
    return as_image(replace(image, frame=header_frame(path, image.frame)), name)


def warn_of_guess(path: Path) -> None:
    """Warn of a file that does not say how large its pixels are.

    Args:
        path: of an image that is read for its place, too.
    """
    if path.suffix.lower() in _PICTURES or lacks_pixel_size(path):
        # ITK takes 1 mm, or the dots per inch of a print.
        _LOG.warning(
            "%s: is a picture, which does not say how large its pixels are in mm, so"
            " the spacing is a guess; save it as .mha or .nii.gz with its spacing",
            path,
        )


def read_frame(path) -> Frame:
    """Read where the voxels of an image lie, from its header alone where possible.

    Args:
        path: as in ``read_image``.

    Returns:
        The frame.

    Raises:
        InputError: as ``read_image``, except for problems with the values.
    """
    path, series = split_series(path)
    if path.is_dir() or is_multiframe(path):
        stack = find_stack(path, series)
        if len(stack.slices) > 1 or path.is_file():
            return straight_frame(str(path), stack_frame(path, stack))
        path = stack.slices[0].file
    with open_image(path, values=False) as reader:
        check_kind(path, reader.GetDimension(), reader.GetNumberOfComponents())
        frame = frame_of(reader)
    return straight_frame(str(path), header_frame(path, frame))


@contextlib.contextmanager
def open_image(path: Path, *, values: bool = True) -> Iterator[sitk.ImageFileReader]:
    """Yield a reader that has read the header of an image file, which was checked.

    Args:
        path: of an image of any dimension and number of components.
        values: check the values, too, for which the whole file is read. Without them
            the reader gives what is in the header alone.

    Yields:
        The reader, for ``execute``.

    Raises:
        InputError: as ``read_image``.
    """
    with readable_by_itk(path, values=values) as readable:
        reader = sitk.ImageFileReader()
        reader.SetFileName(text_of(readable))

        def find_reader():
            # Opening it first gives the reason why a file cannot be opened.
            path.open("rb").close()
            return reader.GetImageIOFromFileName(str(readable))

        found = quietly(find_reader, path, _UNREADABLE)
        check_header(path, found, values=values)
        quietly(lambda: permissively(reader.ReadImageInformation), path, _UNREADABLE)
        yield reader


def execute(reader: sitk.ImageFileReader, path: Path) -> sitk.Image:
    """Return the image of a reader, within ``open_image``."""
    return quietly(lambda: permissively(reader.Execute), path, _UNREADABLE)


def read_ct(path) -> Image:
    """Read an image in Hounsfield units.

    Padding beside the field of view (see ``find_padding``) becomes -1024. Values that
    are stored as HU + 1024 are shifted back, with a warning.

    Args:
        path: as in ``read_image``.

    Returns:
        The image, with no value below -1024.

    Raises:
        InputError: as ``read_image``; and if the values are not Hounsfield units.
    """
    image = read_image(path)
    padding = find_padding(image.array, grow=0)
    seen = image.array if padding is None else image.array[~padding]
    low, high = seen.min(), seen.max()
    offset = hounsfield_offset(seen)
    if offset is None and looks_like_ct(image.array, padding):
        offset = 0
    if offset is None:
        raise InputError(
            f"{Path(path)}: its values, {low:g} to {high:g}, are not Hounsfield units;"
            " convert it, so that air is -1000 and water 0"
        )
    array = image.array
    if offset:
        _LOG.warning(
            "%s: its values, %g to %g, are taken for HU + %d; %d is subtracted",
            *(path, low, high, -offset, -offset),
        )
        array = array.astype(np.float32) + offset
    if array.min() < _LOWEST:
        array = np.maximum(array, array.dtype.type(_LOWEST))
    if padding is not None:
        array = fill_padding(array, padding, _LOWEST).astype(array.dtype)
    return replace(image, array=array)


def read_labels(path) -> Image:
    """Read a label map: a whole number for each structure, 0 for background.

    Args:
        path: as in ``read_image``.

    Returns:
        The label map.

    Raises:
        InputError: as ``read_image``, and if a value has a fraction or is above 2^53.
    """
    return check_labels(read_image(path))


def write_image(path, array, frame: Frame) -> None:
    """Write a scalar or vector image, atomically.

    Args:
        path: .nii.gz, .nii, .mha or .nrrd; all but .nii are compressed.
        array: ``[*frame.shape]`` or ``[*frame.shape, c]``, of any type that ITK knows.
        frame: where the voxels lie. NIfTI keeps it in single precision.

    Raises:
        InputError: unknown suffix, missing or unwritable folder, full disk.
    """
    check_suffix(path, IMAGE_SUFFIXES)
    image = to_sitk(array, frame)
    write_atomically(path, lambda name: sitk.WriteImage(image, name, True))


def read_mask(path, frame: Frame | None = None) -> Image:
    """Read a mask as zeros and ones (uint8).

    In an image of whole numbers (labels, 0 and 255, True and False) every value but
    zero is inside; in one of fractions (probabilities, resampled masks) every value
    above half of the maximum. Values within 0.001 of a whole number are rounded first.

    Args:
        path: as for ``read_image``.
        frame: grid to which the mask is resampled by nearest neighbour; None keeps its
            own.

    Returns:
        The mask.

    Raises:
        InputError: as ``read_image``; and if the mask is of another dimension
            than the frame, or has negative values, or nothing is inside.
    """
    return as_mask(read_image(path), frame)
