"""The page of a series: its phases in motion, amplitude, mid-position, and a table."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from regnet_jax.hounsfield import close_lungs
from regnet_jax.reporting import drawing
from regnet_jax.reporting.fields import HEAT
from regnet_jax.reporting.html import (
    DPI,
    EncodedImage,
    encode_animation,
    write_html,
)
from regnet_jax.reporting.registration_page import format_fraction, format_number
from regnet_jax.reporting.slices import Plane, View

# A breath takes about so long on the page, ms; a frame between these limits.
_CYCLE = 3000
_FRAME = (80, 700)
# More phases are thinned out to about so many frames.
_FRAMES = 40
_OUTLINE = "#ffa640"
_COLOURS = {"mean": drawing.LINE, "95th percentile": "#e07b39"}
_AXES = {"x": "to the left", "y": "to the back", "z": "to the head"}


def write_series_page(
    path: str | os.PathLike,
    *,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    reference: int,
    region_name: str,
    region: np.ndarray,
    fixed: np.ndarray,
    amplitude: np.ndarray,
    path_length: np.ndarray,
    mid_position: np.ndarray,
    views: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
    index: Sequence[int] | None,
    spacing: Sequence[float],
    cycle: bool = True,
    notes: Sequence[str] = (),
    links: Mapping[str, str] | None = None,
    dpi: int = DPI,
) -> Path:
    """Write the HTML report of a series.

    Args:
        path: of the file; its folder exists.
        title: of the page.
        rows: of each phase, by the columns of ``motion.csv``.
        reference: number of the reference.
        region_name: where the motion is summed up: lungs, body or image.
        region: ``[*spatial]`` bool, that region.
        fixed: ``[*spatial]``, the reference; canonical (LPS) in 3D, as are the others.
        amplitude: ``[*spatial]``, mm.
        path_length: ``[*spatial]``, mm.
        mid_position: ``[*spatial]``.
        views: slices of all phases as they are, and registered to the reference:
            coronal ones, at ``index``, in 3D.
        index: (z, y, x) of the planes of the figures; None in 2D.
        spacing: mm, array order.
        cycle: whether the last phase is followed by the first.
        notes: remarks below the summary.
        links: addresses of the reports of the phases, by their names.
        dpi: of the figures.

    Returns:
        The path.

    Raises:
        InputError: if the file cannot be written.
    """
    view = View(spacing, index=index).resolve(fixed)
    names = [str(row["phase"]) for row in rows]
    plane = view.planes(fixed.shape)[0 if fixed.ndim == 2 else 1]
    name = names[reference]
    caption = (
        f"Left: the phases as they are. Right: registered to {name}, so that nothing"
        " should move."
    )
    if region_name != "image":
        caption += f" The line is the outline of the {region_name} in {name}."
    figures = [
        (
            "Motion",
            caption,
            _animate(views, plane, view, names, plane.take(region), region_name),
        ),
        (
            "Motion over the phases",
            f"Displacement from {name} in the {region_name}: its length, and the means"
            " of its components.",
            motion_curves(rows),
        ),
        (
            "Amplitude",
            f"The largest displacement over all phases of each point of {name}, mm.",
            amplitude_figure(amplitude, fixed, view),
        ),
        (
            "Mid-position",
            f"Above {name}, below the mean of all phases, each warped to the position"
            " that the anatomy has on average over time.",
            _mid_figure(fixed, mid_position, view, name),
        ),
    ]
    return write_html(
        path,
        title=title,
        summary=_cards(rows, reference, region, amplitude, path_length, cycle),
        tables=[_table(rows)],
        figures=figures,
        notes=notes,
        links=links,
        dpi=dpi,
    )


def motion_curves(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the motion over the phases: its length, and the components of its mean.

    Args:
        rows: of each phase, by the columns of ``motion.csv``.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(10.0, 3.2), facecolor="none", layout="constrained")
    lengths, components = figure.subplots(1, 2)
    names, x = [str(row["phase"]) for row in rows], np.arange(len(rows))
    for label, column in (("mean", "mean_mm"), ("95th percentile", "p95_mm")):
        values = [row[column] for row in rows]
        lengths.plot(x, values, "o-", color=_COLOURS[label], label=label, markersize=4)
    for axis, label in _AXES.items():
        if all(f"mean_{axis}_mm" in row for row in rows):
            values = [row[f"mean_{axis}_mm"] for row in rows]
            components.plot(x, values, "o-", label=label, markersize=4)
    for axes, title in ((lengths, "length, mm"), (components, "mean component, mm")):
        axes.set_title(title, color=drawing.INK, fontsize=9.5, loc="left")
        drawing.style_plot(axes)
        # Long names of many phases would run into each other.
        short = len(names) <= 12 and max(map(len, names)) <= 12
        if short:
            axes.set_xticks(x, names, rotation=30, ha="right")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_xlabel("number of the phase, from 0")
        axes.legend(frameon=False, fontsize=8, labelcolor=drawing.INK)
    lengths.set_ylim(bottom=0.0)
    return figure


def amplitude_figure(amplitude: np.ndarray, fixed: np.ndarray, view: View) -> Figure:
    """Draw the reference, and below it the amplitude of the motion.

    Args:
        amplitude: ``[*spatial]``, mm.
        fixed: ``[*spatial]``, the reference.
        view: planes and intensity window.

    Returns:
        The figure.
    """
    view = view.resolve(fixed)
    planes = view.planes(fixed.shape)
    top = max(float(np.max(plane.take(amplitude))) for plane in planes) or 1.0
    sheet, (above, below) = drawing.variant_sheet(
        planes, ("reference", "amplitude"), bar=True
    )
    for grey, heat, plane in zip(above, below, planes, strict=True):
        assert view.window is not None
        drawing.show_grey(grey, plane, plane.take(fixed), view.window)
        drawing.annotate(grey, plane)
        artist = drawing.show_pixels(
            heat, plane, plane.take(amplitude), cmap=HEAT, vmin=0.0, vmax=top
        )
    drawing.colour_bar(sheet, artist, "amplitude, mm")
    return sheet.figure


def _mid_figure(
    fixed: np.ndarray, mid_position: np.ndarray, view: View, name: str
) -> Figure:
    planes = view.planes(fixed.shape)
    sheet, rows = drawing.variant_sheet(planes, (name[:24], "mid-position"))
    for row, image in zip(rows, (fixed, mid_position), strict=True):
        for axes, plane in zip(row, planes, strict=True):
            assert view.window is not None
            drawing.show_grey(axes, plane, plane.take(image), view.window)
            drawing.annotate(axes, plane)
    return sheet.figure


def _animate(
    views, plane: Plane, view: View, names: Sequence[str], region, region_name: str
) -> EncodedImage:
    """Draw the phases before and after as the frames of an animation."""
    step = -(-len(names) // _FRAMES)
    frames = range(0, len(names), step)
    outline = None
    # There is no outline in a plane of one row.
    if region_name != "image" and min(plane.size) > 1:
        # Vessels are holes of the lungs.
        closed = close_lungs(region, plane.spacing)
        outline = closed if closed.any() and not closed.all() else None
    figures = [
        _draw_frame([view_[k] for view_ in views], plane, view, names[k], outline)
        for k in frames
    ]
    milliseconds = int(np.clip(_CYCLE / len(figures), *_FRAME))
    return encode_animation(figures, milliseconds, dpi=90)


def _draw_frame(slices, plane: Plane, view: View, name: str, outline) -> Figure:
    sheet = drawing.panel_sheet(
        [plane.aspect] * 2,
        [1.0],
        column_labels=("as it is", "registered"),
        max_height=6.0,
    )
    sheet.figure.set_facecolor("black")
    rows, columns = (
        np.arange(n) * s for n, s in zip(plane.size, plane.spacing, strict=True)
    )
    for axes, pixels in zip(sheet.panels[0], slices, strict=True):
        assert view.window is not None
        drawing.show_grey(axes, plane, pixels, view.window)
        if outline is not None:
            axes.contour(columns, rows, outline, [0.5], colors=_OUTLINE, linewidths=0.9)
        drawing.annotate(axes, plane)
        drawing.write_text(axes, 0.03, 0.97, name, ha="left", va="top")
    return sheet.figure


def _cards(rows, reference: int, region, amplitude, path_length, cycle: bool):
    """Return the headline numbers: label, value, detail."""
    where = rows[0]["region"]
    inside, way = amplitude[region], path_length[region]
    farthest = max(rows, key=lambda row: row["mean_mm"])
    closed = "back to the first phase" if cycle else "from the first to the last phase"
    source = rows[reference]["source"]
    cards = [
        ("Phases", str(len(rows)), f"reference: {rows[reference]['phase']}"),
        (
            "Mean amplitude",
            f"{inside.mean():.1f} mm",
            f"95th percentile {np.percentile(inside, 95):.1f} mm, in the {where}",
        ),
        ("Mean path", f"{way.mean():.1f} mm", f"through all phases, {closed}"),
        (
            "Farthest phase",
            str(farthest["phase"]),
            f"{farthest['mean_mm']:.1f} mm on average",
        ),
    ]
    if source != rows[reference]["phase"]:
        cards[0] = (*cards[0][:2], f"reference: {source}")
    return cards


def _table(rows):
    """Return the table of the phases."""
    inside = any(row.get("lung_correlation_after") is not None for row in rows)
    name = "lung_correlation" if inside else "correlation"
    head = (
        "phase",
        *("mean, mm", "95 %, mm", "largest, mm"),
        *("correlation before", "after", "folding"),
    )
    body = []
    for row in rows:
        folding = row.get("folding_fraction")
        body.append(
            (
                row["phase"],
                *(f"{row[f'{key}_mm']:.2f}" for key in ("mean", "p95", "max")),
                *(_cell(row.get(f"{name}_{moment}")) for moment in ("before", "after")),
                "" if folding is None else format_fraction(folding),
            )
        )
    where = rows[0]["region"]
    return (f"Phases: displacement from the reference in the {where}", head, body)


def _cell(value) -> str:
    return "" if value is None else format_number(value)
