"""Slices of a pair, packed for the interactive viewer of the report.

Each plane of each image becomes one JPEG of tiles, at most 64 of them, eight
bits a pixel. Tiles are drawn upright already: the viewer copies them to the
screen. See ``slices`` for the orientation.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from regnet_jax.reporting.slices import (
    Plane,
    Window,
    as_image,
    auto_window,
    choose_planes,
    differing_index,
    windowed,
)

ROLES = ("fixed", "warped", "moving")
_COLUMNS = 8  # tiles beside one another
_BLOCK = 8  # the block of a JPEG: tiles of whole blocks do not bleed
_QUALITIES = ((256, 82), (224, 76), (192, 70), (160, 64), (128, 56), (96, 50))


@dataclass(frozen=True)
class ViewerData:
    """What the viewer shows: ``planes`` as the page reads them, names of the images.

    A plane has ``name``, ``axis`` (z, y, x or empty), ``edges`` (letters of
    the left, right, top, bottom side), ``ratio`` (width over height in mm),
    ``tile`` (width, height in pixels), ``columns`` of the sheet, ``slices``
    (indices shown), ``total``, ``start`` (the tile to begin with) and
    ``sheets``, a data URI for each of fixed, warped and moving.
    """

    planes: tuple[Mapping[str, object], ...]
    names: Mapping[str, str]

    @property
    def size(self) -> int:
        """Characters of all sheets together."""
        return sum(len(u) for p in self.planes for u in p["sheets"].values())


def viewer_data(
    fixed: np.ndarray,
    moving: np.ndarray,
    warped: np.ndarray,
    *,
    spacing: Sequence[float],
    window: Window | None = None,
    index: Sequence[int] | None = None,
    names: Mapping[str, str] | None = None,
    max_slices: int = 64,
    max_bytes: int = 2_400_000,
) -> ViewerData:
    """Packs three images ``[z, y, x]`` or ``[y, x]`` of one grid for the viewer.

    ``spacing`` is in array order in mm, ``window`` (low, high) is drawn black
    to white, ``index`` is where the viewer begins. ``names`` may say what
    fixed, warped and moving are called. Tiles get smaller and coarser until
    the sheets take at most ``max_bytes`` as text.
    """
    ndim = len(spacing)
    images = dict(zip(ROLES, (fixed, warped, moving), strict=True))
    images = {role: as_image(image, ndim, role) for role, image in images.items()}
    fixed, _, moving = images.values()
    window = auto_window(fixed) if window is None else window
    if index is None and ndim == 3:
        index = differing_index(fixed, moving, window)
    planes = choose_planes(fixed.shape, spacing, index)
    shown = dict(zip(ROLES, ("Fixed", "Warped", "Moving"), strict=True))
    shown.update(names or {})
    images = {role: _bytes8(image, window) for role, image in images.items()}
    scale = 0.0
    for side, quality in _QUALITIES:
        if 0.85 * scale * side**2 > max_bytes and (side, quality) != _QUALITIES[-1]:
            continue
        packed = [_pack(p, images, max_slices, side, quality) for p in planes]
        data = ViewerData(tuple(packed), shown)
        if data.size <= max_bytes:
            break
        scale = data.size / side**2  # skips the sizes that cannot fit
    return data


def _bytes8(image: np.ndarray, window: Window) -> np.ndarray:
    """An image as bytes, ``window`` from 0 to 255; done by rows to save memory."""
    low, high = window
    result = np.empty(image.shape, np.uint8)
    for row, target in zip(image, result, strict=True):
        scaled = (windowed(row, window) - low) * (255.0 / (high - low))
        np.rint(scaled, out=target, casting="unsafe")
    return result


def _pack(plane: Plane, images, max_slices, side, quality) -> dict:
    """One plane of all images, as the page reads it."""
    total = 1 if plane.axis is None else images["fixed"].shape[plane.axis]
    shown = np.unique(np.linspace(0, total - 1, min(total, max_slices)).round())
    shown = shown.astype(int).tolist()
    tile = _tile_size(plane, side)
    stacks = {role: _upright(plane, image, shown) for role, image in images.items()}
    start = (
        0 if plane.axis is None else np.abs(np.subtract(shown, plane.index)).argmin()
    )
    return {
        "name": plane.name,
        "axis": "" if plane.axis is None else "zyx"[plane.axis],
        "edges": plane.edges,
        "ratio": round(plane.aspect, 4),
        "tile": tile,
        "columns": min(_COLUMNS, len(shown)),
        "slices": shown,
        "total": total,
        "start": int(start),
        "sheets": {
            role: _jpeg(_sheet(stack, tile), quality) for role, stack in stacks.items()
        },
    }


def _tile_size(plane: Plane, side: int) -> tuple[int, int]:
    """Width and height in pixels, whole blocks, square in mm, at most ``side``."""
    rows, columns = plane.size
    width, height = columns * plane.spacing[1], rows * plane.spacing[0]
    pixel = max(min(plane.spacing), max(width, height) / side)
    blocks = (round(edge / pixel / _BLOCK) for edge in (width, height))
    return tuple(max(n, 1) * _BLOCK for n in blocks)


def _upright(plane: Plane, image: np.ndarray, shown: Sequence[int]) -> np.ndarray:
    """The slices ``[n, rows, columns]`` of an image, first row on top."""
    if plane.axis is None:
        return image[None]
    stack = np.moveaxis(np.take(image, shown, axis=plane.axis), plane.axis, 0)
    return stack[:, ::-1] if plane.up else stack


def _sheet(stack: np.ndarray, tile: tuple[int, int]) -> Image.Image:
    """Tiles of a stack ``[n, rows, columns]``, row by row on one grey image."""
    columns = min(_COLUMNS, len(stack))
    rows = -(-len(stack) // columns)
    sheet = Image.new("L", (columns * tile[0], rows * tile[1]))
    for n, pixels in enumerate(stack):
        image = Image.fromarray(np.ascontiguousarray(pixels))
        image = image.resize(tile, Image.Resampling.BILINEAR)
        sheet.paste(image, (n % columns * tile[0], n // columns * tile[1]))
    return sheet


def _jpeg(image: Image.Image, quality: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
