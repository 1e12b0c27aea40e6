"""Panels: figures of aligned images without margins, and the style of plots.

All positions are computed in inches, so that each panel has exactly the shape of its
slice, independent of a layout engine and of pyplot's state. The ink is a middle grey on
a transparent page, which is legible on white and on black.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from regnet_jax.reporting.slices import IntensityWindow, Plane

INK = "#80848c"
LINE = "#2f81c7"  # the colour of curves, points and boxes
_SHADE = {"boxstyle": "round,pad=0.2", "facecolor": (0, 0, 0, 0.5), "edgecolor": "none"}
# All of these in inches.
_GAP = 0.07
_TEXT = 0.29  # the height of a line of text
_EDGE = 0.03  # margin, so that the outline of a panel is not cut off
_BAR = 0.95  # a colour bar with its labels


@dataclass(frozen=True)
class Sheet:
    """A figure of panels.

    Attributes:
        figure: the figure.
        panels: its axes, ``[rows, columns]`` of objects.
        bar: the axes of the colour bar; None without one.
    """

    figure: Figure
    panels: np.ndarray
    bar: Axes | None = None


def panel_sheet(
    widths: Sequence[float],
    heights: Sequence[float],
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    bar: bool = False,
    footer: float = 0.0,
    width: float = 10.0,
    max_height: float = 11.0,
) -> Sheet:
    """Lay out empty panels.

    Args:
        widths: of the columns, relative to the heights.
        heights: of the rows.
        row_labels: texts left of the rows.
        column_labels: texts above the columns.
        bar: leave room for a colour bar on the right.
        footer: room below the panels, inches.
        width: of the figure, inches.
        max_height: of the figure, inches; panels are scaled down to it.

    Returns:
        The sheet.
    """
    left = _TEXT if row_labels else 0.0
    right = _BAR if bar else 0.0
    top = _TEXT if column_labels else _EDGE
    footer = max(footer, _EDGE)
    free = width - left - right - _GAP * (len(widths) - 1)
    tall = max_height - top - footer - _GAP * (len(heights) - 1)
    unit = min(free / sum(widths), tall / sum(heights))
    columns, rows = np.multiply(widths, unit), np.multiply(heights, unit)
    inner = (
        columns.sum() + _GAP * (len(columns) - 1),
        rows.sum() + _GAP * (len(rows) - 1),
    )
    size = (left + inner[0] + right, top + inner[1] + footer)
    figure = Figure(figsize=size, facecolor="none")
    panels = np.empty((len(rows), len(columns)), dtype=object)
    for i, j in np.ndindex(panels.shape):
        x = left + columns[:j].sum() + j * _GAP
        y = size[1] - top - rows[: i + 1].sum() - i * _GAP
        axes = _add_axes(figure, size, (x, y, columns[j], rows[i]))
        _strip(axes)
        panels[i, j] = axes
    _add_labels(panels, row_labels, column_labels)
    box = (left + inner[0] + 0.12, footer + 0.06, 0.14, inner[1] - 0.12)
    return Sheet(figure, panels, _add_axes(figure, size, box) if bar else None)


def variant_sheet(
    planes: Sequence[Plane], variants: Sequence[str], **options
) -> tuple[Sheet, list[list[Axes]]]:
    """Lay out several variants of the same planes.

    In 3D a column is a plane and a row a variant, all panels of one height; in 2D the
    variants stand side by side.

    Args:
        planes: of one grid.
        variants: their labels; empty ones are not written.
        **options: of ``panel_sheet``.

    Returns:
        The sheet, and its axes [variant][plane].
    """
    if len(planes) > 1:
        sheet = panel_sheet(
            _limit_aspects([p.aspect for p in planes]),
            [1.0] * len(variants),
            row_labels=variants if any(variants) else (),
            column_labels=[p.label for p in planes],
            **options,
        )
        return sheet, [list(row) for row in sheet.panels]
    sheet = panel_sheet(
        [planes[0].aspect] * len(variants),
        [1.0],
        column_labels=variants if any(variants) else (),
        max_height=5.0,
        **options,
    )
    return sheet, [[panel] for panel in sheet.panels[0]]


def show_pixels(axes: Axes, plane: Plane, pixels: np.ndarray, **options):
    """Draw a slice; the coordinates of the axes become mm.

    Args:
        axes: the panel.
        plane: of the slice.
        pixels: ``[rows, columns]``.
        **options: of Matplotlib's ``imshow``.

    Returns:
        Matplotlib's image.
    """
    image = axes.imshow(
        pixels,
        origin=plane.origin,
        extent=plane.extent,
        aspect="auto",  # the panel itself has the shape of the plane
        **{"interpolation": "auto", **options},
    )
    axes.set_xlim(plane.extent[:2])
    axes.set_ylim(plane.extent[2:])
    return image


def show_grey(axes: Axes, plane: Plane, pixels: np.ndarray, window: IntensityWindow):
    """Draw a slice in grey.

    Args:
        axes: the panel.
        plane: of the slice.
        pixels: ``[rows, columns]``.
        window: intensities drawn black and white.

    Returns:
        Matplotlib's image.
    """
    low, high = window
    return show_pixels(axes, plane, pixels, cmap="gray", vmin=low, vmax=high)


def outline(axes: Axes) -> None:
    """Draw a thin line around a panel that may be as white as the page."""
    for spine in axes.spines.values():
        spine.set(visible=True, color=INK, linewidth=0.6)


def annotate(axes: Axes, plane: Plane) -> None:
    """Add a scale bar and, in 3D, the anatomical letters of the sides.

    Args:
        axes: the panel.
        plane: the plane that the panel shows.
    """
    width = plane.size[1] * plane.spacing[1]
    length = _round_length(width / 4)
    x0, y = 0.04, 0.045
    style = {"color": "white", "linewidth": 2, "transform": axes.transAxes}
    axes.plot([x0, x0 + length / width], [y, y], clip_on=False, **style)
    write_text(axes, x0 + 0.01, y + 0.03, f"{length:g} mm", ha="left", va="bottom")
    places = ((0.025, 0.5), (0.975, 0.5), (0.5, 0.97), (0.5, 0.03))
    aligned = (("left", "center"), ("right", "center"))
    aligned += (("center", "top"), ("center", "bottom"))
    for letter, place, (ha, va) in zip(plane.edges, places, aligned, strict=False):
        write_text(axes, *place, letter, ha=ha, va=va)


def write_text(axes: Axes, x: float, y: float, text: str, **alignment) -> None:
    """Write on an image, on a shade that keeps the text legible.

    Args:
        axes: the panel.
        x: fraction of the panel's width.
        y: fraction of the panel's height, from below.
        text: to write.
        **alignment: ``ha`` and ``va``.
    """
    style = {"color": "white", "fontsize": 7.5, "bbox": _SHADE}
    axes.text(x, y, text, transform=axes.transAxes, **style, **alignment)


def colour_bar(sheet: Sheet, artist: ScalarMappable, label: str, **options):
    """Fill the colour bar of a sheet.

    Args:
        sheet: with a bar.
        artist: the image whose colours are explained.
        label: of the bar.
        **options: of Matplotlib's ``colorbar``.

    Returns:
        Matplotlib's colour bar.
    """
    bar = sheet.figure.colorbar(artist, cax=sheet.bar, **options)
    bar.set_label(label, color=INK, fontsize=10)
    bar.ax.tick_params(colors=INK, labelsize=9, which="both")
    bar.outline.set_visible(False)
    return bar


def style_plot(axes: Axes) -> None:
    """Style the axes of a plot: ink on a transparent page, a faint grid, two spines."""
    axes.tick_params(colors=INK, labelsize=8, which="both")
    axes.xaxis.label.set(color=INK, fontsize=8.5)
    axes.yaxis.label.set(color=INK, fontsize=8.5)
    axes.set_facecolor("none")
    axes.grid(color=INK, alpha=0.2, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)


def _limit_aspects(aspects: Sequence[float]) -> list[float]:
    """Return the widths at a common height, stretched for very thin volumes."""
    widest = 5.0 * min(aspects)
    return [min(aspect, widest) for aspect in aspects]


def _add_axes(figure: Figure, size, box) -> Axes:
    """Add axes at a box (x, y, width, height) of a figure; all in inches."""
    x, y, w, h = box
    return figure.add_axes((x / size[0], y / size[1], w / size[0], h / size[1]))


def _strip(axes: Axes) -> None:
    """Remove everything from the axes but a black panel."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("black")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _add_labels(
    panels: np.ndarray, rows: Sequence[str], columns: Sequence[str]
) -> None:
    style = {"color": INK, "fontsize": 10.5}
    for axes, text in zip(panels[:, 0], rows, strict=False):
        axes.set_ylabel(text, labelpad=3, **style)
    for axes, text in zip(panels[0], columns, strict=False):
        axes.set_title(text, pad=4, **style)


def _round_length(length: float) -> float:
    """Round a length down to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(max(length, 1e-9)))
    return max(m * power for m in (1, 2, 5) if m * power <= length * (1 + 1e-9))
