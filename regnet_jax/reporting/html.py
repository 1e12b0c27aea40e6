"""One HTML file that holds the whole report: no network, no other file.

Text is escaped by the template, figures and viewer sheets are data URIs, and
a content security policy forbids the page to load anything else.
"""

import base64
import errno
import functools
import io
import os
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import regnet_jax
from regnet_jax.errors import InputError
from regnet_jax.reporting.viewer import ViewerData

DPI = 110
_GREY = 16  # the channels of the ink differ by less


def write_report(
    path: str | os.PathLike,
    *,
    title: str,
    summary: Sequence[Sequence[object]] = (),
    tables: Sequence[tuple[str, Sequence[object], Sequence[Sequence[object]]]] = (),
    figures: Sequence[tuple[str, str, Figure]] = (),
    slices: ViewerData | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Writes a self-contained HTML report and returns its path.

    ``summary`` is the row of headline numbers, (label, value) or (label,
    value, detail); ``notes`` are remarks shown under it. ``slices`` comes
    from ``viewer_data`` and adds the interactive viewer. ``figures`` are
    (title, caption, figure); ``tables`` are (title, header, rows) with as
    many cells in a row as in the header, which may be empty. The file
    appears complete or not at all; ``InputError`` says why it could not.
    """
    page = (
        _environment()
        .get_template("report.html")
        .render(
            title=title,
            summary=[(*map(str, row), "")[:3] for row in summary],
            notes=[str(note) for note in notes],
            viewer=slices,
            figures=[(name, text, *encode_figure(f)) for name, text, f in figures],
            tables=[_table(*table) for table in tables],
            version=regnet_jax.__version__,
        )
    )
    return _write_whole(Path(path), page)


def encode_figure(figure: Figure, dpi: int = DPI) -> tuple[str, int, int]:
    """A figure as the data URI of a PNG, with its width and height in pixels.

    A figure without colour is stored with one channel of grey, at half the
    size.
    """
    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=dpi, pil_kwargs={"compress_level": 0})
    image = Image.open(raw)
    if np.ptp(np.asarray(image)[..., :3], axis=-1).max() <= _GREY:
        image = image.convert("LA")
    png = io.BytesIO()
    image.save(png, "PNG")
    text = base64.b64encode(png.getvalue()).decode()
    return f"data:image/png;base64,{text}", *image.size


def _table(name: str, head: Sequence[object], rows: Sequence[Sequence[object]]):
    """A table as text, and for each column whether numbers fill it."""
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


def _write_whole(path: Path, text: str) -> Path:
    """Writes beside ``path`` and renames, so that nobody sees half a file."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", errors="replace")
        os.replace(part, path)
    except OSError as error:
        reason = error.strerror or error
        full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
        remedy = (
            "free some space"
            if full
            else "choose a folder that exists and can be written"
        )
        raise InputError(
            f"cannot write the report {path}: {reason}; {remedy}"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return path
