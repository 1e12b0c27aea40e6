"""Pages of TIFF files, of which ITK reads the header of the first alone.

The fields are those of TIFF 6.0; a BigTIFF has wider numbers.
"""

import contextlib
import struct
from pathlib import Path
from typing import IO, NamedTuple

# Fields of a page: what it is for, and what its pixels are like: width, height, bits,
# samples and format.
_PURPOSE, _PIXELS = 254, (256, 257, 258, 277, 339)
# What the last three are where a page does not say it.
_USUAL = {258: 1, 277: 1, 339: 1}
# Formats of the numbers in a field by its type.
_FORMATS = {1: "B", 3: "H", 4: "I", 16: "Q"}
# Of the purpose: bits of previews and of masks, which ITK leaves out.
_LEFT_OUT = 1 | 4


class _Layout(NamedTuple):
    """Formats of numbers: of an offset, of the count of fields, and of a field."""

    order: str
    offset: str
    count: str
    field: str


def pages_of(path: Path) -> list[dict[int, int]]:
    """List the pages of a TIFF that ITK reads.

    Args:
        path: of the file.

    Returns:
        Width, height, bits of a sample, samples of a pixel and format of samples of
        each page, by the numbers of their fields; as far as they can be read.
    """
    pages: list[dict[int, int]] = []
    with path.open("rb") as file:
        start = file.read(16)
        order = "<" if start[:2] == b"II" else ">"
        seen = set()
        # Of a truncated file, which ITK notices.
        with contextlib.suppress(struct.error):
            is_big = struct.unpack_from(order + "H", start, 2)[0] == 43
            layout = (
                _Layout(order, "Q", "Q", "HHQ8s")
                if is_big
                else _Layout(order, "I", "H", "HHI4s")
            )
            (place,) = struct.unpack_from(order + layout.offset, start, 4 + 4 * is_big)
            while place and place not in seen:
                seen.add(place)
                file.seek(place)
                page = _read_page(file, layout)
                if not page.pop(_PURPOSE, 0) & _LEFT_OUT:
                    pages.append(page)
                (place,) = _unpack(file, order + layout.offset)
    return pages


def _read_page(file: IO[bytes], layout: _Layout) -> dict[int, int]:
    """Read the fields of a page; leave the file at the place of the next."""
    (count,) = _unpack(file, layout.order + layout.count)
    page = dict(_USUAL)
    for _ in range(count):
        tag, kind, length, value = _unpack(file, layout.order + layout.field)
        form = layout.order + _FORMATS.get(kind, "")
        if tag not in (_PURPOSE, *_PIXELS) or len(form) == 1:
            continue
        if length * struct.calcsize(form) > len(value):
            # All numbers of such a field are alike.
            (place,) = struct.unpack(layout.order + layout.offset, value)
            here = file.tell()
            file.seek(place)
            value = file.read(struct.calcsize(form))
            file.seek(here)
        (page[tag],) = struct.unpack_from(form, value)
    return page


def _unpack(file: IO[bytes], form: str) -> tuple:
    return struct.unpack(form, file.read(struct.calcsize(form)))
