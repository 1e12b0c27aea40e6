"""Slices of a pair, packed for the interactive viewer of the report.

Each plane of each image becomes one JPEG with at most 64 tiles, eight bits per pixel.
The tiles are upright, so that the viewer copies them to the screen unchanged. See
``slices`` for the orientation.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from PIL import Image

from regnet_jax.reporting.slices import (
    IntensityWindow,
    Plane,
    View,
    as_image,
    clip_to_window,
)

ROLES = ("fixed", "warped", "moving")
_COLUMNS = 8  # of tiles on a sheet
_BLOCK = 8  # pixels of a JPEG block; no artefacts cross tiles of whole blocks
# Longer side of a tile in pixels and JPEG quality, from the best to the smallest.
_QUALITIES = ((256, 82), (224, 76), (192, 70), (160, 64), (128, 56), (96, 50))


@dataclass(frozen=True)
class ViewerData:
    """The content of the viewer.

    Attributes:
        planes: as the page reads them. A plane has ``name``, ``axis`` (z, y, x or
            empty), ``edges`` (letters of the left, right, top, bottom side), ``ratio``
            (width over height in mm), ``tile`` (width, height in pixels), ``columns``
            of the sheet, ``slices`` (indices shown), ``total``, ``start`` (the first
            tile shown) and ``sheets``, a data URI for each of fixed, warped, moving.
        names: of the images, by fixed, warped and moving.
    """

    planes: tuple[Mapping[str, Any], ...]
    names: Mapping[str, str]

    @property
    def size(self) -> int:
        """Number of characters of all sheets together."""
        return sum(len(u) for p in self.planes for u in p["sheets"].values())


def viewer_data(
    fixed: np.ndarray,
    moving: np.ndarray,
    warped: np.ndarray,
    view: View,
    *,
    names: Mapping[str, str] | None = None,
    max_slices: int = 64,
    max_bytes: int = 2_400_000,
) -> ViewerData:
    """Pack three images of one grid for the viewer.

    Tiles get smaller and coarser until the sheets are small enough.

    Args:
        fixed: ``[z, y, x]`` or ``[y, x]``.
        moving: of the same shape, before.
        warped: of the same shape, after.
        view: intensity window, and the index that the viewer shows first.
        names: of the images, by fixed, warped and moving; all optional.
        max_slices: of a plane.
        max_bytes: of all sheets as text.

    Returns:
        The content of the viewer.
    """
    images = dict(zip(ROLES, (fixed, warped, moving), strict=True))
    ndim = len(view.spacing)
    images = {role: as_image(image, ndim, role) for role, image in images.items()}
    view = view.resolve(images["fixed"], images["moving"])
    planes = view.planes(images["fixed"].shape)
    shown = {role: role.capitalize() for role in ROLES} | dict(names or {})
    window = cast(IntensityWindow, view.window)
    images = {role: _to_bytes(image, window) for role, image in images.items()}
    bytes_per_pixel = 0.0
    for side, quality in _QUALITIES:
        is_last = (side, quality) == _QUALITIES[-1]
        # Skip sizes that are certain to be too large.
        if 0.85 * bytes_per_pixel * side**2 > max_bytes and not is_last:
            continue
        packed = [_pack(p, images, max_slices, side, quality) for p in planes]
        data = ViewerData(tuple(packed), shown)
        if data.size <= max_bytes:
            break
        bytes_per_pixel = data.size / side**2
    return data


def _to_bytes(image: np.ndarray, window: IntensityWindow) -> np.ndarray:
    """Scale the intensity window to bytes; row by row to save memory."""
    low, high = window
    result = np.empty(image.shape, np.uint8)
    for row, target in zip(image, result, strict=True):
        scaled = (clip_to_window(row, window) - low) * (255.0 / (high - low))
        np.rint(scaled, out=target, casting="unsafe")
    return result


def _pack(plane: Plane, images, max_slices, side, quality) -> dict:
    """Return one plane of all images, as the page reads it."""
    total = 1 if plane.axis is None else images["fixed"].shape[plane.axis]
    shown = np.unique(np.linspace(0, total - 1, min(total, max_slices)).round())
    shown = shown.astype(int).tolist()
    tile = _tile_size(plane, side)
    stacks = {role: _upright(plane, image, shown) for role, image in images.items()}
    start = (
        0 if plane.index is None else np.abs(np.subtract(shown, plane.index)).argmin()
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
    """Return width and height of a tile: whole blocks, at most ``side`` pixels."""
    rows, columns = plane.size
    width, height = columns * plane.spacing[1], rows * plane.spacing[0]
    pixel = max(min(plane.spacing), max(width, height) / side)
    blocks = (round(edge / pixel / _BLOCK) for edge in (width, height))
    across, down = (max(n, 1) * _BLOCK for n in blocks)
    return across, down


def _upright(plane: Plane, image: np.ndarray, shown: Sequence[int]) -> np.ndarray:
    """Return slices of an image, ``[n, rows, columns]``, first row on top."""
    if plane.axis is None:
        return image[None]
    stack = np.moveaxis(np.take(image, shown, axis=plane.axis), plane.axis, 0)
    return stack[:, ::-1] if plane.up else stack


def _sheet(stack: np.ndarray, tile: tuple[int, int]) -> Image.Image:
    """Arrange the slices of a stack as tiles of one grey image."""
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
