"""Checks of the values of MetaImage and NRRD files that are compressed or in parts.

ITK reads a damaged stream as noise, and a list of too few files as fewer slices of
another place, both silently.
"""

import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from regnet_jax.errors import InputError

# Bytes of a value. The length of MET_LONG depends on the system that wrote it.
_META_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"), 8),
}
_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), 1),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int"), 2),
    **dict.fromkeys(("int16", "int16_t", "ushort", "unsigned short"), 2),
    **dict.fromkeys(("unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "float"), 4),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "double"), 8),
    **dict.fromkeys(("int64", "int64_t", "ulonglong", "uint64", "uint64_t"), 8),
}
# Bytes that are decompressed at a time; zeros grow a thousandfold.
_CHUNK = 1 << 16
# zlib finds out by itself whether a stream is its own or that of gzip.
_EITHER = zlib.MAX_WBITS + 32
_GZIP = b"\x1f\x8b"
# Keys of NRRD that move the beginning of the values.
_SKIPS = {"line skip", "lineskip", "byte skip", "byteskip"}


def check_meta_values(
    path: Path, fields: Mapping[str, str], file: IO[bytes], *, streams: bool
) -> None:
    """Check the compressed values, or the list of files, of a MetaImage.

    Args:
        path: of the header.
        fields: of the header by key.
        file: the header, read to its end.
        streams: decompress the values; otherwise only what the header says of them is
            checked.

    Raises:
        InputError: if the values are damaged, or files are missing in the list.
    """
    source, *words = fields["ElementDataFile"].split() or [""]
    sizes = _whole_numbers(fields.get("DimSize", ""))
    if source.upper() == "LIST":
        content = file.read()
        if not content.endswith(b"\n"):
            # ITK does not read the last slice then.
            raise InputError(
                f"{path}: its list of files does not end with a line break; add one"
            )
        listed = [line for line in content.split(b"\n") if line.strip()]
        dimensions = _whole_numbers(" ".join(words)) or [len(sizes) - 1]
        wanted = math.prod(sizes[dimensions[0] :])
        if len(listed) != wanted:
            raise InputError(
                f"{path}: lists {len(listed)} files for {wanted} slices; correct the"
                " list"
            )
        return
    if fields.get("CompressedData", "").lower() != "true":
        return
    length = (_whole_numbers(fields.get("CompressedDataSize", "")) or [0])[0]
    one = _META_BYTES.get(fields.get("ElementType", ""))
    channels = _whole_numbers(fields.get("ElementNumberOfChannels", "")) or [1]
    needed = one and one * channels[0] * math.prod(sizes)
    if source.upper() == "LOCAL":
        if not length:
            raise InputError(
                f"{path}: does not say how long its compressed values are"
                " (CompressedDataSize); save it again"
            )
        if streams:
            _check_stream(path, file, needed, length)
    elif streams and (values := path.parent / fields["ElementDataFile"]).is_file():
        with values.open("rb") as opened:
            _check_stream(values, opened, needed, length)


def check_nrrd_values(path: Path, fields: Mapping[str, str], file: IO[bytes]) -> None:
    """Check the values of a NRRD file that are compressed by gzip.

    Args:
        path: of the header.
        fields: of the header by key, in small letters.
        file: the header, read to the values.

    Raises:
        InputError: if the values are damaged.
    """
    skips = _SKIPS & set(fields)
    if fields.get("encoding", "").lower() not in ("gzip", "gz") or skips:
        return
    one = _NRRD_BYTES.get(fields.get("type", "").lower())
    needed = one and one * math.prod(_whole_numbers(fields.get("sizes", "")))
    detached = fields.get("data file") or fields.get("datafile")
    if detached is None:
        _check_stream(path, file, needed, 0)
    elif (values := path.parent / detached).is_file():
        with values.open("rb") as opened:
            _check_stream(values, opened, needed, 0)


def _whole_numbers(text: str) -> list[int]:
    return [int(word) for word in text.split() if word.isdecimal()]


def _check_stream(path: Path, file: IO[bytes], needed: int | None, length: int) -> None:
    """Raise InputError unless a stream is whole.

    Args:
        path: in the message.
        file: from where the stream begins.
        needed: bytes of its content; None if they are not known.
        length: of the stream; 0 for the rest of the file.
    """
    left, count, stream = length or math.inf, 0, zlib.decompressobj(_EITHER)
    try:
        while left and (chunk := file.read(int(min(left, _CHUNK)))):
            left -= len(chunk)
            while chunk:
                count += len(stream.decompress(chunk))
                chunk = stream.unused_data
                if chunk.startswith(_GZIP):
                    # A file of gzip may hold several streams.
                    stream = zlib.decompressobj(_EITHER)
                else:
                    chunk = b""
    except zlib.error:
        count = -1
    if not stream.eof or (needed is not None and count != needed):
        raise InputError(f"{path}: is truncated or damaged; copy or export it again")
