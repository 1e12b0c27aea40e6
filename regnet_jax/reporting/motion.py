"""Figure of the statistics of motions: real ones beside families of artificial ones."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from regnet_jax.reporting.drawing import INK, LINE, style_plot

_REAL = "#e07b39"
_ROW = "real breaths"
# A row of panels each: titles, by the name of the statistic.
_PANELS = (
    {
        "mean": "displacement: mean, mm",
        "p95": "displacement: 95th percentile, mm",
        "max": "displacement: largest, mm",
    },
    {
        "head_feet": "fraction of the motion: head-feet",
        "front_back": "fraction of the motion: front-back",
        "left_right": "fraction of the motion: left-right",
    },
    {
        "quarter_2": "|u_z| relative to the lowest: 2nd quarter",
        "quarter_3": "|u_z| relative to the lowest: 3rd quarter",
        "quarter_4": "|u_z| relative to the lowest: highest",
    },
    {
        "jacobian_p5": "Jacobian determinant: 5th percentile",
        "jacobian_median": "Jacobian determinant: median",
        "jacobian_p95": "Jacobian determinant: 95th percentile",
    },
    {
        "correlation_near": "correlation of irregular part: 5-15 mm",
        "correlation_middle": "correlation of irregular part: 25-40 mm",
        "correlation_far": "correlation of irregular part: 50-70 mm",
    },
    {"irregular": "irregular part, as a fraction of the motion"},
)
_LEGEND = (
    "Point: a breath of a person. Shade: from the least\n"
    "to the greatest of these.\n"
    "Line: from the least to the greatest of the fields of\n"
    "a family; its mark is their mean."
)


def motion_figure(
    breaths: Mapping[str, np.ndarray], families: Mapping[str, Mapping[str, np.ndarray]]
) -> Figure:
    """Draw a panel for each statistic, with real breaths above the families.

    Args:
        breaths: the statistics of ``evaluation.MotionStatistics`` by name, each ``[n]``
            for n breaths.
        families: the same of each family, for its fields.

    Returns:
        The figure: the breaths as points, each at the same height within its row in all
        panels, and each family as a line from its least to its greatest value with a
        mark at the mean. Values that are not finite are left out.
    """
    rows = 1 + len(families)
    height = 0.3 + len(_PANELS) * (0.55 + 0.17 * rows)
    figure = Figure(figsize=(10.0, height), facecolor="none", layout="constrained")
    panels = figure.subplots(len(_PANELS), 3, sharey=True)
    for band, titles in zip(panels, _PANELS, strict=True):
        for axes, (name, title) in zip(band, titles.items(), strict=False):
            axes.set_title(title, color=INK, fontsize=8.5)
            _draw_breaths(axes, np.asarray(breaths[name], float))
            for row, numbers in enumerate(families.values(), 1):
                _draw_range(axes, row, np.asarray(numbers[name], float))
            _style(axes)
        for unused in band[len(titles) :]:
            unused.set_axis_off()
    panels[0, 0].set_yticks(range(rows), [_ROW, *families])
    panels[0, 0].set_ylim(rows - 0.5, -0.5)
    for axes in panels[3]:
        axes.axvline(1.0, color=INK, linewidth=0.8, linestyle=":")
    style = {"color": INK, "fontsize": 8.5, "va": "center"}
    panels[-1, 1].text(0.0, 0.5, _LEGEND, transform=panels[-1, 1].transAxes, **style)
    return figure


def _draw_breaths(axes: Axes, values: np.ndarray) -> None:
    """Draw the breaths one below the other within the first row."""
    heights = 0.7 * ((np.arange(len(values)) + 0.5) / len(values) - 0.5)
    axes.plot(values, heights, "o", color=_REAL, markersize=4.0)
    finite = values[np.isfinite(values)]
    if finite.size:
        ends = float(finite.min()), float(finite.max())
        axes.axvspan(*ends, color=_REAL, alpha=0.15, linewidth=0)


def _draw_range(axes: Axes, row: int, values: np.ndarray) -> None:
    values = values[np.isfinite(values)]
    if values.size:
        axes.hlines(row, values.min(), values.max(), color=LINE, linewidth=2.5)
        axes.plot(values.mean(), row, "|", color=LINE, markersize=9, mew=2)


def _style(axes: Axes) -> None:
    style_plot(axes)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
