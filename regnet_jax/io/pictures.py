"""What ITK does not say of pictures: the pages of TIFF, and how a photo is held."""

import contextlib
import struct
import warnings
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

# Tags of TIFF 6.0. What a page is for, with bits for previews and masks, which ITK
# leaves out.
_PURPOSE, _LEFT_OUT = 254, 1 | 4
# Those of ``Page``, and what they are where a page does not say it.
_PIXELS = {256: 0, 257: 0, 258: 1, 277: 1, 339: 1}
# The tag of EXIF that says how a picture is to be turned; 1 is upright.
_ORIENTATION = 274
# The version of BigTIFF, whose header is twice as long.
_BIG = b"\x2b"


class Page(NamedTuple):
    """Width, height, bits of a sample, samples of a pixel and format of samples."""

    width: int
    height: int
    bits: int | tuple[int, ...]
    samples: int
    format: int | tuple[int, ...]


def pages_of(path: Path) -> list[Page]:
    """List the pages of a TIFF or BigTIFF that ITK reads.

    Args:
        path: of the file.

    Returns:
        The pages, as far as they can be read.
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
                    pages.append(
                        Page(*(page.get(tag, d) for tag, d in _PIXELS.items()))
                    )
    return pages


def orientation_of(path: Path) -> int:
    """Return how a viewer turns or mirrors a picture, a number of EXIF; 1 is upright.

    Args:
        path: of a PNG or JPEG file.

    Returns:
        The number; 1 where there is none, or it cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Damage, which others notice, and sizes that Pillow warns of.
        with contextlib.suppress(Exception), path.open("rb") as file:
            return int(Image.open(file).getexif().get(_ORIENTATION, 1))
    return 1
