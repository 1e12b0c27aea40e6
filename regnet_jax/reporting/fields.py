"""Figures of displacement fields: magnitudes, arrows, deformed grids, Jacobians.

A ``displacement`` is ``[*spatial, d]`` on the fixed grid, components in array order
(z, y, x), in mm, from fixed to moving. Slices show the components in the plane;
magnitudes count all of them. A view without an index shows the planes where the fixed
image shows most detail.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from regnet_jax.reporting import drawing
from regnet_jax.reporting.slices import IntensityWindow, Plane, View, as_image

HEAT = "inferno"
GRID_COLOUR = "#ffd24a"
FOLD_COLOUR = "#00c853"


def displacement_figure(
    displacement: np.ndarray, fixed: np.ndarray, view: View, *, arrows: int = 22
) -> Figure:
    """Draw the fixed image and below it the magnitude with arrows in the plane.

    The colour bar runs from 0 to the largest magnitude shown. Arrows run from a fixed
    position towards where it lies in the moving image; they are stretched by the
    largest of 1, 2, 5, 10 ... that keeps them apart, and labelled with it.

    Args:
        displacement: ``[*spatial, d]``, mm.
        fixed: ``[*spatial]``.
        view: planes and intensity window.
        arrows: approximate number of arrows along the longer side.

    Returns:
        The figure.

    Raises:
        ValueError: if the field is not on the grid of the image.
    """
    displacement, fixed, planes, window = _prepare(displacement, fixed, view)
    sizes = [np.linalg.norm(plane.take(displacement), axis=-1) for plane in planes]
    top = max(float(np.nanmax(size)) for size in sizes) or 1.0
    fields = [plane.in_plane(displacement) for plane in planes]
    stretch = _stretch(planes, fields, arrows)
    labels = ("fixed image", f"arrows {stretch:g}x" if stretch > 1 else "displacement")
    sheet, (above, below) = drawing.variant_sheet(planes, labels, bar=True)
    for grey, heat, plane, field, size in zip(
        above, below, planes, fields, sizes, strict=True
    ):
        drawing.show_grey(grey, plane, plane.take(fixed), window)
        drawing.annotate(grey, plane)
        artist = drawing.show_pixels(heat, plane, size, cmap=HEAT, vmin=0.0, vmax=top)
        draw_arrows(heat, plane, field, arrows, stretch)
    drawing.colour_bar(sheet, artist, "displacement, mm")
    return sheet.figure


def grid_figure(
    displacement: np.ndarray,
    fixed: np.ndarray,
    view: View,
    *,
    moving: np.ndarray | None = None,
    lines: int = 24,
) -> Figure:
    """Draw a regular grid on the fixed image, moved by the displacement.

    A line through the fixed position x is drawn at x + u(x), projected into the plane:
    the position of the same anatomy in the moving image.

    Args:
        displacement: ``[*spatial, d]``, mm.
        fixed: ``[*spatial]``.
        view: planes and intensity window.
        moving: ``[*spatial]``; with it there are two rows, the regular grid on the
            fixed image and the moved one on the moving image, so that a crossing marks
            the same point in both.
        lines: their number along the longer side.

    Returns:
        The figure.

    Raises:
        ValueError: if the field is not on the grid of the image.
    """
    displacement, fixed, planes, window = _prepare(displacement, fixed, view)
    still = np.zeros((1,) * fixed.ndim + displacement.shape[-1:], np.float32)
    still = np.broadcast_to(still, displacement.shape)
    rows = [("", fixed, displacement)]
    if moving is not None:
        moving = as_image(moving, fixed.ndim, "moving")
        rows = [("fixed", fixed, still), ("moving", moving, displacement)]
    sheet, panels = drawing.variant_sheet(planes, [name for name, _, _ in rows])
    for row, (_, image, field) in zip(panels, rows, strict=True):
        for axes, plane in zip(row, planes, strict=True):
            drawing.show_grey(axes, plane, plane.take(image), window)
            draw_grid(axes, plane, plane.in_plane(field), lines)
    return sheet.figure


def jacobian_figure(determinant: np.ndarray, view: View) -> Figure:
    """Draw the Jacobian determinant of x + u(x) on a logarithmic scale.

    White is 1, red where the moving image is larger than the fixed (above 1), blue
    where it is smaller; folds (zero or less) are green.

    Args:
        determinant: ``[*spatial]``.
        view: planes; without an index they pass through the smallest determinant.

    Returns:
        The figure.
    """
    determinant = as_image(determinant, len(view.spacing), "determinant")
    if view.index is None and determinant.ndim == 3:
        worst = np.argmin(np.nan_to_num(determinant, nan=np.inf))
        index = [int(k) for k in np.unravel_index(worst, determinant.shape)]
        view = View(view.spacing, index=index)
    planes = view.planes(determinant.shape)
    slices = [plane.take(determinant) for plane in planes]
    folds = any((pixels <= 0).any() for pixels in slices)
    reach = _scale_end(slices)
    cmap = colormaps["RdBu_r"].with_extremes(bad=FOLD_COLOUR)
    norm = LogNorm(1 / reach, reach)
    footer = 0.3 if folds else 0.0
    sheet, (row,) = drawing.variant_sheet(planes, ("",), bar=True, footer=footer)
    for axes, plane, pixels in zip(row, planes, slices, strict=True):
        masked = np.ma.masked_less_equal(pixels, 0.0)
        artist = drawing.show_pixels(
            axes, plane, masked, cmap=cmap, norm=norm, interpolation="nearest"
        )
        drawing.outline(axes)
    bar = drawing.colour_bar(sheet, artist, "Jacobian determinant", extend="both")
    _set_decimal_ticks(bar, reach)
    if folds:
        _add_fold_legend(sheet.figure)
    return sheet.figure


def confidence_figure(
    bound: np.ndarray, fixed: np.ndarray, view: View, *, top: float = 5.0
) -> Figure:
    """Draw the fixed image and below it how far each of its voxels may be wrong.

    Args:
        bound: ``[*spatial]``, mm, the bound of the error at some probability; not
            finite where nothing is known, which is left out.
        fixed: ``[*spatial]``.
        view: planes and intensity window.
        top: end of the colour bar, mm.

    Returns:
        The figure.

    Raises:
        ValueError: if the bound is not on the grid of the image.
    """
    fixed = as_image(fixed, len(view.spacing), "fixed")
    bound = as_image(bound, len(view.spacing), "bound")
    if bound.shape != fixed.shape:
        raise ValueError(
            f"a bound of shape {bound.shape} does not lie on the grid {fixed.shape} of"
            " the fixed image"
        )
    view = view.resolve(fixed)
    planes = view.planes(fixed.shape)
    window = cast(IntensityWindow, view.window)
    labels = ("fixed image", "95 % within")
    sheet, (above, below) = drawing.variant_sheet(planes, labels, bar=True)
    for grey, heat, plane in zip(above, below, planes, strict=True):
        drawing.show_grey(grey, plane, plane.take(fixed), window)
        drawing.annotate(grey, plane)
        drawing.show_grey(heat, plane, plane.take(fixed), window)
        pixels = np.ma.masked_invalid(plane.take(bound))
        artist = drawing.show_pixels(
            heat, plane, pixels, cmap=HEAT, vmin=0.0, vmax=top, alpha=0.75
        )
    drawing.colour_bar(sheet, artist, "estimated error, mm", extend="max")
    return sheet.figure


def draw_arrows(
    axes: Axes, plane: Plane, field: np.ndarray, count: int, stretch: float
) -> None:
    """Draw arrows in a plane, without those too short to be seen.

    Args:
        axes: the panel.
        plane: the plane that it shows.
        field: ``[rows, columns, 2]``, mm.
        count: approximate number of arrows along the longer side.
        stretch: drawn length over true length.
    """
    ys, xs = _sample_positions(plane, count)
    dy, dx = plane.spacing
    sampled = field[np.ix_(ys, xs)]
    apart = plane.size[1] * dx / len(xs)
    x, y = np.meshgrid(xs * dx, ys * dy)
    length = np.linalg.norm(sampled, axis=-1)
    keep = length * stretch > 0.15 * apart
    axes.quiver(
        x[keep],
        y[keep],
        sampled[keep, 1] * stretch,
        sampled[keep, 0] * stretch,
        angles="xy",
        scale_units="xy",
        scale=1.0,
        color="white",
        alpha=0.85,
        units="inches",
        width=0.016,
        headwidth=3.6,
        headlength=3.8,
        headaxislength=3.4,
    )


def draw_grid(axes: Axes, plane: Plane, field: np.ndarray, count: int) -> None:
    """Draw the lines of a regular grid, moved by a field.

    Args:
        axes: the panel.
        plane: the plane that it shows.
        field: ``[rows, columns, 2]``, mm.
        count: number of lines along the longer side.
    """
    ys, xs = _sample_positions(plane, count)
    dy, dx = plane.spacing
    y = np.arange(plane.size[0])[:, None] * dy + field[..., 0]
    x = np.arange(plane.size[1])[None, :] * dx + field[..., 1]
    points = np.stack([x, y], axis=-1)
    segments = [points[i] for i in ys] + [points[:, j] for j in xs]
    axes.add_collection(
        LineCollection(segments, colors=GRID_COLOUR, linewidths=0.7, alpha=0.85),
        autolim=False,
    )


def _prepare(displacement, fixed, view: View):
    """Return the field, its fixed image, the planes and the intensity window."""
    fixed = as_image(fixed, len(view.spacing), "fixed")
    displacement = np.asarray(displacement)
    if displacement.shape != (*fixed.shape, fixed.ndim):
        raise ValueError(
            f"a displacement of shape {displacement.shape} does not lie on the "
            f"grid {fixed.shape} of the fixed image"
        )
    view = view.resolve(fixed)
    window = cast(IntensityWindow, view.window)
    return displacement, fixed, view.planes(fixed.shape), window


def _sample_positions(plane: Plane, count: int) -> list[np.ndarray]:
    """Return evenly spaced rows and columns, ``count`` along the longer side."""
    edges = [n * s for n, s in zip(plane.size, plane.spacing, strict=True)]
    step = max(edges) / count
    result = []
    for edge, n, s in zip(edges, plane.size, plane.spacing, strict=True):
        number = min(max(round(edge / step), 1), n)
        at = (np.arange(number) + 0.5) * edge / number / s - 0.5
        result.append(np.unique(np.clip(np.round(at).astype(int), 0, n - 1)))
    return result


def _stretch(planes: Sequence[Plane], fields, count: int) -> float:
    """Return the largest stretch (1, 2, 5, 10, ...) that keeps arrows apart."""
    longest = 0.0  # in distances between arrows
    for plane, field in zip(planes, fields, strict=True):
        ys, xs = _sample_positions(plane, count)
        length = np.linalg.norm(field[np.ix_(ys, xs)], axis=-1)
        apart = plane.size[1] * plane.spacing[1] / len(xs)
        longest = max(longest, float(np.nanpercentile(length, 98)) / apart)
    fitting = [c for c in (1, 2, 5, 10, 20, 50, 100) if c * longest <= 2.2]
    return float(fitting[-1]) if fitting and longest > 1e-6 else 1.0


def _scale_end(slices: Sequence[np.ndarray]) -> float:
    """Return the end of a logarithmic scale symmetric about 1, from 1.25 to 5."""
    values = np.concatenate([np.ravel(s) for s in slices])
    values = values[np.isfinite(values) & (values > 0)]
    if values.size == 0:
        return 1.25
    return float(np.clip(np.exp(np.percentile(np.abs(np.log(values)), 99.5)), 1.25, 5))


def _set_decimal_ticks(bar, reach: float) -> None:
    """Set ticks such as 0.5, 1, 2 instead of powers of ten."""
    above = [t for t in (1.1, 1.2, 1.5, 2, 3, 5) if t <= reach * 1.0001][-3:]
    ticks = [1 / t for t in reversed(above)] + [1.0] + above
    bar.ax.yaxis.set_major_locator(FixedLocator(ticks))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.2g}"))


def _add_fold_legend(figure: Figure) -> None:
    patch = Patch(color=FOLD_COLOUR, label="folding (determinant of zero or less)")
    style = {"frameon": False, "fontsize": 8.5, "labelcolor": drawing.INK}
    figure.legend(handles=[patch], loc="lower left", borderpad=0.1, **style)
