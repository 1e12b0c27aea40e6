"""Training curves."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, SupportsFloat, TypeGuard

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from regnet_jax.reporting.drawing import INK, LINE, style_plot

_COLUMNS = 3
_MOST_PANELS = 12


def training_figure(records: Sequence[Mapping[str, object]]) -> Figure:
    """Draw the loss and every other number of a log over the step.

    The loss comes first, on a logarithmic scale where it is positive. Long series are
    drawn faintly, with a running mean on top. There are at most twelve panels.

    Args:
        records: mappings with ``step``, ``loss`` and other values; values that are
            missing, not numbers or not finite are skipped.

    Returns:
        The figure.
    """
    curves = collect_series(records)
    names = sorted(curves, key=lambda name: name != "loss")[:_MOST_PANELS]
    columns = min(max(len(names), 1), _COLUMNS)
    rows = max(-(-len(names) // columns), 1)
    size = (10.0, 2.7 * rows + 0.2)
    figure = Figure(figsize=size, facecolor="none", layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        _draw_curve(axes, name, *curves[name])
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    if not names:
        figure.text(0.5, 0.5, "no records yet", color=INK, ha="center", va="center")
    return figure


def collect_series(
    records: Sequence[Mapping[str, object]],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Collect every number of a log by its name.

    Args:
        records: as for ``training_figure``.

    Returns:
        Steps and values ``[n]`` by name, sorted by step.
    """
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
    """Return the running mean, over fewer neighbours at the ends.

    Args:
        values: ``[n]``.
        width: number of neighbours, the value itself included.

    Returns:
        ``[n]``.
    """
    kernel = np.ones(min(width, len(values)))
    total = np.convolve(values, kernel, mode="same")
    return total / np.convolve(np.ones(len(values)), kernel, mode="same")


def _draw_curve(axes: Axes, name: str, steps: np.ndarray, values: np.ndarray) -> None:
    dense = len(values) > 40
    marker = None if len(values) > 12 else "o"
    faint: dict[str, Any] = (
        {"alpha": 0.25, "linewidth": 0.8} if dense else {"linewidth": 1.5}
    )
    axes.plot(steps, values, color=LINE, marker=marker, markersize=3, **faint)
    if dense:
        mean = running_mean(values, max(3, len(values) // 25))
        axes.plot(steps, mean, color=LINE, linewidth=1.6)
    if name == "loss" and (values > 0).all() and values.max() > 3 * values.min():
        axes.set_yscale("log")
    axes.set_title(name.replace("_", " "), color=INK, fontsize=9.5, loc="left")
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    style_plot(axes)


def _is_number(value: Any) -> TypeGuard[SupportsFloat]:
    """Return whether a value is a finite number; True and False are not numbers."""
    if isinstance(value, bool):
        return False
    if isinstance(value, np.ndarray) or hasattr(value, "item"):
        value = value.item() if np.size(value) == 1 else None
    return isinstance(value, Real) and math.isfinite(value)
