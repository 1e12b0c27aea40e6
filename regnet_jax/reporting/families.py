"""Figures of artificial fields (after Sokooti et al. 2017) and of their statistics."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import map_coordinates

from regnet_jax.reporting import drawing
from regnet_jax.reporting.drawing import INK, LINE
from regnet_jax.reporting.fields import GRID_COLOUR, HEAT
from regnet_jax.reporting.slices import (
    IntensityWindow,
    Plane,
    choose_planes,
    choose_window,
)

_COLUMNS = 4
# For each panel: title, the statistics at the two ends of a line, and its mark.
_STATISTICS = (
    ("displacement, mm: mean to largest component", "mean", "largest", "upper"),
    (
        "Jacobian determinant: least to greatest",
        "least_jacobian",
        "greatest_jacobian",
        None,
    ),
    ("wavelength, mm", "wavelength", "wavelength", "wavelength"),
)


def middle_slices(
    image: np.ndarray, field: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle coronal slice of an image and of a field, head up.

    Args:
        image: ``[*spatial]``, axes z, y, x, or an image of a slice.
        field: ``[*spatial, d]``, on the same grid.

    Returns:
        ``[z, x]``, and ``[z, x, 3]`` with the component across the slice first; images
        of a slice and their fields as they are.
    """
    if image.ndim == 2:
        return image, field
    middle = image.shape[1] // 2
    return image[::-1, middle], field[::-1, middle][..., [1, 0, 2]] * [1, -1, 1]


def family_figure(
    fields: Mapping[str, np.ndarray],
    background: np.ndarray | Mapping[str, np.ndarray] | None = None,
    *,
    spacing: Sequence[float] = (1.0, 1.0),
    window: IntensityWindow | None = None,
    lines: int = 24,
) -> Figure:
    """Draw families of artificial fields side by side.

    Above: the deformed image ``I(x + u(x))`` with a regular grid that is deformed along
    with it. Below: the magnitudes, all on one scale.

    Args:
        fields: a slice of a field of each family, by name, ``[y, x, d]`` in mm,
            components (y, x) or (z, y, x).
        background: an undeformed slice ``[y, x]``, which is deformed here by the
            components in the plane; or the deformed slice of each family, by name; or
            None to draw grids alone.
        spacing: (y, x), mm.
        window: intensities drawn black and white; None chooses them for each slice.
        lines: number of grid lines along the longer side.

    Returns:
        The figure.

    Raises:
        ValueError: if the fields are not slices of one size.
    """
    fields = {name: np.asarray(field) for name, field in fields.items()}
    (plane,) = choose_planes(_common_shape(fields), spacing)
    sizes = {name: np.linalg.norm(f, axis=-1) for name, f in fields.items()}
    top = max(float(size.max()) for size in sizes.values()) or 1.0
    columns = min(len(fields), _COLUMNS)
    bands = -(-len(fields) // columns)
    sheet = drawing.panel_sheet(
        [plane.aspect] * columns,
        [1.0] * (2 * bands),
        bar=True,
        max_height=6.0 * bands,
    )
    # Each family has a panel above and one below; families follow along each band.
    panels = sheet.panels.reshape(bands, 2, columns).transpose(0, 2, 1).reshape(-1, 2)
    for unused in panels[len(fields) :].ravel():
        unused.set_visible(False)
    for (above, below), name in zip(panels, fields, strict=False):
        label = f"{name}, max. {sizes[name].max():.1f} mm"
        drawing.write_text(above, 0.03, 0.97, label, va="top")
        image = _deform(background, name, fields[name], plane)
        if image is not None:
            limits = choose_window(image) if window is None else window
            drawing.show_grey(above, plane, image, limits)
        _draw_deformed_grid(above, plane, fields[name], lines)
        artist = drawing.show_pixels(
            below, plane, sizes[name], cmap=HEAT, vmin=0, vmax=top
        )
    drawing.colour_bar(sheet, artist, "displacement, mm")
    return sheet.figure


def statistics_figure(statistics: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Draw three panels with a row for each family and a line for each of its fields.

    Args:
        statistics: of each family by name: ``mean``, ``upper``, ``largest`` (mm),
            ``least_jacobian``, ``greatest_jacobian`` and ``wavelength`` (mm), each
            ``[n]`` for n fields.

    Returns:
        The figure. Marks on the displacements are their 95th percentiles; fields fold
        beyond the line at zero of the determinants.

    Raises:
        ValueError: if there is no family.
    """
    if not statistics:
        raise ValueError("there is no family to show")
    size = (10.0, 0.9 + 0.42 * len(statistics))
    figure = Figure(figsize=size, facecolor="none", layout="constrained")
    panels = figure.subplots(1, len(_STATISTICS), sharey=True)
    for axes, (title, first, last, mark) in zip(panels, _STATISTICS, strict=True):
        axes.set_title(title, color=INK, fontsize=9)
        for row, numbers in enumerate(statistics.values()):
            _draw_row(axes, row, numbers, first, last, mark)
        _style_rows(axes)
    panels[0].set_yticks(range(len(statistics)), list(statistics))
    panels[0].set_ylim(len(statistics) - 0.5, -0.5)
    panels[1].axvline(0.0, color=INK, linewidth=0.8, linestyle=":")
    for axes in panels:
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    return figure


def _common_shape(fields: Mapping[str, np.ndarray]) -> tuple[int, int]:
    shapes = {field.shape[:2] for field in fields.values()}
    flat = all(f.ndim == 3 and f.shape[-1] in (2, 3) for f in fields.values())
    if len(shapes) != 1 or not flat:
        raise ValueError("fields must be slices [y, x, 2 or 3] of one size")
    return shapes.pop()


def _positions(field: np.ndarray, plane: Plane) -> np.ndarray:
    """Return x + u(x) in the plane for each pixel, ``[2, y, x]`` in pixels."""
    shift = np.moveaxis(field[..., -2:] / np.asarray(plane.spacing), -1, 0)
    return np.indices(plane.size) + shift


def _deform(background, name: str, field: np.ndarray, plane: Plane):
    """Return the deformed slice ``[y, x]`` of a family; None without a background."""
    if background is None:
        return None
    if isinstance(background, Mapping):
        return np.asarray(background[name])
    image = np.asarray(background, np.float32)
    return map_coordinates(image, _positions(field, plane), order=1, mode="nearest")


def _draw_deformed_grid(
    axes: Axes, plane: Plane, field: np.ndarray, lines: int
) -> None:
    """Draw a regular grid of the undeformed image, deformed along with it.

    A line of the grid is a contour of x + u(x), at the coordinate of the line.
    """
    if field.shape[0] < 2 or field.shape[1] < 2:
        return
    longest = max(n * s for n, s in zip(plane.size, plane.spacing, strict=True))
    step = longest / lines
    dy, dx = plane.spacing
    ys, xs = np.arange(plane.size[0]) * dy, np.arange(plane.size[1]) * dx
    for axis, at in enumerate(_positions(field, plane)):
        values = at * plane.spacing[axis]
        edge = plane.size[axis] * plane.spacing[axis]
        levels = np.arange(0.5 * step, edge, step)
        levels = levels[(levels > values.min()) & (levels < values.max())]
        if levels.size:
            style = {"colors": GRID_COLOUR, "linewidths": 0.7, "alpha": 0.85}
            axes.contour(xs, ys, values, levels=levels, **style)
    axes.set_xlim(plane.extent[:2])
    axes.set_ylim(plane.extent[2:])


def _draw_row(axes: Axes, row: int, numbers, first: str, last: str, mark) -> None:
    """Draw the fields of a family, one below the other within its row."""
    count = len(numbers[first])
    heights = row + 0.6 * ((np.arange(count) + 0.5) / count - 0.5)
    style = {"color": LINE, "linewidth": 1.0, "alpha": 0.7}
    axes.hlines(heights, numbers[first], numbers[last], **style)
    if mark:
        axes.plot(numbers[mark], heights, ".", color=LINE, markersize=3.5)


def _style_rows(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.tick_params(colors=INK, labelsize=8, length=2)
    axes.grid(axis="x", color=INK, linewidth=0.4, alpha=0.3)
    for name, spine in axes.spines.items():
        spine.set(visible=name == "bottom", color=INK, linewidth=0.6)
