"""The figure of artificial displacement fields, after Sokooti et al. 2017."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import map_coordinates

from regnet_jax.reporting import drawing
from regnet_jax.reporting.fields import GRID_COLOUR, HEAT
from regnet_jax.reporting.slices import Plane, Window, auto_window, choose_planes


def family_figure(
    fields: Mapping[str, np.ndarray],
    background: np.ndarray | Mapping[str, np.ndarray] | None = None,
    *,
    spacing: Sequence[float] = (1.0, 1.0),
    window: Window | None = None,
    shared_scale: bool = True,
    lines: int = 24,
) -> Figure:
    """Families of artificial fields side by side: what they do, how large they are.

    ``fields`` maps the name of a family to a slice of one of its fields,
    ``[y, x, d]`` in mm, components (y, x) or (z, y, x); ``spacing`` is (y, x)
    in mm. Above: the deformed image ``I(x + u(x))`` and a grid drawn on I that
    was deformed with it. Below: the magnitudes, on one scale or on one each,
    with the largest in the title. ``background`` is one undeformed slice
    ``[y, x]``, deformed here by the in-plane components, or a mapping from
    each name to its slice, deformed already; without it the grid stands alone.
    """
    fields = {name: np.asarray(field) for name, field in fields.items()}
    shape = _one_shape(fields)
    (plane,) = choose_planes(shape, spacing)
    sizes = {name: np.linalg.norm(f, axis=-1) for name, f in fields.items()}
    top = max(float(size.max()) for size in sizes.values()) or 1.0
    sheet = drawing.panel_sheet(
        [plane.aspect] * len(fields),
        [1.0, 1.0],
        column_labels=[f"{n} (max. {sizes[n].max():.1f} mm)" for n in fields],
        bar=shared_scale,
        width=max(10.0, 2.3 * len(fields)),  # titles must not meet
        footer=0.0 if shared_scale else 0.65,
    )
    for (above, below), name in zip(sheet.panels.T, fields, strict=True):
        image = _deformed(background, name, fields[name], plane)
        if image is not None:
            low, high = auto_window(image) if window is None else window
            drawing.show(above, plane, image, cmap="gray", vmin=low, vmax=high)
        _draw_carried_grid(above, plane, fields[name], lines)
        end = top if shared_scale else float(sizes[name].max()) or 1.0
        artist = drawing.show(below, plane, sizes[name], cmap=HEAT, vmin=0, vmax=end)
        if not shared_scale:
            _own_bar(sheet.figure, below, artist)
    if shared_scale:
        drawing.colour_bar(sheet, artist, "displacement, mm")
    return sheet.figure


def _one_shape(fields: Mapping[str, np.ndarray]) -> tuple[int, int]:
    shapes = {field.shape[:2] for field in fields.values()}
    flat = all(f.ndim == 3 and f.shape[-1] in (2, 3) for f in fields.values())
    if len(shapes) != 1 or not flat:
        raise ValueError("fields must be slices [y, x, 2 or 3] of one size")
    return shapes.pop()


def _voxels(field: np.ndarray, plane: Plane) -> np.ndarray:
    """Where each pixel reads, ``[2, y, x]`` in pixels: x + u(x) in the plane."""
    shift = np.moveaxis(field[..., -2:] / np.asarray(plane.spacing), -1, 0)
    return np.indices(plane.size) + shift


def _deformed(background, name: str, field: np.ndarray, plane: Plane):
    """The deformed slice of one family ``[y, x]``, or None without a background."""
    if background is None:
        return None
    if isinstance(background, Mapping):
        return np.asarray(background[name])
    image = np.asarray(background, np.float32)
    return map_coordinates(image, _voxels(field, plane), order=1, mode="nearest")


def _draw_carried_grid(axes: Axes, plane: Plane, field: np.ndarray, lines: int) -> None:
    """Draws a regular grid of the undeformed image, deformed along with it.

    Such a line lies where x + u(x) crosses it: a contour of that coordinate.
    """
    if field.shape[0] < 2 or field.shape[1] < 2:
        return
    longest = max(n * s for n, s in zip(plane.size, plane.spacing, strict=True))
    step = longest / lines
    dy, dx = plane.spacing
    ys, xs = np.arange(plane.size[0]) * dy, np.arange(plane.size[1]) * dx
    for axis, at in enumerate(_voxels(field, plane)):
        values = at * plane.spacing[axis]
        edge = plane.size[axis] * plane.spacing[axis]
        levels = np.arange(0.5 * step, edge, step)
        levels = levels[(levels > values.min()) & (levels < values.max())]
        if levels.size:
            style = {"colors": GRID_COLOUR, "linewidths": 0.7, "alpha": 0.85}
            axes.contour(xs, ys, values, levels=levels, **style)
    axes.set_xlim(plane.extent[:2])
    axes.set_ylim(plane.extent[2:])


def _own_bar(figure: Figure, axes: Axes, artist) -> None:
    """A horizontal colour bar under one panel."""
    height = 0.12 / (axes.get_position().height * figure.get_size_inches()[1])
    box = axes.inset_axes((0.05, -height * 1.7, 0.9, height))
    bar = figure.colorbar(artist, cax=box, orientation="horizontal")
    drawing.ink_bar(bar, "displacement, mm")
