"""Figures of images: the pair, its differences, its checkerboards.

Images are ``[z, y, x]`` or ``[y, x]`` (a last axis of one channel is
accepted), all on the grid of the fixed image; ``moving`` is the moving image
before the nonrigid registration, resampled there, ``warped`` after it.
``spacing`` is in array order, (z, y, x) or (y, x), in mm. ``window`` is
(low, high) in intensities, by default ``auto_window`` of the fixed image.
``index`` is the position (z, y, x) of the planes, by default where the fixed
and the moving image differ most. See ``slices`` for the orientation.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from regnet_jax.reporting import drawing
from regnet_jax.reporting.slices import (
    Plane,
    Window,
    as_image,
    auto_window,
    choose_planes,
    differing_index,
    windowed,
)


def pair_figure(
    fixed: np.ndarray,
    moving: np.ndarray,
    warped: np.ndarray,
    *,
    spacing: Sequence[float],
    window: Window | None = None,
    index: Sequence[int] | None = None,
) -> Figure:
    """Rows are planes, columns the fixed, the moving and the warped image."""
    images, planes, window = _prepare((fixed, moving, warped), spacing, window, index)
    sheet = drawing.panel_sheet(
        [1.0] * 3,
        [1.0 / plane.aspect for plane in planes],
        row_labels=[p.label for p in planes] if len(planes) > 1 else (),
        column_labels=("fixed", "moving", "warped"),
    )
    for row, plane in zip(sheet.panels, planes, strict=True):
        for axes, image in zip(row, images, strict=True):
            drawing.show_grey(axes, plane, image, window)
        drawing.annotate(row[0], plane)
    return sheet.figure


def difference_figure(
    fixed: np.ndarray,
    moving: np.ndarray,
    warped: np.ndarray,
    *,
    spacing: Sequence[float],
    window: Window | None = None,
    index: Sequence[int] | None = None,
) -> Figure:
    """Fixed minus moving (before) and fixed minus warped (after).

    Both on one symmetric scale, which ends at the 99.5th percentile of the
    absolute difference before; intensities are clipped to ``window`` first.
    """
    images, planes, window = _prepare((fixed, moving, warped), spacing, window, index)
    before, after = (
        [
            windowed(plane.take(images[0]), window)
            - windowed(plane.take(other), window)
            for plane in planes
        ]
        for other in images[1:]
    )
    limit = float(np.percentile(np.abs(np.concatenate([*map(np.ravel, before)])), 99.5))
    limit = limit if limit > 0 else 0.5 * (window[1] - window[0])
    sheet, rows = drawing.variant_sheet(planes, ("before", "after"), bar=True)
    style = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    for row, slices in zip(rows, (before, after), strict=True):
        for axes, plane, pixels in zip(row, planes, slices, strict=True):
            artist = drawing.show(axes, plane, pixels, **style)
            drawing.frame(axes)
    drawing.colour_bar(sheet, artist, "fixed minus other, intensity", extend="both")
    return sheet.figure


def checkerboard_figure(
    fixed: np.ndarray,
    moving: np.ndarray,
    warped: np.ndarray,
    *,
    spacing: Sequence[float],
    window: Window | None = None,
    index: Sequence[int] | None = None,
    tiles: int = 8,
) -> Figure:
    """Squares of the fixed image alternate with the moving and the warped one.

    ``tiles`` is the number of squares along the longer side; edges that run
    on across them are aligned.
    """
    images, planes, window = _prepare((fixed, moving, warped), spacing, window, index)
    sheet, rows = drawing.variant_sheet(planes, ("before", "after"))
    for row, other in zip(rows, images[1:], strict=True):
        for axes, plane in zip(row, planes, strict=True):
            pair = plane.take(images[0]), plane.take(other)
            pixels = np.where(checkerboard(plane, tiles), *pair)
            low, high = window
            drawing.show(axes, plane, pixels, cmap="gray", vmin=low, vmax=high)
    for axes, plane in zip(rows[0], planes, strict=True):
        drawing.annotate(axes, plane)
    return sheet.figure


def checkerboard(plane: Plane, tiles: int) -> np.ndarray:
    """The mask ``[rows, columns]`` of the squares of the first image.

    Squares are square in mm, ``tiles`` of them along the longer side.
    """
    edges = [n * s for n, s in zip(plane.size, plane.spacing, strict=True)]
    side = max(edges) / tiles
    y, x = (
        np.floor((np.arange(n) + 0.5) * s / side).astype(int)
        for n, s in zip(plane.size, plane.spacing, strict=True)
    )
    return (y[:, None] + x[None, :]) % 2 == 0


def _prepare(images, spacing, window, index):
    """Images of one shape, the planes to draw and the window to draw them in."""
    ndim = len(spacing)
    images = [as_image(image, ndim) for image in images]
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise ValueError(f"images on one grid are needed, not shapes {sorted(shapes)}")
    window = auto_window(images[0]) if window is None else tuple(window)
    if index is None and ndim == 3:
        index = differing_index(*images[:2], window)
    return images, choose_planes(images[0].shape, spacing, index), window


def volumes_figure(
    volumes: Mapping[str, np.ndarray], *, spacing: float, window: Window
) -> Figure:
    """Axial and coronal slices through the middle of volumes, a column for each.

    Args:
        volumes: ``[z, y, x]`` of one shape by label, z up and y to the back.
        spacing: isotropic voxel size, mm.
        window: darkest and brightest value shown.

    Returns:
        The figure.

    Raises:
        ValueError: if the volumes are none or of several shapes.
    """
    shapes = {np.shape(volume) for volume in volumes.values()}
    if len(shapes) != 1:
        raise ValueError(f"volumes must be of one shape, not {sorted(shapes)}")
    depth, height, width = shapes.pop()
    sheet = drawing.panel_sheet([width] * len(volumes), [height, depth], width=12.0)
    low, high = window
    for axes, (label, volume) in zip(sheet.panels.T, volumes.items(), strict=True):
        slices = volume[depth // 2], volume[::-1, height // 2]
        for panel, pixels in zip(axes, slices, strict=True):
            (plane,) = choose_planes(pixels.shape, (spacing, spacing))
            drawing.show(panel, plane, pixels, cmap="gray", vmin=low, vmax=high)
        drawing.write(axes[0], 0.03, 0.97, label, va="top")
    return sheet.figure
