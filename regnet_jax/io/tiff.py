"""Pages of TIFF files, of which ITK reads the header of the first alone."""

import contextlib
import struct
import warnings
from pathlib import Path

from PIL.TiffImagePlugin import ImageFileDirectory_v2

# Tags of TIFF 6.0. What a page is for, with bits for previews and masks, which ITK
# leaves out.
_PURPOSE, _LEFT_OUT = 254, 1 | 4
# Width, height, bits of a sample, samples of a pixel and format of samples, and what
# they are where a page does not say it.
_PIXELS = {256: 0, 257: 0, 258: 1, 277: 1, 339: 1}
# The version of BigTIFF, whose header is twice as long.
_BIG = b"\x2b"


def pages_of(path: Path) -> list[tuple]:
    """List the pages of a TIFF or BigTIFF that ITK reads.

    Args:
        path: of the file.

    Returns:
        Width, height, bits of a sample, samples of a pixel and format of samples of
        each page, as far as they can be read.
    """
    pages, seen = [], set()
    with path.open("rb") as file, warnings.catch_warnings():
        # Damage, which ITK notices.
        warnings.simplefilter("ignore")
        with contextlib.suppress(SyntaxError, TypeError, struct.error):
            start = file.read(8)
            is_big = start[2:3] == _BIG
            page = ImageFileDirectory_v2(start + file.read(8 if is_big else 0))
            while page.next and page.next not in seen:
                seen.add(page.next)
                file.seek(page.next)
                page.load(file)
                if not page.get(_PURPOSE, 0) & _LEFT_OUT:
                    pages.append(tuple(page.get(tag, d) for tag, d in _PIXELS.items()))
    return pages
