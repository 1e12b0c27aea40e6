"""Training curves."""

from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from regnet_jax.reporting.drawing import INK, plot_axes

LINE = "#2f81c7"
_COLUMNS = 3
_MOST = 12


def training_figure(records: Sequence[Mapping[str, object]]) -> Figure:
    """Curves of the loss and of every other number in ``records`` over the step.

    A record is a mapping with ``step`` and some of ``loss`` and evaluation
    values; what is missing, not a number or not finite is skipped. The loss
    comes first, on a log scale where it is positive, faint as it is and
    strong as a running mean. At most twelve panels are drawn.
    """
    curves = series(records)
    names = sorted(curves, key=lambda name: name != "loss")[:_MOST]
    columns = min(max(len(names), 1), _COLUMNS)
    rows = max(-(-len(names) // columns), 1)
    size = (10.0, 2.7 * rows + 0.2)
    figure = Figure(figsize=size, facecolor="none", layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        _curve(axes, name, *curves[name])
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    if not names:
        figure.text(0.5, 0.5, "no records yet", color=INK, ha="center", va="center")
    return figure


def series(
    records: Sequence[Mapping[str, object]],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Steps and values ``[n]`` of every number in ``records``, sorted by step."""
    collected: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        step = record.get("step")
        if not _is_number(step):
            continue
        for name, value in record.items():
            if name != "step" and _is_number(value):
                collected.setdefault(name, []).append((float(step), float(value)))
    return {
        name: tuple(np.array(sorted(points)).T) for name, points in collected.items()
    }


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of ``values`` ``[n]`` within ``width`` points, less at the ends."""
    kernel = np.ones(min(width, len(values)))
    total = np.convolve(values, kernel, mode="same")
    return total / np.convolve(np.ones(len(values)), kernel, mode="same")


def _curve(axes: Axes, name: str, steps: np.ndarray, values: np.ndarray) -> None:
    dense = len(values) > 40
    marker = None if len(values) > 12 else "o"
    faint = {"alpha": 0.25, "linewidth": 0.8} if dense else {"linewidth": 1.5}
    axes.plot(steps, values, color=LINE, marker=marker, markersize=3, **faint)
    if dense:
        mean = running_mean(values, max(3, len(values) // 25))
        axes.plot(steps, mean, color=LINE, linewidth=1.6)
    if name == "loss" and (values > 0).all() and values.max() > 3 * values.min():
        axes.set_yscale("log")
    axes.set_title(name.replace("_", " "), color=INK, fontsize=9.5, loc="left")
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    plot_axes(axes)


def _is_number(value: object) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, np.ndarray) or hasattr(value, "item"):
        value = value.item() if np.size(value) == 1 else None
    return isinstance(value, Real) and bool(np.isfinite(value))
