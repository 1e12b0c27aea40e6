"""Header checks for what ITK's readers hide.

ITK repairs a NIfTI spacing of 0 or NaN to 1 and NaN voxels to 0, fills a
truncated NIfTI with zeros, reads ``a.nii`` when asked for ``a.nii.gz``, takes a
NaN origin of a MetaImage for 0 and turns a negative spacing into a flipped
direction, all without a word; of a MetaImage of -665 dimensions it dies. Formats
whose reader cannot tell a truncated file are refused.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from regnet_jax.errors import InputError

# Before the values there may be extensions, but no megabytes of them.
_LAST_START = 1 << 24
# What MetaImage can have; whether it can be used here is asked later.
_DIMENSIONS = tuple(map(str, range(1, 11)))
_GZIP_MAGIC = b"\x1f\x8b"


def check_header(path: Path, image_io: str) -> None:
    """Raise InputError if the file must not be given to ITK's reader.

    Args:
        path: an existing file.
        image_io: the reader that ITK picked, as ``GetImageIOFromFileName`` says.
    """
    if not image_io:
        raise InputError(
            f"{path}: is not an image that can be read; give .nii.gz, .mha, .nrrd"
            " or a folder with one DICOM series"
        )
    if image_io not in _CHECKS:
        raise InputError(
            f"{path}: {image_io.removesuffix('ImageIO')} files are not read here;"
            " convert it to .nii.gz or .mha"
        )
    _CHECKS[image_io](path)


def check_spacing(path: Path, spacing) -> None:
    """Raise InputError unless every spacing is finite and positive."""
    if not all(math.isfinite(s) and s > 0 for s in spacing):
        listed = ", ".join(f"{s:g}" for s in spacing)
        raise InputError(
            f"{path}: has a spacing of ({listed}) mm, which must be positive;"
            " correct its header"
        )


def _check_nifti(path: Path) -> None:
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
            spacing, offset, needed, values = _parse_nifti(path, header)
            available = len(header) + len(file.read(max(0, offset - 348)))
            read, bad = _scan(file, values)
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
    if bad:
        raise InputError(
            f"{path}: {bad} of its values are NaN or infinite; replace them, for"
            " example by the background"
        )


def _open(path: Path):
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP_MAGIC
    return gzip.open(path) if packed else path.open("rb")


def _scan(file, values: np.dtype | None) -> tuple[int, int]:
    """Bytes left in a file, and how many of its values, if floats, are not finite."""
    count = bad = 0
    while chunk := file.read(1 << 22):
        count += len(chunk)
        if values is not None:
            whole = len(chunk) // values.itemsize
            bad += whole - int(np.isfinite(np.frombuffer(chunk, values, whole)).sum())
    return count, bad


def _parse_nifti(
    path: Path, header: bytes
) -> tuple[tuple[float, ...], int, int, np.dtype | None]:
    """Spacing, start of the data, bytes needed and type, if a float, of NIfTI-1."""
    order = "<" if struct.unpack_from("<i", header)[0] == 348 else ">"
    dim = struct.unpack_from(order + "8h", header, 40)
    kind, bits = struct.unpack_from(order + "2h", header, 70)
    pixdim = struct.unpack_from(order + "8f", header, 76)
    (start,) = struct.unpack_from(order + "f", header, 108)
    if not 0 <= start <= _LAST_START:
        raise InputError(
            f"{path}: says that its values begin at byte {start:g}; correct its header"
        )
    offset = int(start)
    used = slice(1, dim[0] + 1)
    values = {16: np.dtype(order + "f4"), 64: np.dtype(order + "f8")}.get(kind)
    needed = offset + math.prod(dim[used]) * bits // 8
    return pixdim[used][:3], offset, needed, values


def _check_meta(path: Path) -> None:
    with path.open("rb") as file:
        for raw in file:
            key, _, value = raw.decode("latin-1").partition("=")
            key = key.strip()
            if key == "NDims" and value.strip() not in _DIMENSIONS:
                raise InputError(
                    f"{path}: says that it has {value.strip()[:20]!r} dimensions;"
                    " correct its header"
                )
            if key == "ElementSpacing":
                check_spacing(path, _numbers(path, key, value))
            if key in ("Offset", "Position", "Origin", "TransformMatrix") and not all(
                map(math.isfinite, _numbers(path, key, value))
            ):
                raise InputError(
                    f"{path}: {key} is not finite in its header; correct it"
                )
            if key == "ElementDataFile":
                return


def _numbers(path: Path, key: str, value: str) -> list[float]:
    try:
        return [float(word) for word in value.split()]
    except ValueError:
        raise InputError(
            f"{path}: {key} is not a list of numbers in its header; correct it"
        ) from None


def _check_jpeg(path: Path) -> None:
    # Its reader fills in what is missing.
    if b"\xff\xd9" not in path.read_bytes()[-64:]:
        raise InputError(f"{path}: is truncated; copy or export it again")


def _accept(path: Path) -> None:
    """The reader itself notices what is wrong."""


_CHECKS = {
    "MetaImageIO": _check_meta,
    "NiftiImageIO": _check_nifti,
    "NrrdImageIO": _accept,
    "GDCMImageIO": _accept,
    "MINCImageIO": _accept,
    "HDF5ImageIO": _accept,
    "PNGImageIO": _accept,
    "JPEGImageIO": _check_jpeg,
    "TIFFImageIO": _accept,
}
