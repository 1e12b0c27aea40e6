"""Header checks for what ITK's readers hide.

ITK repairs a NIfTI spacing of 0 or NaN to 1, fills a truncated NIfTI with
zeros, reads ``a.nii`` when asked for ``a.nii.gz``, takes a NaN origin of a
MetaImage for 0 and turns a negative spacing into a flipped direction, all
without a word. Formats whose reader cannot tell a truncated file are refused.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

from regnet_jax.errors import InputError

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
            available = len(header) + _count_bytes(file)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise InputError(
            f"{path}: is truncated or damaged; copy or export it again"
        ) from None
    spacing, needed = _parse_nifti(header)
    check_spacing(path, spacing)
    if available < needed:
        raise InputError(
            f"{path}: is truncated, it has {available} of {needed} bytes; copy or"
            " export it again"
        )


def _open(path: Path):
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP_MAGIC
    return gzip.open(path) if packed else path.open("rb")


def _count_bytes(file) -> int:
    count = 0
    while chunk := file.read(1 << 22):
        count += len(chunk)
    return count


def _parse_nifti(header: bytes) -> tuple[tuple[float, ...], int]:
    """Spacing and bytes needed of a NIfTI-1 file, in either byte order."""
    order = "<" if struct.unpack_from("<i", header)[0] == 348 else ">"
    dim = struct.unpack_from(order + "8h", header, 40)
    bits = struct.unpack_from(order + "h", header, 72)[0]
    pixdim = struct.unpack_from(order + "8f", header, 76)
    offset = struct.unpack_from(order + "f", header, 108)[0]
    used = slice(1, dim[0] + 1)
    return pixdim[used][:3], int(offset) + math.prod(dim[used]) * bits // 8


def _check_meta(path: Path) -> None:
    with path.open("rb") as file:
        for raw in file:
            key, _, value = raw.decode("latin-1").partition("=")
            key = key.strip()
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
