"""Figures and the HTML report: pure functions of numpy arrays.

Here, as in whatever a user sees, displacements and ``spacing`` are in mm; both
are still in array-axis order, (z, y, x) or (y, x). Figures are matplotlib
``Figure`` objects that no global state knows of.
"""

from regnet_jax.reporting.curves import training_figure
from regnet_jax.reporting.drawing import write
from regnet_jax.reporting.families import family_figure, statistics_figure
from regnet_jax.reporting.fields import (
    displacement_figure,
    grid_figure,
    jacobian_figure,
)
from regnet_jax.reporting.html import encode_figure, write_report
from regnet_jax.reporting.images import (
    checkerboard_figure,
    difference_figure,
    pair_figure,
    volumes_figure,
)
from regnet_jax.reporting.measures import (
    box_figure,
    differences_figure,
    landmark_figure,
)
from regnet_jax.reporting.registration import registration_report
from regnet_jax.reporting.slices import (
    Plane,
    auto_window,
    choose_index,
    choose_planes,
    differing_index,
)
from regnet_jax.reporting.viewer import ViewerData, viewer_data

__all__ = [
    "Plane",
    "ViewerData",
    "auto_window",
    "box_figure",
    "checkerboard_figure",
    "choose_index",
    "choose_planes",
    "difference_figure",
    "differences_figure",
    "differing_index",
    "displacement_figure",
    "encode_figure",
    "family_figure",
    "grid_figure",
    "jacobian_figure",
    "landmark_figure",
    "pair_figure",
    "registration_report",
    "statistics_figure",
    "training_figure",
    "viewer_data",
    "volumes_figure",
    "write",
    "write_report",
]
