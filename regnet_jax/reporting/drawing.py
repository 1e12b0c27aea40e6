"""Panels: a figure of aligned images without a wasted millimetre of paper.

Everything is placed by hand in inches, so that each panel is exactly as large
as its slice and nothing depends on a layout engine or on pyplot's state. Ink
is a middle grey on a transparent page: it reads on white and on black.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from regnet_jax.reporting.slices import Plane

INK = "#80848c"
_SHADE = {"boxstyle": "round,pad=0.2", "facecolor": (0, 0, 0, 0.5), "edgecolor": "none"}
_GAP = 0.07  # inches
_LINE = 0.29  # a line of text
_EDGE = 0.03  # keeps the hairline of a panel on the page
_BAR = 0.95  # a colour bar with its labels


@dataclass(frozen=True)
class Sheet:
    """A figure, its panels ``[rows, columns]`` and the axes of a colour bar."""

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
    """An empty sheet of panels of relative ``widths`` and ``heights``.

    ``width`` and ``max_height`` are inches; where the panels would be taller
    the whole sheet shrinks. ``bar`` leaves room for a colour bar on the
    right, ``footer`` inches below.
    """
    left = _LINE if row_labels else 0.0
    right = _BAR if bar else 0.0
    top = _LINE if column_labels else _EDGE
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
        panels[i, j] = _add(figure, size, (x, y, columns[j], rows[i]))
        _bare(panels[i, j])
    _label(panels, row_labels, column_labels)
    box = (left + inner[0] + 0.12, footer + 0.06, 0.14, inner[1] - 0.12)
    return Sheet(figure, panels, _add(figure, size, box) if bar else None)


def _readable(aspects: Sequence[float]) -> list[float]:
    """Widths at one height. Planes of a very thin volume are stretched to be seen."""
    widest = 5.0 * min(aspects)
    return [min(aspect, widest) for aspect in aspects]


def variant_sheet(
    planes: Sequence[Plane], variants: Sequence[str], **options
) -> tuple[Sheet, list[list[Axes]]]:
    """A sheet of several variants of the same planes, and its axes [variant][plane].

    In 3D a column is a plane and a row a variant, all panels of one height;
    in 2D the variants stand side by side.
    """
    if len(planes) > 1:
        sheet = panel_sheet(
            _readable([p.aspect for p in planes]),
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


def show(axes: Axes, plane: Plane, pixels: np.ndarray, **options):
    """Draws ``pixels`` ``[rows, columns]`` of ``plane``; axes are in mm."""
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


def show_grey(axes: Axes, plane: Plane, image: np.ndarray, window):
    """Draws the slice of an image ``[*spatial]`` in grey within ``window``."""
    low, high = window
    pixels = plane.take(image)
    return show(axes, plane, pixels, cmap="gray", vmin=low, vmax=high)


def frame(axes: Axes) -> None:
    """Draws a hairline around a panel whose pixels may be as white as the page."""
    for spine in axes.spines.values():
        spine.set(visible=True, color=INK, linewidth=0.6)


def annotate(axes: Axes, plane: Plane) -> None:
    """Adds a scale bar and, in 3D, the anatomical letters of the sides."""
    width = plane.size[1] * plane.spacing[1]
    length = _round_length(width / 4)
    x0, y = 0.04, 0.045
    style = {"color": "white", "linewidth": 2, "transform": axes.transAxes}
    axes.plot([x0, x0 + length / width], [y, y], clip_on=False, **style)
    write(axes, x0 + 0.01, y + 0.03, f"{length:g} mm", ha="left", va="bottom")
    places = ((0.025, 0.5), (0.975, 0.5), (0.5, 0.97), (0.5, 0.03))
    aligned = (("left", "center"), ("right", "center"))
    aligned += (("center", "top"), ("center", "bottom"))
    for letter, place, (ha, va) in zip(plane.edges, places, aligned, strict=False):
        write(axes, *place, letter, ha=ha, va=va)


def write(axes: Axes, x: float, y: float, text: str, **alignment) -> None:
    """Writes on an image, shaded so that it reads; x and y are parts of the panel."""
    style = {"color": "white", "fontsize": 7.5, "bbox": _SHADE}
    axes.text(x, y, text, transform=axes.transAxes, **style, **alignment)


def colour_bar(sheet: Sheet, artist: ScalarMappable, label: str, **options):
    """Fills the bar of ``sheet`` with the colours of ``artist``."""
    bar = sheet.figure.colorbar(artist, cax=sheet.bar, **options)
    ink_bar(bar, label)
    return bar


def ink_bar(bar, label: str) -> None:
    """Labels a colour bar in the ink of the page."""
    bar.set_label(label, color=INK, fontsize=10)
    bar.ax.tick_params(colors=INK, labelsize=9, which="both")
    bar.outline.set_visible(False)


def _add(figure: Figure, size, box) -> Axes:
    x, y, w, h = box
    return figure.add_axes((x / size[0], y / size[1], w / size[0], h / size[1]))


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("black")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _label(panels: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> None:
    style = {"color": INK, "fontsize": 10.5}
    for axes, text in zip(panels[:, 0], rows, strict=False):
        axes.set_ylabel(text, labelpad=3, **style)
    for axes, text in zip(panels[0], columns, strict=False):
        axes.set_title(text, pad=4, **style)


def _round_length(length: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is at most ``length``."""
    power = 10.0 ** np.floor(np.log10(max(length, 1e-9)))
    return max(m * power for m in (1, 2, 5) if m * power <= length * (1 + 1e-9))


def plot_axes(axes: Axes) -> None:
    """Styles the axes of a plot: ink on no paper, a faint grid, two spines."""
    axes.tick_params(colors=INK, labelsize=8, which="both")
    axes.xaxis.label.set(color=INK, fontsize=8.5)
    axes.yaxis.label.set(color=INK, fontsize=8.5)
    axes.set_facecolor("none")
    axes.grid(color=INK, alpha=0.2, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
