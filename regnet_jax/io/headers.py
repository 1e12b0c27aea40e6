"""Checks of headers, for errors that ITK's readers hide.

ITK repairs a NIfTI spacing of 0 or NaN to 1 and NaN voxels to 0, fills a
truncated NIfTI with zeros, reads ``a.nii`` when asked for ``a.nii.gz``, takes a
NaN origin of a MetaImage for 0 and turns a negative spacing into a flipped
direction, all silently; a MetaImage of -665 dimensions crashes it. Formats whose
reader does not notice a truncated file are refused.
"""

import gzip
import logging
import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TypeVar

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.files import UNKNOWN_PIXELS, check_capitals
from regnet_jax.io.dicom import sized_frame
from regnet_jax.io.nifti import HEADER_SIZE, as_nifti1, is_nifti2
from regnet_jax.io.stored_values import (
    check_meta_values,
    check_nrrd_values,
    warn_if_surplus,
)
from regnet_jax.spatial.frames import Frame, largest_offset, straighten

# The header of a single file, with the four bytes after it; ITK reads from within it
# where a file says so.
_FIRST_START = 352
# Extensions before the values take less than this, bytes.
_LAST_START = 1 << 24
# The numbers of dimensions of MetaImage; ``check_kind`` refuses some later.
_DIMENSIONS = tuple(map(str, range(1, 11)))
# Where MetaImage may have the sizes of voxels.
_META_SPACINGS = ("ElementSpacing", "ElementSize")
# How many numbers keys of MetaImage have, as a power of the number of dimensions.
_META_COUNTS = {
    **dict.fromkeys((*_META_SPACINGS, "DimSize", "CenterOfRotation"), 1),
    **dict.fromkeys(("Offset", "Position", "Origin"), 1),
    **dict.fromkeys(("TransformMatrix", "Orientation", "Rotation"), 2),
}
# Keys of MetaImage that scale its values, and what they are without effect. ITK reads
# the values as they are stored.
_META_SCALING = {
    "ElementToIntensityFunctionSlope": 1.0,
    "ElementToIntensityFunctionOffset": 0.0,
}
# Spaces of NRRD whose grids ITK converts to its own axes.
_CONVERTED = ("right-anterior-superior", "left-anterior-superior", "ras", "las")
# Those of its own axes. Others do not say how they lie in a patient.
_OWN = ("left-posterior-superior", "lps")
# Kinds of axes of NRRD that lie in space.
_IN_SPACE = ("domain", "space", "???", "none")
# What NRRD and MetaImage may call millimetres; ITK takes every unit for them.
_MM = ("mm", "millimeter", "millimeters", "millimetre", "millimetres", "", "?", "???")
# Types of values of NIfTI that ITK reads, and those of colours and complex numbers.
_NIFTI_SEVERAL = (32, 128, 1792, 2304)
_NIFTI_TYPES = (2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280, *_NIFTI_SEVERAL)
_GZIP_MAGIC = b"\x1f\x8b"
# How packed files begin, and by what they are packed.
_PACKERS = {_GZIP_MAGIC: "gzip", b"PK": "zip", b"BZ": "bzip2", b"7z": "7z"}


def check_header(path: Path, image_io: str, *, values: bool = True) -> None:
    """Raise InputError if a file must not be given to ITK's reader.

    Args:
        path: an existing file.
        image_io: the reader that ITK chose, from ``GetImageIOFromFileName``.
        values: check the values, too, for which the whole file is read.
    """
    if not image_io:
        check_capitals(path, (".mha", ".mhd"))
        with path.open("rb") as file:
            start = file.read(2)
        if start in _PACKERS:
            raise InputError(
                f"{path}: is packed by {_PACKERS[start]}; unpack it, or convert it to"
                " .nii.gz"
            )
        raise InputError(
            f"{path}: is not an image that can be read; give .nii.gz, .mha, .nrrd"
            " or a folder with one DICOM series"
        )
    if image_io not in _CHECKS:
        raise InputError(
            f"{path}: {image_io.removesuffix('ImageIO')} files are not read here;"
            " convert it to .nii.gz or .mha"
        )
    _CHECKS[image_io](path, values)


def check_spacing(path: Path, spacing: Iterable[float]) -> None:
    """Raise InputError unless every spacing is finite and positive."""
    spacing = list(spacing)
    if not all(math.isfinite(s) and s > 0 for s in spacing):
        listed = ", ".join(f"{s:g}" for s in spacing)
        raise InputError(
            f"{path}: has a spacing of ({listed}) mm, which must be positive;"
            " correct its header"
        )


def _check_nifti(path: Path, values: bool) -> None:
    if path.name.lower().endswith((".hdr", ".img", ".img.gz")):
        raise InputError(
            f"{path}: pairs of .hdr and .img are not read here; convert to .nii.gz"
        )
    plain = path.with_suffix("")
    if path.suffix.lower() == ".gz" and plain.exists():
        raise InputError(
            f"{path}: ITK would read {plain.name} beside it instead; move or"
            " rename one of them"
        )
    try:
        with _open(path) as file:
            header = file.read(348)
            start = None
            if is_nifti2(header):
                whole = header + file.read(HEADER_SIZE - len(header))
                header, start = as_nifti1(path, whole)
            spacing, offset, needed, kind = _parse_nifti(path, header)
            if not values:
                check_spacing(path, spacing)
                return
            if start is not None:
                file.seek(len(header))
                needed, offset = needed + start - offset, start
            available = len(header) + len(file.read(max(0, offset - 348)))
            read, bad = _scan(file, kind)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise InputError(
            f"{path}: is truncated or damaged; copy or export it again"
        ) from None
    check_spacing(path, spacing)
    if (available := available + read) < needed:
        raise InputError(
            f"{path}: is truncated, it has {available} of {needed} bytes; copy or"
            " export it again"
        )
    warn_if_surplus(path, available - offset, needed - offset)
    if bad:
        raise InputError(
            f"{path}: {bad} of its values are NaN or infinite; replace them, for"
            " example by the background"
        )


def _open(path: Path):
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP_MAGIC
    return gzip.open(path) if packed else path.open("rb")


def _scan(file, kind: np.dtype | None) -> tuple[int, int]:
    """Bytes left in a file, and how many of its values, if floats, are not finite."""
    count = bad = 0
    while chunk := file.read(1 << 22):
        count += len(chunk)
        if kind is not None:
            whole = len(chunk) // kind.itemsize
            bad += whole - int(np.isfinite(np.frombuffer(chunk, kind, whole)).sum())
    return count, bad


def _parse_nifti(
    path: Path, header: bytes
) -> tuple[tuple[float, ...], int, int, np.dtype | None]:
    """Spacing, start of the data, bytes needed and type, if a float, of NIfTI-1."""
    order = "<" if struct.unpack_from("<i", header)[0] == 348 else ">"
    dim = struct.unpack_from(order + "8h", header, 40)
    kind, bits = struct.unpack_from(order + "2h", header, 70)
    pixdim = struct.unpack_from(order + "8f", header, 76)
    start, slope, offset = struct.unpack_from(order + "3f", header, 108)
    if not 0 <= start <= _LAST_START:
        raise InputError(
            f"{path}: says that its values begin at byte {start:g}; correct its header"
        )
    if header[344:347] == b"n+1" and start < _FIRST_START:
        raise InputError(
            f"{path}: says that its values begin at byte {start:g}, within its header;"
            " correct it"
        )
    scales = math.isfinite(slope) and slope not in (0, 1)
    shifts = math.isfinite(offset) and offset != 0
    is_whole = math.isfinite(slope) and slope and math.isfinite(offset)
    if (scales or shifts) and not is_whole:
        # ITK takes one of the two, and the standard neither.
        raise InputError(
            f"{path}: multiplies its values by {slope:g} and adds {offset:g}; correct"
            " scl_slope and scl_inter in its header"
        )
    if kind not in _NIFTI_TYPES:
        raise InputError(
            f"{path}: its values are of the type {kind} of NIfTI, which is not read"
            " here; convert them to float32 (type 16)"
        )
    several = kind in _NIFTI_SEVERAL or (dim[0] > 4 and dim[5] > 1)
    if (scales or shifts) and several:
        # ITK scales a part of the floats, and of whole numbers writes beyond its
        # memory.
        raise InputError(
            f"{path}: multiplies the components of its voxels by {slope:g} and adds"
            f" {offset:g}, which ITK does to some of them; store them without a scaling"
        )
    used = slice(1, dim[0] + 1)
    if min(dim[used], default=0) < 1:
        listed = ", ".join(map(str, dim[used]))
        raise InputError(f"{path}: has a size of ({listed}) voxels; correct its header")
    values = {16: np.dtype(order + "f4"), 64: np.dtype(order + "f8")}.get(kind)
    needed = int(start) + math.prod(dim[used]) * bits // 8
    return pixdim[used][:3], int(start), needed, values


def _check_meta(path: Path, values: bool) -> None:
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for raw in file:
            key, _, value = raw.decode("latin-1").partition("=")
            key = key.strip()
            fields[key] = value.strip()
            if key == "NDims" and value.strip() not in _DIMENSIONS:
                raise InputError(
                    f"{path}: says that it has {value.strip()[:20]!r} dimensions;"
                    " correct its header"
                )
            if key in _META_SPACINGS:
                check_spacing(path, _numbers(path, key, value))
            if key == "DistanceUnits":
                _check_units(path, [value])
            if key in _META_COUNTS and fields.get("NDims") in _DIMENSIONS:
                # Its reader would take the following lines for the rest of them.
                needed = int(fields["NDims"]) ** _META_COUNTS[key]
                if (count := len(value.split())) != needed:
                    raise InputError(
                        f"{path}: has {count} numbers as {key} where {needed} are"
                        " needed; correct its header"
                    )
            if key in _META_SCALING and _numbers(path, key, value) != [
                _META_SCALING[key]
            ]:
                raise InputError(
                    f"{path}: says that its values are to be scaled"
                    f" ({key} = {value.strip()}), which readers of MetaImage do not do;"
                    " scale them and take the key out of the header"
                )
            if key in ("Offset", "Position", "Origin", "TransformMatrix") and not all(
                map(math.isfinite, _numbers(path, key, value))
            ):
                raise InputError(
                    f"{path}: {key} is not finite in its header; correct it"
                )
            if key == "ElementDataFile":
                start = fields.get("HeaderSize", "0")
                is_local = value.strip().upper() == "LOCAL"
                if is_local and start.strip("0") and not start.startswith("-"):
                    # It stands for a number of bytes of another file.
                    raise InputError(
                        f"{path}: says that its values begin at byte {start[:20]},"
                        " within its header; correct it"
                    )
                check_meta_values(path, fields, file, streams=values)
                break
    if not any(key in fields for key in _META_SPACINGS):
        _warn_of_no_spacing(path)


def _numbers(path: Path, key: str, value: str) -> list[float]:
    try:
        return [float(word) for word in value.split()]
    except ValueError:
        raise InputError(
            f"{path}: {key} is not a list of numbers in its header; correct it"
        ) from None


def _check_jpeg(path: Path, values: bool) -> None:
    # Its reader fills in missing values.
    if values and b"\xff\xd9" not in path.read_bytes()[-64:]:
        raise InputError(f"{path}: is truncated; copy or export it again")
    _check_upright(path, values)


def _check_upright(path: Path, values: bool) -> None:
    # Pillow loads slowly, and only pictures need it here.
    from regnet_jax.io.pictures import orientation_of

    if (orientation := orientation_of(path)) > 1:
        raise InputError(
            f"{path}: is to be turned or mirrored (orientation {orientation} of EXIF),"
            " which its reader does not do; save it upright"
        )


def _check_tiff(path: Path, values: bool) -> None:
    from regnet_jax.io.pictures import pages_of

    pages = pages_of(path)
    if pages and pages[0].samples == 2:
        # Its reader takes them for pixels side by side.
        raise InputError(f"{path}: {UNKNOWN_PIXELS}")
    # Its reader takes all pages for ones like the first.
    other = next((k for k, page in enumerate(pages) if page != pages[0]), None)
    if other is not None:
        raise InputError(
            f"{path}: its pages 1 and {other + 1} differ in size or type; keep pages of"
            " one kind"
        )


def _nrrd_fields(file: IO[bytes]) -> dict[str, str]:
    """Read the header of a NRRD, without the key/value pairs of programs (``:=``)."""
    fields: dict[str, str] = {}
    for raw in file:
        line = raw.decode("latin-1").strip()
        if not line:
            break
        key, found, value = line.partition(":")
        if found and not value.startswith("=") and not line.startswith("#"):
            fields[key.strip().lower()] = value.strip()
    return fields


def check_vector_axes(path: Path) -> None:
    """Check that the vectors of a NRRD point along x, y and z as ITK means them.

    ITK converts the grid of another space, such as RAS, and leaves the vectors.

    Args:
        path: of an image; other formats have no such fields.

    Raises:
        InputError: if the vectors are in other axes.
    """
    with path.open("rb") as file:
        if file.read(4) != b"NRRD":
            return
        fields = _nrrd_fields(file)
    space = fields.get("space", "").lower()
    if space.startswith(_CONVERTED):
        raise InputError(
            f"{path}: its vectors are in the space {space}, which ITK does not convert;"
            " save it in left-posterior-superior"
        )
    frame = fields.get("measurement frame")
    if frame is None:
        return
    columns = re.findall(r"\(([^)]*)\)", frame)
    matrix = [_numbers(path, "measurement frame", c.replace(",", " ")) for c in columns]
    if not np.array_equal(matrix, np.eye(len(matrix))):
        raise InputError(
            f"{path}: its vectors are in a measurement frame of their own, which ITK"
            " does not convert; save it without"
        )


def _check_nrrd(path: Path, values: bool) -> None:
    with path.open("rb") as file:
        fields = _nrrd_fields(file)
        if values:
            check_nrrd_values(path, fields, file)
    unnamed = "not named" if "space directions" in fields else ""
    space = fields.get("space", unnamed)
    if space and not space.lower().startswith((*_OWN, *_CONVERTED)):
        _LOG.warning(
            "%s: its space is %s, which does not tell left from right, so its axes are"
            " taken for left, posterior and superior; save it in"
            " left-posterior-superior",
            *(path, space),
        )
    if "space directions" in fields:
        # A fourth is that of time.
        _check_units(path, fields.get("space units", "").split('"')[1::2][:3])
    elif "spacings" in fields:
        spacings = _numbers(path, "spacings", fields["spacings"])
        units = fields.get("units", "").split('"')[1::2]
        kinds = fields.get("kinds", "").split()
        # Other axes are those of colours, vectors and time.
        other = {k for k, kind in enumerate(kinds) if kind not in _IN_SPACE}
        check_spacing(path, (s for k, s in enumerate(spacings) if k not in other))
        _check_units(path, (u for k, u in enumerate(units) if k not in other))
    else:
        _warn_of_no_spacing(path)


def _check_units(path: Path, units: Iterable[str]) -> None:
    """Raise InputError unless all units of space are mm, for which ITK takes them."""
    for unit in map(str.strip, units):
        if unit not in _MM:
            raise InputError(
                f"{path}: says that its space unit is {unit}; convert it to mm"
            )


def _warn_of_no_spacing(path: Path) -> None:
    """Warn of a header without voxel sizes, for which ITK takes 1 mm."""
    _LOG.warning(
        "%s: its header has no spacing, so its voxels count as 1 mm wide; correct it",
        path,
    )


def _accept(path: Path, values: bool) -> None:
    """Check nothing: the reader itself notices errors."""


_CHECKS = {
    "MetaImageIO": _check_meta,
    "NiftiImageIO": _check_nifti,
    "NrrdImageIO": _check_nrrd,
    "GDCMImageIO": _accept,
    "MINCImageIO": _accept,
    "HDF5ImageIO": _accept,
    "PNGImageIO": _check_upright,
    "JPEGImageIO": _check_jpeg,
    "TIFFImageIO": _check_tiff,
}


T = TypeVar("T")
_LOG = logging.getLogger(__name__)

_PERMISSIVE = "ITK_NIFTI_SFORM_PERMISSIVE"
_MM_PER_UNIT = {1: 1e3, 3: 1e-3}
# Fractions of a voxel: frames that differ by less are the same.
_SAME, _ROUNDING = 0.1, 1e-3
_LPS_OF_RAS = np.diag((-1.0, -1.0, 1.0))


def permissively(call: Callable[[], T]) -> T:
    """Run a call of ITK so that it reads a sheared NIfTI, too.

    ITK takes the permission from the environment, which belongs to the process: the
    caller holds the lock of ``quietly``.
    """
    before = os.environ.get(_PERMISSIVE)
    os.environ[_PERMISSIVE] = "1"
    try:
        return call()
    finally:
        del os.environ[_PERMISSIVE]
        if before is not None:
            os.environ[_PERMISSIVE] = before


def header_frame(path: Path, frame: Frame) -> Frame:
    """Return the frame in the header of a file, sheared if the header is.

    Of DICOM, the pixels get the size that any of its elements says. Of a NIfTI that
    has neither sform nor qform, the axes are those of ITK, with a warning. Where the
    two differ, the one that ITK takes is used, with a warning: the sform if its code is
    1 (scanner) or that of the qform is 0, and the qform otherwise, also where the sform
    is sheared.

    Args:
        path: of an image in any format.
        frame: as ITK read it; of a series in 4D, that of each of its volumes.

    Returns:
        ``frame`` itself if the file is neither NIfTI nor DICOM, or has the same frame.

    Raises:
        InputError: if the header is not finite, or contradicts itself.
    """
    header = _header(path)
    if header is None:
        return sized_frame(path, frame)
    order = "<" if struct.unpack_from("<i", header)[0] == 348 else ">"
    qform_code, sform_code = struct.unpack_from(order + "2h", header, 252)
    scale = _MM_PER_UNIT.get(header[123] & 7, 1.0)
    sform = qform = None
    if max(sform_code, qform_code) <= 0:
        _LOG.warning(
            "%s: its header has no sform and no qform, so its axes are taken for left,"
            " posterior and superior; set one of them",
            path,
        )
    if sform_code > 0:
        rows = struct.unpack_from(order + "12f", header, 280)
        sform = _frame(path, "sform", frame, np.reshape(rows, (3, 4)) * scale)
    if qform_code > 0:
        qform = _frame(path, "qform", frame, _quaternion(path, order, header, scale))
    if sform and qform and (apart := largest_offset(sform, qform)) > _SAME:
        # As ITK chose, but instead of a sheared sform it takes the qform.
        takes_sform = not _sheared(sform) and largest_offset(
            frame, sform
        ) < largest_offset(frame, qform)
        _LOG.warning(
            "%s: its sform and its qform place the same voxel up to %.3g voxels apart;"
            " the %s is used",
            path,
            apart,
            "sform" if takes_sform else "qform",
        )
        sform = sform if takes_sform else None
    # A shear changes the size, too; the caller refuses it.
    if sform and not _sheared(sform):
        _check_size(path, sform, frame)
    said = sform or qform
    if said is None or largest_offset(frame, said) < _ROUNDING:
        return frame
    return said


def _header(path: Path) -> bytes | None:
    """Return the header of a single-file NIfTI image, as NIfTI-1 has it, or None."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            header = file.read(HEADER_SIZE)
    except (OSError, EOFError):
        return None
    if is_nifti2(header):
        return as_nifti1(path, header)[0]
    header = header[:348]
    return header if len(header) == 348 and header[344:347] == b"n+1" else None


def _frame(path: Path, name: str, frame: Frame, affine: np.ndarray) -> Frame:
    """Return the frame of an affine ``[3, 4]`` from voxels to RAS (mm)."""
    if not np.isfinite(affine).all():
        raise InputError(f"{path}: its {name} is not finite; correct its header")
    affine = _LPS_OF_RAS @ affine
    d = frame.ndim
    columns = affine[:, :d]
    spacing = np.linalg.norm(columns, axis=0)
    direction = (columns / np.where(spacing > 0, spacing, 1.0))[:d]
    if abs(np.linalg.det(direction)) < 1e-3:
        raise InputError(
            f"{path}: its {name} has a direction matrix that is singular; correct its"
            " header"
        )
    return Frame(frame.shape, spacing, affine[:d, 3], direction)


def _sheared(frame: Frame) -> bool:
    return straighten(frame)[1] > _SAME


def _quaternion(path: Path, order: str, header: bytes, scale: float) -> np.ndarray:
    """Return the affine ``[3, 4]`` of the qform, voxels to RAS (mm)."""
    pixdim = np.array(struct.unpack_from(order + "4f", header, 76), np.float64)
    values = struct.unpack_from(order + "6f", header, 256)
    b, c, d = map(float, values[:3])
    rest = 1.0 - (b * b + c * c + d * d)
    if rest < -0.01:
        raise InputError(
            f"{path}: its qform holds a quaternion longer than 1; correct its header"
        )
    a = np.sqrt(max(rest, 0.0))
    norm = np.sqrt(a * a + b * b + c * c + d * d)
    a, b, c, d = (value / norm for value in (a, b, c, d))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    size = pixdim[1:] * (1, 1, -1 if pixdim[0] < 0 else 1)
    offset = np.reshape(values[3:], (3, 1))
    return np.hstack([rotation * size, offset]) * scale


def _check_size(path: Path, sform: Frame, frame: Frame) -> None:
    """Raise InputError if the sform and the pixdim that ITK reads differ in size."""
    ratio = np.divide(sform.spacing, frame.spacing)
    if (np.abs(ratio - 1) * np.subtract(frame.shape[::-1], 1)).max() > _SAME:
        sizes = (", ".join(f"{s:g}" for s in f.spacing) for f in (sform, frame))
        raise InputError(
            f"{path}: has voxels of ({next(sizes)}) mm by its sform and of"
            f" ({next(sizes)}) mm by its pixdim; correct its header"
        )
