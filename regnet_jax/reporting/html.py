"""A report as a single HTML file that loads no other files.

Text is escaped by the template, figures and viewer sheets are data URIs, and a content
security policy forbids the page to load anything else.
"""

import base64
import functools
import io
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageChops

import regnet_jax
from regnet_jax.files import write_atomically
from regnet_jax.reporting.viewer import ViewerData

DPI = 110
_GREY = 16  # a figure whose channels differ by less is stored as grey
# Of PNG. The default, 6, takes twice the time for files that are a tenth smaller.
_COMPRESSION = 4

Row = Sequence[object]
Table = tuple[str, Row, Sequence[Row]]


class EncodedImage(NamedTuple):
    """An image as a page holds it.

    Attributes:
        uri: the image itself, as a data URI.
        width: pixels.
        height: pixels.
    """

    uri: str
    width: int
    height: int


def write_html(
    path: str | os.PathLike,
    *,
    title: str,
    summary: Sequence[Row] = (),
    tables: Sequence[Table] = (),
    figures: Sequence[tuple[str, str, Figure | EncodedImage]] = (),
    slices: ViewerData | None = None,
    notes: Sequence[str] = (),
    links: Mapping[str, str] | None = None,
    dpi: int = DPI,
) -> Path:
    """Write a report to one HTML file, atomically.

    Args:
        path: of the file; its folder exists.
        title: of the page.
        summary: the headline numbers, (label, value) or (label, value, detail).
        tables: (title, header, rows); a row has as many cells as the header, which may
            be empty.
        figures: (title, caption, figure).
        slices: from ``viewer_data``; adds the interactive viewer.
        notes: remarks below the summary.
        links: addresses, by the text at the beginning of the rows that lead there.
        dpi: of the figures.

    Returns:
        The path.

    Raises:
        InputError: if the file cannot be written.
    """
    page = (
        _environment()
        .get_template("report.html")
        .render(
            title=title,
            summary=[(*map(str, row), "")[:3] for row in summary],
            notes=[str(note) for note in notes],
            viewer=slices,
            figures=[
                (name, text, *_encode(figure, dpi)) for name, text, figure in figures
            ],
            links=dict(links or {}),
            tables=[_format_table(*table) for table in tables],
            version=regnet_jax.__version__,
        )
    )
    # File names may hold bytes that are not text; they become question marks.
    data = page.encode("utf-8", errors="replace")
    write_atomically(path, lambda name: Path(name).write_bytes(data))
    return Path(path)


def _encode(figure: Figure | EncodedImage, dpi: int) -> EncodedImage:
    if isinstance(figure, Figure):
        return encode_figure(figure, dpi)
    return figure


def encode_figure(figure: Figure, dpi: int = DPI) -> EncodedImage:
    """Encode a figure as a PNG.

    Args:
        figure: one without colour is stored with one channel, at half the size.
        dpi: dots per inch.

    Returns:
        The image.
    """
    image = _draw(figure, dpi)
    pairs = itertools.combinations(image.split()[:3], 2)
    if all(np.asarray(ImageChops.difference(*p)).max() <= _GREY for p in pairs):
        image = image.convert("LA")
    png = io.BytesIO()
    image.save(png, "PNG", compress_level=_COMPRESSION)
    text = base64.b64encode(png.getvalue()).decode()
    return EncodedImage(f"data:image/png;base64,{text}", *image.size)


def _draw(figure: Figure, dpi: int) -> Image.Image:
    """Return the pixels of a figure with four channels; the figure stays as it is."""
    png = io.BytesIO()
    # Packing it takes longer than drawing it.
    figure.savefig(png, format="png", dpi=dpi, pil_kwargs={"compress_level": 0})
    return Image.open(png).convert("RGBA")


def encode_animation(
    figures: Sequence[Figure], milliseconds: int, dpi: int = DPI
) -> EncodedImage:
    """Encode figures of one size as an animated GIF, which repeats for ever.

    All frames have the colours of the first, so that none flickers.

    Args:
        figures: the frames, on a background of their own.
        milliseconds: that each is shown.
        dpi: dots per inch.

    Returns:
        The image.
    """
    frames: list[Image.Image] = []
    for figure in figures:
        frame = _draw(figure, dpi).convert("RGB")
        palette = frames[0] if frames else None
        frames.append(frame.quantize(128, palette=palette, dither=Image.Dither.NONE))
    gif = io.BytesIO()
    frames[0].save(
        gif,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=milliseconds,
        loop=0,
    )
    text = base64.b64encode(gif.getvalue()).decode()
    return EncodedImage(f"data:image/gif;base64,{text}", *frames[0].size)


def _format_table(name: str, head: Row, rows: Sequence[Row]):
    """Return a table as text, and which of its columns hold only numbers."""
    rows = [[str(value) for value in row] for row in rows]
    columns = list(zip(*rows, strict=True))
    numeric = [all(_is_number(text) for text in column) for column in columns]
    head = [str(cell) for cell in head]
    return name, head, rows, numeric or [False] * len(head)


def _is_number(text: str) -> bool:
    if text in ("n/a", ""):
        return True
    try:
        float(text.lstrip("< ").rstrip(" %sm").replace(",", ""))
    except ValueError:
        return False
    return True


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("regnet_jax.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
