"""Figures of measures: landmark errors of one pair, and methods beside each other."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from regnet_jax.reporting.drawing import INK, LINE, style_plot

# A method with fewer values than this gets points without a box.
_FEWEST_FOR_BOX = 5


def landmark_figure(before: ArrayLike, after: ArrayLike) -> Figure:
    """Draw the errors of landmarks before and after a registration.

    The left panel shows the percentage of landmarks within each distance, the right
    one every landmark: points below the diagonal improved.

    Args:
        before: ``[n]``, mm.
        after: ``[n]``, mm, of the same landmarks.

    Returns:
        The figure.
    """
    before, after = np.asarray(before, float), np.asarray(after, float)
    figure = Figure(figsize=(9.0, 3.6), facecolor="none", layout="constrained")
    left, right = figure.subplots(1, 2)
    reach = 1.05 * max(before.max(), after.max(), 1e-3)
    _draw_cumulative(left, "before", before, reach, color=INK)
    _draw_cumulative(left, "after", after, reach, color=LINE)
    left.set(xlabel="error (mm)", ylabel="landmarks within (%)")
    left.set(xlim=(0, reach), ylim=(0, 102))
    left.legend(frameon=False, labelcolor=INK, loc="lower right", fontsize=8.5)
    right.plot([0, reach], [0, reach], color=INK, linewidth=0.8)
    right.plot(before, after, "o", markersize=3.5, color=LINE, alpha=0.6)
    right.set(xlabel="error before (mm)", ylabel="error after (mm)")
    right.set(xlim=(0, reach), ylim=(0, reach), aspect="equal")
    for axes in (left, right):
        style_plot(axes)
    return figure


def box_figure(
    values: Mapping[str, Sequence[float]], *, label: str, log: bool = False
) -> Figure:
    """Draw a row for each method: a box, and every value as a point.

    A box shows the quartiles and the median, with whiskers to 1.5 times the distance
    between the quartiles.

    Args:
        values: of the measure, by method, from top to bottom; those that are not
            finite are left out.
        label: name and unit of the measure.
        log: use a logarithmic axis if every value is positive.

    Returns:
        The figure.
    """
    figure = Figure(
        figsize=(10.0, 0.42 * len(values) + 0.9), facecolor="none", layout="constrained"
    )
    axes = figure.subplots()
    rows = {name: _finite(numbers) for name, numbers in values.items()}
    for place, numbers in enumerate(rows.values()):
        if len(numbers) >= _FEWEST_FOR_BOX:
            _draw_box(axes, numbers, place)
        # Alternate the heights, so that equal values do not hide each other.
        spread = place + 0.12 * (np.arange(len(numbers)) % 3 - 1)
        axes.scatter(numbers, spread, s=14, color=LINE, alpha=0.6, linewidths=0)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    everything = np.concatenate([*rows.values(), np.zeros(0)])
    if log and everything.size and everything.min() > 0:
        axes.set_xscale("log")
    _style_rows(axes, label)
    return figure


def _draw_cumulative(
    axes: Axes, name: str, errors: np.ndarray, reach: float, *, color: str
) -> None:
    """Draw the percentage of errors within each distance; label it by the mean."""
    percent = np.arange(errors.size + 1) / errors.size * 100
    steps = np.concatenate([[0.0], np.sort(errors), [reach]])
    label = f"{name}: mean {errors.mean():.2f} mm"
    axes.step(steps, [*percent, 100], where="post", label=label, color=color)


def _finite(numbers: ArrayLike) -> np.ndarray:
    numbers = np.asarray(numbers, np.float64)
    return numbers[np.isfinite(numbers)]


def _draw_box(axes: Axes, numbers: np.ndarray, place: int) -> None:
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


def _style_rows(axes: Axes, label: str) -> None:
    axes.set_xlabel(label, color=INK, fontsize=9.5)
    axes.tick_params(colors=INK, labelsize=9.5, which="both")
    axes.tick_params(axis="y", length=0)
    axes.set_facecolor("none")
    axes.grid(axis="x", color=INK, alpha=0.2, linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(INK)
