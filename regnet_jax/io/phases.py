"""Series of images over time, such as 4D CT: files and folders as phases in order."""

import functools
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from regnet_jax.errors import InputError, shown
from regnet_jax.io.dicom import is_multiframe, read_stack, split_series, stack_frame
from regnet_jax.io.dicom_phases import find_phases, natural_key
from regnet_jax.io.images import as_image, read_frame, read_image
from regnet_jax.io.volumes import read_volumes
from regnet_jax.spatial.frames import Frame
from regnet_jax.spatial.images import Image

_LOG = logging.getLogger(__name__)

# What ends the names of image files that a folder of phases may hold.
_SUFFIX = re.compile(
    r"\.(nii|nii\.gz|mha|mhd|nrrd|nhdr|mnc|h5|hdf5|png|jpe?g|tiff?)$", re.IGNORECASE
)


@dataclass(frozen=True, eq=False)
class Phase:
    """One image of a series.

    Attributes:
        name: unique in its series, and fit to name a folder.
        source: what the series calls it: a file name, or a description.
        frame: where its voxels lie.
        read: returns the image.
    """

    name: str
    source: str
    frame: Frame
    read: Callable[[], Image]


def read_phases(path) -> list[Phase]:
    """Find the phases of a series.

    Args:
        path: of a 4D image (NIfTI, NRRD, MetaImage; ``.seq.nrrd`` of 3D Slicer, too);
            of a folder with an image file for each phase, in the natural order of
            their names; or of a DICOM folder with a series for each phase or with one
            series of several times (``FOLDER::SERIES`` takes one of several).

    Returns:
        At least two phases, all 2D or all 3D; their grids may differ. A 4D file is
        read at once, the others when ``Phase.read`` is called.

    Raises:
        InputError: if it holds fewer phases, or one of them cannot be read.
    """
    file, series = split_series(path)
    images = _image_files(file) if file.is_dir() and not series else []
    if images:
        phases = _of_files(file, images)
    elif series or file.is_dir() or is_multiframe(file):
        phases = _of_dicom(file, series)
    else:
        phases = _of_volumes(file)
    for phase in phases:
        if phase.frame.ndim != phases[0].frame.ndim:
            raise InputError(
                f"{path}: {phases[0].source} is {phases[0].frame.ndim}D and"
                f" {phase.source} is {phase.frame.ndim}D; give phases of one dimension"
            )
    return phases


def as_phases(images, *, spacing=None) -> list[Phase]:
    """Return images in memory, or their paths, as phases.

    Args:
        images: a SimpleITK image in 4D, or a sequence of images, each as for
            ``as_image``.
        spacing: of those that are bare arrays.

    Returns:
        The phases, named by their number.

    Raises:
        InputError: as ``as_image``; or if there are fewer than two.
    """
    if isinstance(images, sitk.Image):
        if (d := images.GetDimension()) != 4:
            raise InputError(f"series: is a {d}D image; give one in 4D, or several")
        images = [images[:, :, :, k] for k in range(images.GetSize()[3])]
    if not hasattr(images, "__len__") or getattr(images, "ndim", 1) == 0:
        raise InputError(
            f"series: is of type {type(images).__name__}; give a path, a SimpleITK"
            " image in 4D, or a sequence of images"
        )
    if len(images) < 2:
        raise InputError("series: holds one phase or none; give two or more")
    phases = []
    for given, name in zip(images, number_phases(len(images)), strict=True):
        image = as_image(given, name, spacing=spacing)
        phases.append(_in_memory(image, name, image.name))
    return phases


def find_reference(phases: Sequence[Phase], reference: int | str | None) -> int:
    """Return the number of the phase that is meant.

    Args:
        phases: of the series.
        reference: number of a phase from 0, its name, or what the series calls it;
            None is the first. A name goes before a number.

    Returns:
        The number, from 0.

    Raises:
        InputError: if there is no such phase.
    """
    if reference is None:
        return 0
    if isinstance(reference, str):
        for number, phase in enumerate(phases):
            if reference in (phase.name, phase.source):
                return number
    if re.fullmatch(r"\d+", str(reference)) and int(reference) < len(phases):
        return int(reference)
    names = ", ".join(phase.source for phase in phases)
    raise InputError(
        f"reference: {shown(reference)} is no phase of the series; give a number from 0"
        f" to {len(phases) - 1}, or one of {names}"
    )


def number_phases(count: int) -> list[str]:
    """Return names of phases that have none: phase_0, phase_1, and so on."""
    width = len(str(count - 1))
    return [f"phase_{number:0{width}}" for number in range(count)]


def _check_count(path, count: int) -> None:
    if count < 2:
        raise InputError(
            f"{path}: holds one phase where two or more are needed; give a 4D image, a"
            " folder with an image for each phase, or a DICOM folder whose headers"
            " tell the phases apart"
        )


def _in_memory(image: Image, name: str, source: str) -> Phase:
    return Phase(name, source, image.frame, lambda: image)


def _image_files(folder: Path) -> list[Path]:
    """Return the image files in a folder that are not DICOM, in natural order."""
    files = [
        file
        for file in folder.iterdir()
        if file.is_file()
        and not file.name.startswith(".")
        and _SUFFIX.search(file.name)
    ]
    files.sort(key=lambda file: natural_key(_SUFFIX.sub("", file.name)))
    versions = sorted(
        files, key=lambda file: natural_key(_SUFFIX.sub("", file.name), decimals=False)
    )
    for one, other in zip(files, versions, strict=True):
        if one != other:
            _LOG.warning(
                "%s: %s is before %s, as the numbers in their names are taken for"
                " decimals; if they are not, write 1.05 instead of 1.5",
                *(folder, one.name, other.name),
            )
            break
    return files


def _of_files(folder: Path, files: Sequence[Path]) -> list[Phase]:
    _check_count(folder, len(files))
    phases = []
    for file in files:
        name = _SUFFIX.sub("", file.name)
        if name in (phase.name for phase in phases):
            raise InputError(
                f"{folder}: holds two files of {name}; keep one image for each phase"
            )
        read = functools.partial(read_image, file)
        phases.append(Phase(name, file.name, read_frame(file), read))
    return phases


def _of_dicom(path: Path, series: str) -> list[Phase]:
    found = find_phases(path, series)
    _check_count(path, len(found))
    phases = []
    for name, (label, stack) in zip(number_phases(len(found)), found, strict=True):
        title = f"{path}, {label}"

        def read(stack=stack, title=title):
            return as_image(Image(*read_stack(path, stack), title), title)

        phases.append(Phase(name, label, stack_frame(path, stack), read))
    return phases


def _of_volumes(path: Path) -> list[Phase]:
    """Return the frames of a 4D image, or the list of volumes of 3D Slicer."""
    volumes = read_volumes(path)
    if volumes.channels > 1 and not (volumes.layered and volumes.time is None):
        raise InputError(
            f"{path}: has {volumes.channels} components per voxel where one is needed;"
            " convert it to grey values or extract one component"
        )
    _check_count(path, len(volumes.images))
    return [
        _in_memory(Image(image.array, image.frame, f"{path}, {name}"), name, name)
        for name, image in zip(
            number_phases(len(volumes.images)), volumes.images, strict=True
        )
    ]
