"""DICOM series as volumes: finding, sorting, checking and reading the slices.

Headers are read by pydicom, values by SimpleITK (GDCM, which decompresses). ITK alone
takes the first two slices for the spacing and the normal of the first for the
direction, so that a tilted gantry is read as if it were straight, and it does not
tell the positions of the frames of a multi-frame file.
"""

import contextlib
import logging
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from regnet_jax.errors import InputError
from regnet_jax.files import check_no_pipe, quietly, text_of
from regnet_jax.spatial.frames import Frame

_LOG = logging.getLogger(__name__)

# Stands between a folder and the series to read from it.
_SEPARATOR = "::"
# Slices are parallel if their orientations (cosines) and pixel sizes (relative) differ
# by no more.
_PARALLEL = 2e-3
# Tolerated deviation from the grid, as a fraction of the slice distance or a pixel.
_ON_GRID = 0.1
_UNREADABLE = "cannot be read; check that it is whole and may be read"
# A scout has no more slices than this.
SCOUT = 2
# A resampled volume may have at most this many times the pixels of its slices.
_GROWTH = 4.0
# At most this many irregularities are listed in a message.
_LISTED = 4
# What may tell the slices of one position apart in time, from the surest on. A file of
# many frames has the index in its groups, where others have the identifier.
TIMES = ("TemporalPositionIdentifier", "TriggerTime", "AcquisitionNumber")
# What may give the size of pixels, beside the spacing in a patient.
_OTHER_SIZES = (
    "ImagerPixelSpacing",
    "ImagePlanePixelSpacing",
    "NominalScannedPixelSpacing",
)
_REGIONS = "SequenceOfUltrasoundRegions"
# Their unit, by its number in DICOM, in mm.
_CM, _MM_PER_CM = 3, 10.0
_TAGS = (
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "Modality",
    "PatientID",
    "InstanceNumber",
    "ImageType",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PhotometricInterpretation",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "GridFrameOffsetVector",
    "DoseGridScaling",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    *_OTHER_SIZES,
    _REGIONS,
    *TIMES,
)
# Modalities whose values have a unit, which stays however they are shown.
_WITH_UNIT = ("CT", "PT")


@dataclass(frozen=True, eq=False)
class Slice:
    """A plane of pixels in the world.

    Attributes:
        file: that holds it.
        label: name in messages.
        frame: its index in a file of several frames, else 0.
        size: rows, columns.
        position: ``[3]`` mm, of its first pixel; None where the file says nothing.
        orientation: ``[2, 3]`` directions in which columns and rows count up.
        spacing: mm between columns and between rows.
        scaling: slope and intercept from stored values, and how those are stored.
        applied: the same as GDCM applies it to all frames of the file.
        fault: why GDCM does not give the values, in words; else "".
        times: by those of ``TIMES`` that the file says.
        segment: of a segmentation, which it shows; else 0.
    """

    file: Path
    label: str
    frame: int
    size: tuple[int, int]
    position: np.ndarray | None
    orientation: np.ndarray | None
    spacing: np.ndarray | None
    scaling: tuple
    applied: tuple
    fault: str
    times: dict[str, float]
    segment: int


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices of a series that are parallel and of one size.

    Attributes:
        uid: of the series.
        number: of the series, as the scanner counted it.
        description: of the series.
        modality: CT, MR, ...
        slices: in any order.
    """

    uid: str
    number: str
    description: str
    modality: str
    slices: list[Slice]


def split_series(path) -> tuple[Path, str]:
    """Split ``FOLDER::SERIES`` into a path and the DICOM series in it.

    Args:
        path: of a file, of a folder, or a folder, ``::`` and the number, description
            or UID of a series in it.

    Returns:
        The path of an existing file or folder, and the series, or "".

    Raises:
        InputError: if there is no such file or folder.
    """
    text = text_of(path)
    if os.path.exists(text):
        check_no_pipe(text)
        return Path(text), ""
    folder, found, series = text.partition(_SEPARATOR)
    while found:
        if os.path.isdir(folder):
            return Path(folder), series.strip()
        more, found, series = series.partition(_SEPARATOR)
        folder += _SEPARATOR + more
    raise InputError(f"{text}: does not exist; check the path")


def is_multiframe(path: Path) -> bool:
    """Tell whether a file is a DICOM file of several frames."""
    return len(_slices(path, _header(path))) > 1


def is_dicom(file: Path) -> bool:
    """Tell whether a file is DICOM, by its content.

    Raises:
        InputError: if the file cannot be read, or is marked as DICOM and damaged.
    """
    return _header(file) is not None


def lacks_pixel_size(file: Path) -> bool:
    """Tell whether a file is DICOM that does not say how large its pixels are."""
    header = _header(file)
    is_image = bool(_slices(file, header))
    return is_image and _pixel_size(file, header) is None


def sized_frame(file: Path, frame: Frame) -> Frame:
    """Return the frame of a DICOM file of one plane, with the size of its pixels.

    GDCM takes it from one element for each kind of image, and 1 mm without that.

    Args:
        file: in any format.
        frame: as GDCM gives it.

    Returns:
        ``frame`` itself if the file is not DICOM, or does not say the size.
    """
    size = _pixel_size(file, _header(file))
    if size is None:
        return frame
    return replace(frame, spacing=(*size.tolist(), *frame.spacing[2:]))


def _pixel_size(file: Path, header) -> np.ndarray | None:
    """Return mm between columns and between rows, from the surest that says it."""
    found = [each.spacing for each in _slices(file, header)[:1]]
    if not found:
        return None
    for tag in _OTHER_SIZES:
        with contextlib.suppress(ValueError):
            size = _numbers(header, tag, 2)
            found.append(None if size is None else size[::-1])
    # Those of an ultrasound may differ, as of an image and a spectrum.
    regions = {
        tuple(float(region.get(f"PhysicalDelta{axis}") or 0) for axis in "XY")
        for region in header.get(_REGIONS) or ()
        if {region.get(f"PhysicalUnits{axis}Direction") for axis in "XY"} == {_CM}
    }
    if len(regions) == 1:
        found.append(np.abs(regions.pop()) * _MM_PER_CM)
    return next((s for s in found if s is not None and (s > 0).all()), None)


def count_slices(file: Path) -> int:
    """Count the files of the DICOM series of a file that lie in its folder.

    Args:
        file: any.

    Returns:
        Their number with the file itself, without damaged ones; 1 if it is not DICOM.

    Raises:
        InputError: if the header of the file itself cannot be read.
    """

    def uid_of(one: Path) -> str:
        header = _header(one)
        return "" if header is None else _text(header, "SeriesInstanceUID")

    uid, count = uid_of(file), 1
    if not uid:
        return count
    for other in file.parent.iterdir():
        if other.is_file() and other.name != file.name:
            # Another file, which nobody asked for, may be damaged.
            with contextlib.suppress(InputError):
                count += uid_of(other) == uid
    return count


def find_stack(path: Path, series: str) -> Stack:
    """Find the volume in a folder or in a file of several frames.

    Args:
        path: of a folder, whose folders are searched too, or of a file.
        series: number, description or UID of the series to take; "" for the only one.
            If all others are scouts, the series of many slices is taken with a warning.

    Returns:
        The slices of the volume.

    Raises:
        InputError: if there is no such series, if several match, or if a header cannot
            be read.
    """
    chosen = find_stacks(path, series)
    if len(chosen) == 1:
        return chosen[0]
    volumes = [stack for stack in chosen if len(stack.slices) > SCOUT]
    if len(volumes) != 1:
        remedy = "move the files to use to a folder of their own"
        if len({stack.uid for stack in chosen}) > 1:
            remedy = (
                "name one by its number, description or UID, as in"
                f" {path}{_SEPARATOR}{chosen[0].uid}"
            )
        raise InputError(
            f"{path}: holds {len(chosen)} DICOM series or parts of one:"
            f" {describe_stacks(chosen)}; {remedy}"
        )
    _LOG.warning(
        "%s: holds %s; the only one of more than %d slices is used, %s",
        *(path, describe_stacks(chosen), SCOUT, describe_stacks(volumes)),
    )
    return volumes[0]


def find_stacks(path: Path, series: str) -> list[Stack]:
    """Find all stacks of parallel slices in a folder or in a file of several frames.

    Args:
        path: as in ``find_stack``.
        series: number, description or UID of the series to take; "" for all.

    Returns:
        At least one, ordered by series.

    Raises:
        InputError: if there is no such series, or if a header cannot be read.
    """
    files = [path] if path.is_file() else _files(path)
    stacks = _stacks(files)
    if not stacks:
        raise InputError(
            f"{path}: is a folder without a DICOM series; give an image file"
        )
    chosen = stacks
    if series:
        chosen = [s for s in stacks if series in (s.uid, s.number, s.description)]
    if not chosen:
        raise InputError(
            f"{path}: holds no series {series}; it holds {describe_stacks(stacks)}"
        )
    return chosen


def stack_frame(path: Path, stack: Stack) -> Frame:
    """Return the straight grid on which ``read_stack`` gives a stack.

    Args:
        path: named in messages.
        stack: the slices.

    Returns:
        The grid.

    Raises:
        InputError: as ``read_stack``, except for problems with the values.
    """
    return _grid(path, stack)[1]


def read_stack(path: Path, stack: Stack) -> tuple[np.ndarray, Frame]:
    """Read a stack as a volume.

    Where the slices do not follow each other along their normal, as from a tilted
    gantry, each is shifted in its plane by linear interpolation, and voxels that no
    slice shows get the minimum of all.

    Args:
        path: named in messages.
        stack: of at least two slices.

    Returns:
        ``[z, y, x]`` values in the type they have after rescaling, and their frame.

    Raises:
        InputError: if slices lie at one position, are missing or unevenly spaced, or
            a file cannot be read.
    """
    slices, frame, shifts = _grid(path, stack)
    array = _values(path, slices)
    if shifts is None:
        return array, frame
    return _shifted(array, frame.shape, shifts), frame


def _files(folder: Path) -> list[Path]:
    """Return all files below a folder; a part that is left out is told."""

    def refuse(error: OSError):
        raise InputError(
            f"{error.filename}: cannot be read ({error.strerror}); check that it may be"
            " read"
        )

    found, links = [], []
    for root, folders, names in os.walk(folder, onerror=refuse):
        found += [Path(root, name) for name in names]
        links += [each for name in folders if (each := Path(root, name)).is_symlink()]
    links += [file for file in found if file.is_symlink() and not file.exists()]
    if links:
        _LOG.warning(
            "%s: %s and %d more are links to folders, or to files that are missing, and"
            " are left out; copy there what they stand for",
            *(folder, links[0].relative_to(folder), len(links) - 1),
        )
    return sorted(file for file in found if file.is_file())


def _header(file: Path):
    """Return the elements of a file that are needed; None if it is not DICOM."""
    try:
        with file.open("rb") as opened:
            start = opened.read(132)
    except OSError as error:
        raise InputError(
            f"{file}: cannot be read ({error.strerror}); check that it may be read"
        ) from error
    marked = start[128:] == b"DICM"
    # Old files lack the mark and begin with the first group.
    if not marked and start[:2] not in (b"\x02\0", b"\x08\0"):
        return None
    # Imported here, since it loads slowly and only DICOM needs it.
    import pydicom

    with warnings.catch_warnings():
        # Warnings about values that do not quite follow the standard.
        warnings.simplefilter("ignore")
        try:
            header = pydicom.dcmread(
                file, stop_before_pixels=True, force=True, specific_tags=list(_TAGS)
            )
            # pydicom parses values when they are first accessed.
            return header if list(header) else None
        # Any error: the file is damaged, or only begins like DICOM.
        except Exception as error:
            if marked:
                raise _damaged(file) from error
            return None


def _damaged(file: Path) -> InputError:
    return InputError(
        f"{file}: its DICOM header cannot be read; copy or export it again, or take it"
        " out of the folder"
    )


def _stacks(files) -> list[Stack]:
    """Return the stacks of all images among DICOM files, ordered by series."""
    stacks: dict[tuple[str, str], list[Stack]] = {}
    for file in files:
        header = _header(file)
        for each in _slices(file, header):
            # Removing names may give the series of two patients one UID.
            key = _text(header, "SeriesInstanceUID"), _text(header, "PatientID")
            own = stacks.setdefault(key, [])
            stack = next((s for s in own if _parallel(s.slices[0], each)), None)
            if stack is None:
                values = (_text(header, tag) for tag in _TAGS[:4])
                own.append(stack := Stack(*values, slices=[]))
            stack.slices.append(each)
    return [stack for key in sorted(stacks) for stack in stacks[key]]


def _text(header, tag: str) -> str:
    value = header.get(tag)
    return "" if value is None else str(value).strip()


def _parallel(one: Slice, other: Slice) -> bool:
    if one.size != other.size:
        return False
    for a, b, scale in (
        (one.orientation, other.orientation, 1.0),
        (one.spacing, other.spacing, cast(np.ndarray, one.spacing)),
    ):
        if (a is None) != (b is None):
            return False
        if a is not None and not (np.abs(a - b) <= _PARALLEL * scale).all():
            return False
    return True


def _slices(file: Path, header) -> list[Slice]:
    """Return the planes of a file; none if it is not an image."""
    if header is None or header.get("Rows") is None:
        return []
    _check_length(file, header)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return list(_planes(file, header))
        # A faulty header raises many kinds of errors in pydicom.
        except Exception as error:
            raise _damaged(file) from error


# Transfer syntaxes without compression.
_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")


def _check_length(file: Path, header) -> None:
    """Raise InputError if a file is shorter than its values, which GDCM makes up."""
    syntax = getattr(header, "file_meta", {}).get("TransferSyntaxUID")
    if syntax not in _PLAIN:
        return
    factors = ("Rows", "Columns", "BitsAllocated", "NumberOfFrames", "SamplesPerPixel")
    try:
        needed = math.prod(int(header.get(name) or 1) for name in factors) // 8
    except (TypeError, ValueError):
        return
    if (size := file.stat().st_size) < needed:
        raise InputError(
            f"{file}: is truncated, it has {size} bytes and its values take {needed};"
            " copy or export it again"
        )


def _planes(file: Path, header):
    size = (int(header.Rows), int(header.Columns))
    count = int(header.get("NumberOfFrames") or 1)
    if int(header.get("SamplesPerPixel") or 1) != 1:
        count = 1
    stored = (header.get("BitsAllocated"), header.get("PixelRepresentation"))
    frames = header.get("PerFrameFunctionalGroupsSequence") or [None] * count
    shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
    offsets = _numbers(header, "GridFrameOffsetVector", count)
    dose = _numbers(header, "DoseGridScaling", 1)
    number = _text(header, "InstanceNumber")
    for k in range(count):
        groups = [group for group in (frames[k], shared) if group is not None]
        if groups:
            position = _in_groups(groups, "PlanePosition", "ImagePositionPatient", 3)
            axes = _in_groups(groups, "PlaneOrientation", "ImageOrientationPatient", 6)
            spacing = _in_groups(groups, "PixelMeasures", "PixelSpacing", 2)
            value = "PixelValueTransformation"
            slope = _in_groups(groups, value, "RescaleSlope", 1)
            intercept = _in_groups(groups, value, "RescaleIntercept", 1)
            time = _in_groups(groups, "FrameContent", "TemporalPositionIndex", 1)
            times = {} if time is None else {TIMES[0]: float(time[0])}
            kind = "SegmentIdentification"
            segment = _in_groups(groups, kind, "ReferencedSegmentNumber", 1)
        else:
            position = _numbers(header, "ImagePositionPatient", 3)
            axes = _numbers(header, "ImageOrientationPatient", 6)
            spacing = _numbers(header, "PixelSpacing", 2)
            slope = _numbers(header, "RescaleSlope", 1)
            intercept = _numbers(header, "RescaleIntercept", 1)
            times, segment = _times(header), None
        axes = None if axes is None else axes.reshape(2, 3)
        if count > 1 and not groups:
            # Dose files give the offset of a frame along the normal; others do not.
            position = (
                None
                if position is None or axes is None or offsets is None
                else position + (offsets[k] - offsets[0]) * np.cross(axes[0], axes[1])
            )
        scaling = (
            1.0 if slope is None else float(slope[0]),
            0.0 if intercept is None else float(intercept[0]),
            *stored,
        )
        if k == 0:
            applied = _inverted(header, scaling)
        if dose is not None:
            # GDCM leaves the stored numbers of a dose.
            scaling = (float(dose[0]), 0.0, *stored)
        label = file.name + f" (number {number})" * bool(number)
        yield Slice(
            file=file,
            label=f"frame {k + 1}" if count > 1 else label,
            frame=k,
            size=size,
            position=position,
            orientation=axes,
            # Rows come first in DICOM, x comes first here.
            spacing=None if spacing is None else spacing[::-1],
            scaling=scaling,
            applied=applied,
            fault=_fault(header, scaling),
            times=times,
            segment=0 if segment is None else int(segment[0]),
        )


def _fault(header, scaling: tuple) -> str:
    """Say in words why GDCM gives other values than the file means, or ""."""
    if header.get("ModalityLUTSequence"):
        return "its values follow from a table (Modality LUT)"
    high, bits = header.get("HighBit"), header.get("BitsStored")
    if high and bits and high != bits - 1:
        return f"its values of {bits} bits end at bit {high} (HighBit)"
    return "" if scaling[0] else "its values are multiplied by 0 (RescaleSlope)"


def _inverted(header, scaling: tuple) -> tuple:
    """Return what GDCM applies: it inverts stored values that are shown inverted.

    In images without a unit, such as radiographs, bright tissue so stays bright.
    """
    inverts = _text(header, "PhotometricInterpretation") == "MONOCHROME1"
    if not inverts or _text(header, "Modality") not in _WITH_UNIT:
        return scaling
    largest = -1 if header.PixelRepresentation else 2**header.BitsStored - 1
    slope, intercept, *stored = scaling
    return (-slope, intercept + slope * largest, *stored)


def _times(header) -> dict[str, float]:
    """Return the times of ``TIMES`` that a header says; others are left out."""
    found = {}
    for tag in TIMES:
        # A volume is read whatever its times are.
        with contextlib.suppress(ValueError):
            value = _numbers(header, tag, 1)
            if value is not None:
                found[tag] = float(value[0])
    return found


def _in_groups(groups, sequence: str, tag: str, count: int) -> np.ndarray | None:
    for group in groups:
        for item in group.get(f"{sequence}Sequence") or ():
            return _numbers(item, tag, count)
    return None


def _numbers(header, tag: str, count: int) -> np.ndarray | None:
    value = header.get(tag)
    if value is None or value == "":
        return None
    values = np.atleast_1d(np.array(value, np.float64))
    if values.shape != (count,) or not np.isfinite(values).all():
        raise ValueError(tag)
    return values


def describe_stacks(stacks: Sequence[Stack]) -> str:
    """Describe stacks in words, so that the user can name one."""

    def words(stack):
        rows, columns = stack.slices[0].size
        count = len(stack.slices)
        return (
            (f"number {stack.number}, " if stack.number else "")
            + (f"{stack.description!r}, " if stack.description else "")
            + f"{stack.modality or 'no modality'}, {count} slice{'s' * (count > 1)} of"
            f" {columns} x {rows}, UID {stack.uid}"
        )

    return "; ".join(f"({words(stack)})" for stack in stacks)


def _grid(path: Path, stack: Stack) -> tuple[list[Slice], Frame, np.ndarray | None]:
    """Return the slices in order, the straight grid, and their places on it.

    The last is ``[n, 2]``: column and row of the grid where a slice begins; None if
    all begin at its first.
    """
    if (count := len({each.segment for each in stack.slices})) > 1:
        raise InputError(
            f"{path}: holds {count} segments of a DICOM segmentation, where one is"
            " needed; export each to a file of its own, or convert it to a label map"
        )
    for each in stack.slices:
        if each.position is None or each.orientation is None or each.spacing is None:
            raise InputError(
                f"{path}: does not say where its slices lie ({each.label} lacks"
                " position, orientation or pixel size); convert it to .nii.gz by a"
                " program that knows the scanner"
            )
    axes = np.mean([cast(np.ndarray, s.orientation) for s in stack.slices], axis=0)
    spacing = np.mean([cast(np.ndarray, s.spacing) for s in stack.slices], axis=0)
    normal = np.cross(axes[0], axes[1])
    if not np.linalg.norm(normal) > 0.5 or not (spacing > 0).all():
        raise InputError(
            f"{path}: its slices have an impossible orientation or pixel size; export"
            " the series again"
        )
    normal /= np.linalg.norm(normal)
    places = np.array([each.position @ normal for each in stack.slices])
    order = np.argsort(places, kind="stable")
    slices = [stack.slices[k] for k in order]
    step = _check_places(path, slices, places[order])
    starts = np.array([each.position - slices[0].position for each in slices])
    starts = starts @ axes.T / spacing
    first = np.array(slices[0].position)
    rows, columns = slices[0].size
    shifts = None
    if np.abs(starts).max() > _ON_GRID:
        low = np.floor(starts.min(0) + 1e-6)
        grown = np.ceil(starts.max(0) - 1e-6) - low
        farthest = np.linalg.norm(starts * spacing, axis=1).max()
        area = np.prod(grown + np.array((columns, rows)))
        if farthest > np.ptp(places) or area > _GROWTH * rows * columns:
            raise InputError(
                f"{path}: its slices {_shear(slices, starts * spacing, normal)}, too"
                " far to be resampled; export the series again"
            )
        first = first + (low * spacing) @ axes
        rows, columns = rows + int(grown[1]), columns + int(grown[0])
        # Rounding must not put the first pixel outside.
        shifts = np.round(starts - low, 6)
        _LOG.warning(
            "%s: its slices %s; they are resampled to a straight grid of %d x %d x %d",
            *(path, _shear(slices, starts * spacing, normal)),
            *(columns, rows, len(slices)),
        )
    frame = Frame(
        shape=(len(slices), rows, columns),
        spacing=(*spacing, step),
        origin=first,
        direction=np.column_stack([*axes, normal]),
    )
    return slices, frame, shifts


def _shear(slices: list[Slice], starts: np.ndarray, normal: np.ndarray) -> str:
    """Describe a displacement of slices by ``starts``, ``[n, 2]`` mm in their plane."""
    count = np.linspace(0.0, 1.0, len(starts))[:, None]
    along = cast(np.ndarray, slices[-1].position) - slices[0].position
    if np.abs(starts - count * starts[-1]).max() < 0.02 * np.abs(starts).max():
        cosine = along @ normal / np.linalg.norm(along)
        return (
            f"are tilted by {np.degrees(np.arccos(min(cosine, 1.0))):.1f} degrees (as"
            " from a tilted gantry)"
        )
    far = np.linalg.norm(starts - starts[0], axis=1).max()
    return f"are shifted against each other by up to {far:.3g} mm in their plane"


def _check_places(path: Path, slices: list[Slice], places: np.ndarray) -> float:
    """Return the distance of the slices; refuse those that are not evenly spaced.

    Args:
        path: named in the message.
        slices: in order.
        places: mm along their normal, ascending.

    Returns:
        Millimetres.

    Raises:
        InputError: if the distances differ.
    """
    count, gaps = len(places), np.diff(places)
    if count == 1:
        raise InputError(
            f"{path}: {slices[0].label} is alone in its plane, so it is not a volume;"
            " give an image of several slices"
        )
    usual = _usual(gaps)
    doubled = np.flatnonzero(gaps <= _ON_GRID * usual)
    distinct = count - doubled.size
    if distinct == 1:
        raise InputError(
            f"{path}: its {count} slices lie at one position, {places[0]:.4g} mm along"
            " their normal, so they are not a volume (a time series perhaps); give an"
            " image of several positions"
        )
    each = np.diff(np.flatnonzero([True, *(gaps > _ON_GRID * usual), True]))
    if each[0] > 1 and (each == each[0]).all():
        raise InputError(
            f"{path}: holds {each[0]} slices at each of {distinct} positions (several"
            " times, echoes or b-values, or copies), so they are not a volume; export"
            " one of them to a folder of its own"
        )
    ratios = gaps / usual
    whole = np.rint(ratios)
    missing = np.flatnonzero((whole > 1) & (np.abs(ratios - whole) < _ON_GRID * whole))
    facts = [
        f"{slices[k].label} and {slices[k + 1].label} lie at one position,"
        f" {places[k]:.4g} mm along their normal, so a slice is doubled"
        for k in doubled
    ]
    # Where many are missing, the scan has regions of another spacing.
    if missing.size <= max(1, count // 4):
        facts += [
            f"{whole[k] - 1:.0f} slice{'s' * int(whole[k] > 2)} missing between"
            f" {slices[k].label} and {slices[k + 1].label}, from {places[k]:.4g} to"
            f" {places[k + 1]:.4g} mm along their normal"
            for k in missing
        ]
    step = (places[-1] - places[0]) / (count - 1)
    even = places[0] + step * np.arange(count)
    if not facts and np.abs(places - even).max() > _ON_GRID * step:
        facts = [f"they are {gaps.min():.3g} to {gaps.max():.3g} mm apart"]
    if facts:
        more = len(facts) - _LISTED
        listed = "; ".join(facts[:_LISTED]) + f"; and {more} more" * (more > 0)
        raise InputError(
            f"{path}: its slices are not evenly spaced: {listed}; export the series"
            " again"
        )
    return float(step)


def _usual(gaps: np.ndarray) -> float:
    """Return the median distance of neighbouring slices at different positions."""
    apart = np.sort(gaps[gaps > 0.01 * max(gaps.max(), 0.01)])
    return float(apart[(len(apart) - 1) // 2]) if apart.size else np.inf


def rescale_file(file: Path, array: np.ndarray) -> np.ndarray:
    """Return the values of a file of one plane, where ITK reads other ones.

    Args:
        file: in any format.
        array: its values as ITK reads them.

    Returns:
        The values; the same array if they are right.

    Raises:
        InputError: if they are stored in a way that is not read.
    """
    for plane in _slices(file, _header(file)):
        _check_scaling(plane)
        array = _rescaled(array, plane)
    return array


def _values(path: Path, slices: list[Slice]) -> np.ndarray:
    """``[n, rows, columns]`` in the order of the slices."""
    for each in slices:
        _check_scaling(each)
    files = list(dict.fromkeys(each.file for each in slices))
    if len(files) == len(slices):
        reader = sitk.ImageSeriesReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileNames([text_of(file) for file in files])
        if len({each.scaling for each in slices}) > 1:
            # The type of the first slice may not hold the values of another.
            reader.SetOutputPixelType(sitk.sitkFloat32)
        try:
            image = quietly(reader.Execute, path, _UNREADABLE)
        except InputError:
            for file in files:
                # The message names the file.
                _read_file(file)
            raise
        _check_grey(path, image)
        array = sitk.GetArrayFromImage(image)
        if all(each.scaling == each.applied for each in slices):
            return array
        planes = zip(array, slices, strict=True)
    else:
        volumes = {}
        for file in files:
            image = _read_file(file)
            _check_grey(file, image)
            array = sitk.GetArrayFromImage(image)
            volumes[file] = np.reshape(array, (-1, *slices[0].size))
        planes = ((volumes[each.file][each.frame], each) for each in slices)
    return np.stack([_rescaled(plane, each) for plane, each in planes])


def _read_file(file: Path) -> sitk.Image:
    return quietly(
        lambda: sitk.ReadImage(text_of(file), imageIO="GDCMImageIO"), file, _UNREADABLE
    )


def _check_scaling(plane: Slice) -> None:
    if plane.fault:
        raise InputError(
            f"{plane.file}: {plane.fault}, which is not read here; convert it to"
            " .nii.gz by a program that does"
        )


def _check_grey(path: Path, image: sitk.Image) -> None:
    if (components := image.GetNumberOfComponentsPerPixel()) != 1:
        raise InputError(
            f"{path}: has {components} components per voxel where one is needed;"
            " convert it to grey values or extract one component"
        )


def _rescaled(plane: np.ndarray, own: Slice) -> np.ndarray:
    """Rescale a frame by its own slope and intercept, not those that GDCM took."""
    if own.scaling == own.applied:
        return plane
    slope, intercept = own.applied[:2]
    stored = np.rint((plane - intercept) / slope)
    slope, intercept = own.scaling[:2]
    return (slope * stored + intercept).astype(np.float32)


def _shifted(array: np.ndarray, shape, shifts: np.ndarray) -> np.ndarray:
    """Place slices on a larger grid, with the minimum around them."""
    outside = array.min()
    result = np.full(shape, outside, array.dtype)
    for plane, moved, (x, y) in zip(array, result, shifts, strict=True):
        values = ndimage.affine_transform(
            plane.astype(np.float64),
            np.ones(2),
            offset=cast(Any, (-y, -x)),
            output_shape=moved.shape,
            order=1,
            mode="constant",
            cval=float(outside),
        )
        moved[:] = np.rint(values) if array.dtype.kind in "iu" else values
    return result
