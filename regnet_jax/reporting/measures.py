"""The figure of landmark errors."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regnet_jax.reporting import drawing
from regnet_jax.reporting.curves import LINE
from regnet_jax.reporting.drawing import INK, plot_axes
from regnet_jax.reporting.slices import (
    auto_window,
    choose_planes,
    differing_index,
    windowed,
)


def landmark_figure(before: Sequence[float], after: Sequence[float]) -> Figure:
    """Errors of landmarks ``[n]`` in mm, before and after registration.

    On the left how many landmarks are within a distance, on the right each
    landmark: below the diagonal it came closer.
    """
    before, after = np.asarray(before, float), np.asarray(after, float)
    figure = Figure(figsize=(9.0, 3.6), facecolor="none", layout="constrained")
    left, right = figure.subplots(1, 2)
    reach = 1.05 * max(before.max(), after.max(), 1e-3)
    _shares(left, before, after, reach)
    right.plot([0, reach], [0, reach], color=INK, linewidth=0.8)
    right.plot(before, after, "o", markersize=3.5, color=LINE, alpha=0.6)
    right.set(xlabel="error before (mm)", ylabel="error after (mm)")
    right.set(xlim=(0, reach), ylim=(0, reach), aspect="equal")
    for axes in (left, right):
        plot_axes(axes)
    return figure


def _shares(axes: Axes, before: np.ndarray, after: np.ndarray, reach: float) -> None:
    """Cumulative shares, with medians in the legend."""
    for errors, style in ((before, {"color": INK}), (after, {"color": LINE})):
        name = "before" if errors is before else "after"
        share = np.arange(errors.size + 1) / errors.size * 100
        steps = np.concatenate([[0.0], np.sort(errors), [reach]])
        label = f"{name}: mean {errors.mean():.2f} mm"
        axes.step(steps, [*share, 100], where="post", label=label, **style)
    axes.set(xlabel="error (mm)", ylabel="landmarks within (%)")
    axes.set(xlim=(0, reach), ylim=(0, 102))
    axes.legend(frameon=False, labelcolor=INK, loc="lower right", fontsize=8.5)


# With fewer values than this a box says less than its points.
_FEWEST = 5
_COLUMNS = 4


def differences_figure(
    fixed: np.ndarray, others: Mapping[str, np.ndarray], *, spacing: Sequence[float]
) -> Figure:
    """Fixed minus each other image in one plane, which is coronal in 3D.

    Args:
        fixed: ``[z, y, x]`` or ``[y, x]``, canonical in 3D.
        others: on the same grid, by what to call them; the first says which plane is
            shown and where the scale ends.
        spacing: array order, mm.

    Returns:
        The figure.
    """
    window = auto_window(fixed)
    first = next(iter(others.values()))
    index = differing_index(fixed, first, window) if len(spacing) == 3 else None
    plane = choose_planes(fixed.shape, spacing, index)[-2 if index else 0]
    target = windowed(plane.take(fixed), window)
    slices = [target - windowed(plane.take(o), window) for o in others.values()]
    limit = float(np.percentile(np.abs(slices[0]), 99.5)) or 1.0
    columns = min(_COLUMNS, len(others))
    rows = -(-len(others) // columns)
    sheet = drawing.panel_sheet([plane.aspect] * columns, [1.0] * rows, bar=True)
    panels = sheet.panels.ravel()
    style = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    for axes, name, pixels in zip(panels, others, slices, strict=False):
        artist = drawing.show(axes, plane, pixels, **style)
        drawing.frame(axes)
        drawing.write(axes, 0.03, 0.96, name, ha="left", va="top")
    for axes in panels[len(others) :]:
        axes.set_visible(False)
    drawing.colour_bar(sheet, artist, "fixed minus other, intensity", extend="both")
    return sheet.figure


def box_figure(
    values: Mapping[str, Sequence[float]], *, label: str, log: bool = False
) -> Figure:
    """A row for each method: a box (quartiles, whiskers to 1.5 of their distance,
    the median) where there are enough values, and every value as a point.

    Args:
        values: of the measure, by method, from top to bottom.
        label: what is measured, with its unit.
        log: logarithmic axis, where all values are positive.

    Returns:
        The figure.
    """
    figure = Figure(
        figsize=(10.0, 0.42 * len(values) + 0.9), facecolor="none", layout="constrained"
    )
    axes = figure.subplots()
    rows = {name: _finite(numbers) for name, numbers in values.items()}
    for place, numbers in enumerate(rows.values()):
        if len(numbers) >= _FEWEST:
            _box(axes, numbers, place)
        # Spread by turns, so that equal values are seen.
        spread = place + 0.12 * (np.arange(len(numbers)) % 3 - 1)
        axes.scatter(numbers, spread, s=14, color=LINE, alpha=0.6, linewidths=0)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    everything = np.concatenate([*rows.values(), np.zeros(0)])
    if log and everything.size and everything.min() > 0:
        axes.set_xscale("log")
    _dress(axes, label)
    return figure


def _finite(numbers: Sequence[float]) -> np.ndarray:
    numbers = np.asarray(numbers, np.float64)
    return numbers[np.isfinite(numbers)]


def _box(axes, numbers: np.ndarray, place: int) -> None:
    line = {"color": INK, "linewidth": 1.1}
    axes.boxplot(
        numbers,
        positions=[place],
        widths=0.55,
        orientation="horizontal",
        showfliers=False,
        boxprops=line,
        whiskerprops=line,
        capprops=line,
        medianprops={"color": LINE, "linewidth": 2},
        manage_ticks=False,
    )


def _dress(axes, label: str) -> None:
    axes.set_xlabel(label, color=INK, fontsize=9.5)
    axes.tick_params(colors=INK, labelsize=9.5, which="both")
    axes.tick_params(axis="y", length=0)
    axes.set_facecolor("none")
    axes.grid(axis="x", color=INK, alpha=0.2, linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(INK)
