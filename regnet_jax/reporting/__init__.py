"""Reports: their typed content, figures, and pages of HTML.

Here, as in all output for users, displacements and ``spacing`` are in mm; both are
still in array-axis order, (z, y, x) or (y, x). Figures are Matplotlib ``Figure``
objects, independent of pyplot. Modules are loaded at the first use of their names, so
that a registration without a report does not load Matplotlib.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regnet_jax.reporting.curves import training_figure
    from regnet_jax.reporting.families import family_figure, statistics_figure
    from regnet_jax.reporting.fields import (
        confidence_figure,
        displacement_figure,
        grid_figure,
        jacobian_figure,
    )
    from regnet_jax.reporting.html import encode_figure, write_html
    from regnet_jax.reporting.images import (
        checkerboard_figure,
        difference_figure,
        differences_figure,
        pair_figure,
        volumes_figure,
    )
    from regnet_jax.reporting.measures import box_figure, landmark_figure
    from regnet_jax.reporting.motion import motion_figure
    from regnet_jax.reporting.registration_page import write_registration_page
    from regnet_jax.reporting.schema import RegistrationReport
    from regnet_jax.reporting.slices import View
    from regnet_jax.reporting.viewer import ViewerData, viewer_data

__all__ = [
    "RegistrationReport",
    "View",
    "ViewerData",
    "box_figure",
    "checkerboard_figure",
    "confidence_figure",
    "difference_figure",
    "differences_figure",
    "displacement_figure",
    "encode_figure",
    "family_figure",
    "grid_figure",
    "jacobian_figure",
    "landmark_figure",
    "motion_figure",
    "pair_figure",
    "statistics_figure",
    "training_figure",
    "viewer_data",
    "volumes_figure",
    "write_html",
    "write_registration_page",
]

_MODULES = {
    "curves": ("training_figure",),
    "families": ("family_figure", "statistics_figure"),
    "fields": (
        "confidence_figure",
        "displacement_figure",
        "grid_figure",
        "jacobian_figure",
    ),
    "html": ("encode_figure", "write_html"),
    "images": (
        "checkerboard_figure",
        "difference_figure",
        "differences_figure",
        "pair_figure",
        "volumes_figure",
    ),
    "measures": ("box_figure", "landmark_figure"),
    "motion": ("motion_figure",),
    "registration_page": ("write_registration_page",),
    "schema": ("RegistrationReport",),
    "slices": ("View",),
    "viewer": ("ViewerData", "viewer_data"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str):
    """Return a public object; load its module first."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
