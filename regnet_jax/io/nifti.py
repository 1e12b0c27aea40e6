"""NIfTI that ITK does not read: NIfTI-2, and files whose names do not say NIfTI.

NIfTI-2 holds the same fields in wider types (https://nifti.nimh.nih.gov/nifti-2).
"""

import contextlib
import gzip
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from regnet_jax.errors import InputError

HEADER_SIZE = 540
_MAGIC = b"n+2\0\r\n\x1a\n"
_MAGIC_1 = b"n+1\0"
# ITK goes by the name, and unpacks files of the second alone.
_PLAIN, _PACKED = ".nii", ".nii.gz"
# Bytes before the values in the copy.
_START = 352
_LONGEST = 2**15 - 1
# Extensions before the values take less than this, bytes.
_LAST_START = 1 << 24


def is_nifti2(header: bytes) -> bool:
    """Tell whether a file that begins with these bytes is a NIfTI-2 image."""
    return header[4:12] == _MAGIC


def as_nifti1(path: Path, header: bytes) -> tuple[bytes, int]:
    """Return the header of a NIfTI-2 image as one of NIfTI-1.

    Args:
        path: in messages.
        header: its first 540 bytes.

    Returns:
        The 348 bytes of the other header, in the same byte order and with the offset of
        the values that a copy has, 352; and the offset in the file itself.

    Raises:
        InputError: if it is truncated, or an axis is too long for NIfTI-1.
    """
    if len(header) < HEADER_SIZE:
        raise InputError(f"{path}: is truncated or damaged; copy or export it again")
    order = "<" if struct.unpack_from("<i", header)[0] == HEADER_SIZE else ">"
    kind, bits, *dims = struct.unpack_from(order + "2h8q", header, 12)
    if max(dims) > _LONGEST or min(dims) < 0:
        raise InputError(
            f"{path}: has an axis of {max(dims)} voxels, more than the {_LONGEST} that"
            " can be read here; split it"
        )
    pixdim = struct.unpack_from(order + "8d", header, 104)
    (start,) = struct.unpack_from(order + "q", header, 168)
    if not HEADER_SIZE <= start <= _LAST_START:
        raise InputError(
            f"{path}: says that its values begin at byte {start}; correct its header"
        )
    scaling = struct.unpack_from(order + "2d", header, 176)
    forms = struct.unpack_from(order + "2i18d", header, 344)
    _, units, intent = struct.unpack_from(order + "3i", header, 496)
    old = bytearray(348)
    old[328:344] = header[508:524]  # the name of the intent
    struct.pack_into(order + "i", old, 0, 348)
    struct.pack_into(order + "8h", old, 40, *dims)
    known = intent if abs(intent) <= _LONGEST else 0
    struct.pack_into(order + "3h", old, 68, known, kind, bits)
    try:
        struct.pack_into(order + "8f", old, 76, *pixdim)
        struct.pack_into(order + "3f", old, 108, _START, *scaling)
        struct.pack_into(order + "2h18f", old, 252, *forms)
    except (OverflowError, struct.error):
        raise InputError(
            f"{path}: holds numbers that no image has in its header; correct it"
        ) from None
    old[123] = units & 0xFF
    old[344:348] = b"n+1\0"
    return bytes(old), start


@contextlib.contextmanager
def readable_by_itk(path: Path, *, values: bool = True) -> Iterator[Path]:
    """Yield a path that ITK reads: the file itself, or a temporary copy.

    Copied are NIfTI-2, and NIfTI whose name does not say so: compressed in a ``.nii``,
    with another suffix or with none.

    Args:
        path: of any file.
        values: copy the values, too, and not the header alone.

    Yields:
        The path.

    Raises:
        InputError: if the copied file is damaged, as far as it is read.
    """
    is_packed, header = _read_start(path)
    name = path.name.lower()
    is_named = name.endswith(_PACKED) or (name.endswith(_PLAIN) and not is_packed)
    if is_nifti2(header):
        old, start = as_nifti1(path, header)
    elif header[344:348] == _MAGIC_1 and not is_named:
        # Its extensions, if any, are not needed.
        old, start = header[:348], _START
    else:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "nifti1.nii"
        try:
            with _open(path, is_packed) as source, copy.open("wb") as target:
                target.write(old + bytes(_START - len(old)))
                if values:
                    source.read(start)
                    shutil.copyfileobj(source, target)
        except (EOFError, zlib.error):
            raise InputError(
                f"{path}: is truncated or damaged; copy or export it again"
            ) from None
        yield copy


def _open(path: Path, is_packed: bool) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if is_packed else path.open("rb")


def _read_start(path: Path) -> tuple[bool, bytes]:
    """Return whether a file is compressed, and its first bytes.

    There are none if it cannot be read, for which ITK gives the reason.
    """
    is_packed = False
    try:
        with path.open("rb") as file:
            is_packed = file.read(2) == b"\x1f\x8b"
        with _open(path, is_packed) as file:
            return is_packed, file.read(HEADER_SIZE)
    except (OSError, EOFError, zlib.error):
        return is_packed, b""
