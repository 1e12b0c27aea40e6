"""How large, uneven and fine the fields of each family are, in one figure."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regnet_jax.reporting.curves import LINE
from regnet_jax.reporting.drawing import INK

# Of each panel: its title, the ends of the line of a field, and the mark on it.
_PANELS = (
    ("displacement, mm: mean to largest component", "mean", "largest", "upper"),
    (
        "Jacobian determinant: least to greatest",
        "least_jacobian",
        "greatest_jacobian",
        None,
    ),
    ("wavelength, mm", "wavelength", "wavelength", "wavelength"),
)


def statistics_figure(statistics: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Three panels with a row for each family and a line for each of its fields.

    Args:
        statistics: of each family by name: ``mean``, ``upper``, ``largest`` (mm),
            ``least_jacobian``, ``greatest_jacobian`` and ``wavelength`` (mm), each
            ``[n]`` for n fields.

    Returns:
        The figure. The mark on a displacement is its 95th percentile; the line at
        zero among the determinants is where folding begins.

    Raises:
        ValueError: without any family.
    """
    if not statistics:
        raise ValueError("there is no family to show")
    size = (10.0, 0.9 + 0.42 * len(statistics))
    figure = Figure(figsize=size, facecolor="none", layout="constrained")
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    for axes, (title, first, last, mark) in zip(panels, _PANELS, strict=True):
        axes.set_title(title, color=INK, fontsize=9)
        for row, numbers in enumerate(statistics.values()):
            _draw_row(axes, row, numbers, first, last, mark)
        _plain(axes)
    panels[0].set_yticks(range(len(statistics)), list(statistics))
    panels[0].set_ylim(len(statistics) - 0.5, -0.5)
    panels[1].axvline(0.0, color=INK, linewidth=0.8, linestyle=":")
    for axes in panels:
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    return figure


def _draw_row(axes: Axes, row: int, numbers, first: str, last: str, mark) -> None:
    """The fields of a family, one below the other within its row."""
    count = len(numbers[first])
    heights = row + 0.6 * ((np.arange(count) + 0.5) / count - 0.5)
    style = {"color": LINE, "linewidth": 1.0, "alpha": 0.7}
    axes.hlines(heights, numbers[first], numbers[last], **style)
    if mark:
        axes.plot(numbers[mark], heights, ".", color=LINE, markersize=3.5)


def _plain(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.tick_params(colors=INK, labelsize=8, length=2)
    axes.grid(axis="x", color=INK, linewidth=0.4, alpha=0.3)
    for name, spine in axes.spines.items():
        spine.set(visible=name == "bottom", color=INK, linewidth=0.6)
