"""Volumes side by side: do they look alike?"""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from regnet_jax.reporting import drawing
from regnet_jax.reporting.slices import Window, choose_planes


def volumes_figure(
    volumes: Mapping[str, np.ndarray], *, spacing: float, window: Window
) -> Figure:
    """Axial and coronal slices through the middle of volumes, a column for each.

    Args:
        volumes: ``[z, y, x]`` of one shape by label, z up and y to the back.
        spacing: isotropic voxel size, mm.
        window: darkest and brightest value shown.

    Returns:
        The figure.

    Raises:
        ValueError: if the volumes are none or of several shapes.
    """
    shapes = {np.shape(volume) for volume in volumes.values()}
    if len(shapes) != 1:
        raise ValueError(f"volumes must be of one shape, not {sorted(shapes)}")
    depth, height, width = shapes.pop()
    sheet = drawing.panel_sheet([width] * len(volumes), [height, depth], width=12.0)
    low, high = window
    for axes, (label, volume) in zip(sheet.panels.T, volumes.items(), strict=True):
        slices = volume[depth // 2], volume[::-1, height // 2]
        for panel, pixels in zip(axes, slices, strict=True):
            (plane,) = choose_planes(pixels.shape, (spacing, spacing))
            drawing.show(panel, plane, pixels, cmap="gray", vmin=low, vmax=high)
        drawing.write(axes[0], 0.03, 0.97, label, va="top")
    return sheet.figure
