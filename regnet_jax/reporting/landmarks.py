"""The figure of landmark errors."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regnet_jax.reporting.curves import LINE
from regnet_jax.reporting.drawing import INK, plot_axes


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
