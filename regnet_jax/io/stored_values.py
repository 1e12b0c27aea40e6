"""Checks of the values of MetaImage and NRRD files, compressed, in parts or plain.

ITK reads a damaged stream as noise, a list of too few files as fewer slices of another
place, and of more values than the header says the first, all silently. A pattern of
file names whose numbers do not fit leaves slices undefined or ends the process.
"""

import logging
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from regnet_jax.errors import InputError

_LOG = logging.getLogger(__name__)

# Bytes of a value. Some systems wrote eight for MET_LONG, of which ITK takes four.
_META_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_LONG", "MET_ULONG", "MET_FLOAT"), 4),
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
# A pattern of file names as ITK prints it, and a whole number.
_PATTERN, _WHOLE = re.compile(r"^[^%]*%\d*[di][^%]*$"), re.compile(r"-?\d+")
# Keys of NRRD that move the beginning of the values.
_SKIPS = {"line skip", "lineskip", "byte skip", "byteskip"}


def check_meta_values(
    path: Path, fields: Mapping[str, str], file: IO[bytes], *, streams: bool
) -> None:
    """Check the values, or the list of files, of a MetaImage.

    Args:
        path: of the header.
        fields: of the header by key.
        file: the header, read to its end.
        streams: decompress or count the values; otherwise only what the header says of
            them is checked.

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
    if "%" in fields["ElementDataFile"]:
        _check_pattern(path, [source, *words], sizes)
        return
    length = (_whole_numbers(fields.get("CompressedDataSize", "")) or [0])[0]
    one = _META_BYTES.get(fields.get("ElementType", ""))
    channels = _whole_numbers(fields.get("ElementNumberOfChannels", "")) or [1]
    needed = one and one * channels[0] * math.prod(sizes)
    if fields.get("CompressedData", "").lower() != "true":
        plain = fields.get("BinaryData", "").lower() == "true"
        if streams and plain and "HeaderSize" not in fields:
            detached = None if source.upper() == "LOCAL" else fields["ElementDataFile"]
            _warn_of_surplus(path, detached, file, needed)
        return
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
    """Check the values of a NRRD file that are plain or compressed by gzip.

    Args:
        path: of the header.
        fields: of the header by key, in small letters.
        file: the header, read to the values.

    Raises:
        InputError: if the values are damaged.
    """
    encoding = fields.get("encoding", "").lower()
    if encoding in ("bzip2", "bz2"):
        raise InputError(
            f"{path}: its values are packed by bzip2, which is not read here; save it"
            " with the encoding gzip"
        )
    if encoding not in ("gzip", "gz", "raw") or _SKIPS & set(fields):
        return
    one = _NRRD_BYTES.get(fields.get("type", "").lower())
    needed = one and one * math.prod(_whole_numbers(fields.get("sizes", "")))
    detached = fields.get("data file") or fields.get("datafile")
    if encoding == "raw":
        _warn_of_surplus(path, detached, file, needed)
        return
    if detached is None:
        _check_stream(path, file, needed, 0)
    elif (values := path.parent / detached).is_file():
        with values.open("rb") as opened:
            _check_stream(values, opened, needed, 0)


def _check_pattern(path: Path, words: Sequence[str], sizes: Sequence[int]) -> None:
    """Raise InputError unless a pattern of file names gives one for each slice.

    Args:
        path: of the header.
        words: the pattern, the first number, and possibly the last and the step.
        sizes: of the image; the last axis counts the slices.
    """
    slices = sizes[-1] if sizes else 0
    numbers = [int(word) for word in words[1:] if _WHOLE.fullmatch(word)]
    fits = len(numbers) == len(words) - 1 == 1
    if len(numbers) == len(words) - 1 == 3:
        first, last, step = numbers
        fits = step > 0 and len(range(first, last + 1, step)) == slices
    if not fits or not _PATTERN.search(words[0]):
        raise InputError(
            f"{path}: names its slices by {' '.join(words)!r}, which does not give"
            f" {slices} files; write a pattern, the first number, the last and the"
            " step, as in slice%03d.raw 1 20 1"
        )


def _warn_of_surplus(
    path: Path, detached: str | None, file: IO[bytes], needed: int | None
) -> None:
    """Warn of more values than the header says, which may say another size or type.

    Args:
        path: of the header.
        detached: the name of another file with the values; None if they follow.
        file: the header, read to the values.
        needed: bytes of the values; None if they are not known.
    """
    if detached is None:
        size = path.stat().st_size - file.tell()
    elif (values := path.parent / detached).is_file():
        size = values.stat().st_size
    else:
        return
    if needed is not None:
        warn_if_surplus(path, size, needed)


def warn_if_surplus(path: Path, size: int, needed: int) -> None:
    """Warn if values take more than the ``needed`` bytes that a header says."""
    if size > needed:
        _LOG.warning(
            "%s: its values take %d bytes where its header says %d, and the first are"
            " taken; check the size and the type in the header",
            *(path, size, needed),
        )


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
