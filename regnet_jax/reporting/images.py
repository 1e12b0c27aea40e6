"""Figures of images: the pair, its differences, its checkerboards, and volumes.

Images are ``[z, y, x]`` or ``[y, x]`` (a last axis of one channel is accepted), all on
the grid of the fixed image; ``moving`` is the moving image before the registration,
resampled there, and ``warped`` after it. A view without an index shows the planes
where the fixed and the moving image differ most. See ``slices`` for the orientation.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from matplotlib.figure import Figure

from regnet_jax.reporting import drawing
from regnet_jax.reporting.slices import (
    IntensityWindow,
    Plane,
    View,
    as_image,
    choose_planes,
    clip_to_window,
)

_DIFFERENCE_COLUMNS = 4


def pair_figure(
    fixed: np.ndarray, moving: np.ndarray, warped: np.ndarray, view: View
) -> Figure:
    """Draw the fixed, the moving and the warped image beside each other.

    Args:
        fixed: ``[*spatial]``.
        moving: ``[*spatial]``, before.
        warped: ``[*spatial]``, after.
        view: planes and intensity window.

    Returns:
        The figure; rows are planes.
    """
    images, planes, window = _prepare((fixed, moving, warped), view)
    sheet = drawing.panel_sheet(
        [1.0] * 3,
        [1.0 / plane.aspect for plane in planes],
        row_labels=[p.label for p in planes] if len(planes) > 1 else (),
        column_labels=("fixed", "moving", "warped"),
    )
    for row, plane in zip(sheet.panels, planes, strict=True):
        for axes, image in zip(row, images, strict=True):
            drawing.show_grey(axes, plane, plane.take(image), window)
        drawing.annotate(row[0], plane)
    return sheet.figure


def difference_figure(
    fixed: np.ndarray, moving: np.ndarray, warped: np.ndarray, view: View
) -> Figure:
    """Draw fixed minus moving (before) and fixed minus warped (after).

    Intensities are clipped to the window first. Both rows have one symmetric scale,
    which ends at the 99.5th percentile of the absolute difference before.

    Args:
        fixed: ``[*spatial]``.
        moving: ``[*spatial]``, before.
        warped: ``[*spatial]``, after.
        view: planes and intensity window.

    Returns:
        The figure.
    """
    images, planes, window = _prepare((fixed, moving, warped), view)
    before, after = (
        [
            clip_to_window(plane.take(images[0]), window)
            - clip_to_window(plane.take(other), window)
            for plane in planes
        ]
        for other in images[1:]
    )
    limit = float(np.percentile(np.abs(np.concatenate([*map(np.ravel, before)])), 99.5))
    limit = limit if limit > 0 else 0.5 * (window[1] - window[0])
    sheet, rows = drawing.variant_sheet(planes, ("before", "after"), bar=True)
    for row, slices in zip(rows, (before, after), strict=True):
        for axes, plane, pixels in zip(row, planes, slices, strict=True):
            artist = _show_difference(axes, plane, pixels, limit)
    drawing.colour_bar(sheet, artist, "fixed minus other, intensity", extend="both")
    return sheet.figure


def differences_figure(
    fixed: np.ndarray, others: Mapping[str, np.ndarray], *, spacing: Sequence[float]
) -> Figure:
    """Draw fixed minus each of several images in one plane, which is coronal in 3D.

    Args:
        fixed: ``[z, y, x]`` or ``[y, x]``, canonical in 3D.
        others: images on the same grid, by name. The first one determines the plane
            and the end of the scale.
        spacing: mm, array order.

    Returns:
        The figure.
    """
    view = View(spacing).resolve(fixed, next(iter(others.values())))
    plane = view.planes(fixed.shape)[0 if view.index is None else 1]
    target = clip_to_window(plane.take(fixed), view.window)
    slices = [
        target - clip_to_window(plane.take(other), view.window)
        for other in others.values()
    ]
    limit = float(np.percentile(np.abs(slices[0]), 99.5)) or 1.0
    columns = min(_DIFFERENCE_COLUMNS, len(others))
    rows = -(-len(others) // columns)
    sheet = drawing.panel_sheet([plane.aspect] * columns, [1.0] * rows, bar=True)
    panels = sheet.panels.ravel()
    for axes, name, pixels in zip(panels, others, slices, strict=False):
        artist = _show_difference(axes, plane, pixels, limit)
        drawing.write_text(axes, 0.03, 0.96, name, ha="left", va="top")
    for axes in panels[len(others) :]:
        axes.set_visible(False)
    drawing.colour_bar(sheet, artist, "fixed minus other, intensity", extend="both")
    return sheet.figure


def checkerboard_figure(
    fixed: np.ndarray,
    moving: np.ndarray,
    warped: np.ndarray,
    view: View,
    *,
    squares: int = 8,
) -> Figure:
    """Draw checkerboards of the fixed image with the moving and the warped image.

    Where the images are aligned, edges continue across the squares.

    Args:
        fixed: ``[*spatial]``.
        moving: ``[*spatial]``, before.
        warped: ``[*spatial]``, after.
        view: planes and intensity window.
        squares: their number along the longer side.

    Returns:
        The figure.
    """
    images, planes, window = _prepare((fixed, moving, warped), view)
    sheet, rows = drawing.variant_sheet(planes, ("before", "after"))
    for row, other in zip(rows, images[1:], strict=True):
        for axes, plane in zip(row, planes, strict=True):
            pair = plane.take(images[0]), plane.take(other)
            pixels = np.where(checkerboard(plane, squares), *pair)
            drawing.show_grey(axes, plane, pixels, window)
    for axes, plane in zip(rows[0], planes, strict=True):
        drawing.annotate(axes, plane)
    return sheet.figure


def checkerboard(plane: Plane, squares: int) -> np.ndarray:
    """Return which pixels of a checkerboard belong to the first image.

    Args:
        plane: to draw on; the squares are square in mm.
        squares: their number along the longer side.

    Returns:
        ``[rows, columns]`` bool.
    """
    edges = [n * s for n, s in zip(plane.size, plane.spacing, strict=True)]
    side = max(edges) / squares
    y, x = (
        np.floor((np.arange(n) + 0.5) * s / side).astype(int)
        for n, s in zip(plane.size, plane.spacing, strict=True)
    )
    return (y[:, None] + x[None, :]) % 2 == 0


def volumes_figure(
    volumes: Mapping[str, np.ndarray], *, spacing: float, window: IntensityWindow
) -> Figure:
    """Draw axial and coronal middle slices of volumes, one volume per column.

    Args:
        volumes: ``[z, y, x]`` of one shape by label, z up and y to the back.
        spacing: isotropic voxel size, mm.
        window: darkest and brightest value shown.

    Returns:
        The figure.

    Raises:
        ValueError: if there are no volumes, or volumes of several shapes.
    """
    shapes = {np.shape(volume) for volume in volumes.values()}
    if len(shapes) != 1:
        raise ValueError(f"volumes must be of one shape, not {sorted(shapes)}")
    depth, height, width = shapes.pop()
    sheet = drawing.panel_sheet([width] * len(volumes), [height, depth], width=12.0)
    for axes, (label, volume) in zip(sheet.panels.T, volumes.items(), strict=True):
        slices = volume[depth // 2], volume[::-1, height // 2]
        for panel, pixels in zip(axes, slices, strict=True):
            (plane,) = choose_planes(pixels.shape, (spacing, spacing))
            drawing.show_grey(panel, plane, pixels, window)
        drawing.write_text(axes[0], 0.03, 0.97, label, va="top")
    return sheet.figure


def _prepare(images, view: View):
    """Return the images without channels, the planes and the intensity window."""
    images = [as_image(image, len(view.spacing)) for image in images]
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise ValueError(f"images on one grid are needed, not shapes {sorted(shapes)}")
    view = view.resolve(*images[:2])
    window = cast(IntensityWindow, view.window)
    return images, view.planes(images[0].shape), window


def _show_difference(axes, plane: Plane, pixels: np.ndarray, limit: float):
    """Draw a slice of a difference in red and blue, up to ``limit``."""
    style = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    artist = drawing.show_pixels(axes, plane, pixels, **style)
    drawing.outline(axes)
    return artist
