"""The figure of the Jacobian determinant."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from regnet_jax.reporting import drawing
from regnet_jax.reporting.slices import as_image, choose_planes

FOLD_COLOUR = "#00c853"


def jacobian_figure(
    determinant: np.ndarray,
    *,
    spacing: Sequence[float],
    index: Sequence[int] | None = None,
) -> Figure:
    """The Jacobian determinant ``[*spatial]`` of x + u(x), on a log scale.

    White is 1, red where the moving image is larger than the fixed (above 1),
    blue where it is smaller; folds (zero or less) are green. Without
    ``index`` the planes pass through the smallest determinant.
    """
    determinant = as_image(determinant, len(spacing), "determinant")
    if index is None and determinant.ndim == 3:
        worst = np.argmin(np.nan_to_num(determinant, nan=np.inf))
        index = np.unravel_index(worst, determinant.shape)
    planes = choose_planes(determinant.shape, spacing, index)
    slices = [plane.take(determinant) for plane in planes]
    folds = any((pixels <= 0).any() for pixels in slices)
    reach = _reach(slices)
    cmap = colormaps["RdBu_r"].with_extremes(bad=FOLD_COLOUR)
    norm = LogNorm(1 / reach, reach)
    footer = 0.3 if folds else 0.0
    sheet, (row,) = drawing.variant_sheet(planes, ("",), bar=True, footer=footer)
    for axes, plane, pixels in zip(row, planes, slices, strict=True):
        masked = np.ma.masked_less_equal(pixels, 0.0)
        artist = drawing.show(
            axes, plane, masked, cmap=cmap, norm=norm, interpolation="nearest"
        )
        drawing.frame(axes)
    bar = drawing.colour_bar(sheet, artist, "Jacobian determinant", extend="both")
    _plain_log_ticks(bar, reach)
    if folds:
        _fold_legend(sheet.figure)
    return sheet.figure


def _reach(slices: Sequence[np.ndarray]) -> float:
    """The end of a log scale symmetric about 1, between 1.25 and 5."""
    values = np.concatenate([np.ravel(s) for s in slices])
    values = values[np.isfinite(values) & (values > 0)]
    if values.size == 0:
        return 1.25
    return float(np.clip(np.exp(np.percentile(np.abs(np.log(values)), 99.5)), 1.25, 5))


def _plain_log_ticks(bar, reach: float) -> None:
    """Ticks such as 0.5, 1, 2 instead of powers of ten."""
    above = [t for t in (1.1, 1.2, 1.5, 2, 3, 5) if t <= reach * 1.0001][-3:]
    ticks = [1 / t for t in reversed(above)] + [1.0] + above
    bar.ax.yaxis.set_major_locator(FixedLocator(ticks))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.2g}"))


def _fold_legend(figure: Figure) -> None:
    patch = Patch(color=FOLD_COLOUR, label="folding (determinant of zero or less)")
    style = {"frameon": False, "fontsize": 8.5, "labelcolor": drawing.INK}
    figure.legend(handles=[patch], loc="lower left", borderpad=0.1, **style)
