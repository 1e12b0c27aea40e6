"""The report of one registration."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from regnet_jax.reporting.fields import (
    displacement_figure,
    grid_figure,
    jacobian_figure,
)
from regnet_jax.reporting.html import write_report
from regnet_jax.reporting.images import (
    checkerboard_figure,
    difference_figure,
    pair_figure,
)
from regnet_jax.reporting.measures import landmark_figure
from regnet_jax.reporting.slices import Window, as_image, auto_window, differing_index
from regnet_jax.reporting.summary import headline, report_tables
from regnet_jax.reporting.viewer import viewer_data


def registration_report(
    path: str | os.PathLike,
    *,
    fixed: np.ndarray,
    moving: np.ndarray,
    warped: np.ndarray,
    displacement: np.ndarray | None = None,
    determinant: np.ndarray | None = None,
    spacing: Sequence[float],
    report: Mapping,
    names: Mapping[str, str] | None = None,
    window: Window | None = None,
    landmark_errors: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Path:
    """Writes the HTML report of one registration and returns its path.

    ``fixed``, ``moving`` (before, resampled on the fixed grid) and ``warped``
    (after) are ``[z, y, x]`` or ``[y, x]``, canonical (LPS) in 3D;
    ``displacement`` is ``[*spatial, d]`` in mm in array order, from fixed to
    moving, ``determinant`` ``[*spatial]`` its Jacobian determinant; without
    them their figures are left out. ``spacing`` is in array order in mm.
    ``report`` is what ``report.json`` holds: ``seconds``, ``model``,
    ``similarity`` (before, after), ``jacobian``, ``versions``, ``warnings``,
    all optional; anything else is listed under the parameters. ``names`` may
    say what the images are called (keys fixed and moving). ``landmark_errors``
    in mm, before and after, get a figure.
    """
    names = dict(names or {})
    ndim = len(spacing)
    fixed, moving, warped = (
        as_image(image, ndim, name)
        for name, image in (("fixed", fixed), ("moving", moving), ("warped", warped))
    )
    window = auto_window(fixed) if window is None else window
    index = differing_index(fixed, moving, window) if ndim == 3 else None
    view = {"spacing": spacing, "window": window, "index": index}
    images = (fixed, moving, warped)
    figures = _image_figures(images, view)
    figures += _field_figures(images, displacement, determinant, view)
    if landmark_errors is not None:
        figures.append(_landmark_entry(*landmark_errors))
    return write_report(
        path,
        title=_title(names),
        summary=headline(report, _magnitude(displacement)),
        tables=report_tables(report),
        figures=figures,
        slices=viewer_data(*images, names=_labels(names), **view),
        notes=_notes(report),
    )


def _image_figures(images, view: dict) -> list[tuple[str, str, Figure]]:
    return [
        (
            "Images",
            "The fixed image, the moving image before the nonrigid registration "
            "on the grid of the fixed, and the moving image warped by the result.",
            pair_figure(*images, **view),
        ),
        (
            "Difference",
            "Fixed minus moving (before) and fixed minus warped (after) on one "
            "scale; white is no difference.",
            difference_figure(*images, **view),
        ),
        (
            "Checkerboard",
            "Squares of the fixed image alternate with the moving (before) and "
            "the warped image (after): aligned edges run on across the squares.",
            checkerboard_figure(*images, **view),
        ),
    ]


def _field_figures(images, displacement, determinant, view: dict):
    fixed, moving, _ = images
    figures = []
    if displacement is not None:
        figures += [
            (
                "Displacement",
                "Length of the displacement in mm. Arrows point from the fixed "
                "position to where the same point lies in the moving image; they "
                "show the components in the plane, stretched as labelled.",
                displacement_figure(displacement, fixed, **view),
            ),
            (
                "Deformed grid",
                "A regular grid on the fixed image, and the same grid moved by "
                "the displacement on the moving image: a crossing marks the same "
                "point in both, up to motion through the plane.",
                grid_figure(displacement, fixed, moving=moving, **view),
            ),
        ]
    if determinant is not None:
        figures.append(_jacobian_entry(determinant, view))
    return figures


def _jacobian_entry(determinant: np.ndarray, view: dict) -> tuple[str, str, Figure]:
    """The Jacobian at the planes of the other figures, or through the worst fold."""
    folds = bool((np.asarray(determinant) <= 0).any())
    caption = (
        "Local change of volume from fixed to moving: red where the moving image "
        "is larger, blue where it is smaller."
    )
    if folds:
        caption += " The field folds where it is green; the worst fold is shown."
    index = None if folds else view["index"]
    figure = jacobian_figure(determinant, spacing=view["spacing"], index=index)
    return "Jacobian determinant", caption, figure


def _landmark_entry(before, after) -> tuple[str, str, Figure]:
    caption = (
        "Distance of each landmark to where it should be, before and after: how "
        "many are within a distance, and each on its own (below the line it came "
        "closer)."
    )
    return "Landmark errors", caption, landmark_figure(before, after)


def _magnitude(displacement: np.ndarray | None) -> np.ndarray | None:
    """Lengths in mm, of every n-th voxel of a large field."""
    if displacement is None:
        return None
    displacement = np.asarray(displacement)
    steps = (slice(None, None, max(1, n // 128)) for n in displacement.shape[:-1])
    return np.linalg.norm(displacement[tuple(steps)], axis=-1)


def _title(names: Mapping[str, str]) -> str:
    if "fixed" in names and "moving" in names:
        return f"Registration of {names['moving']} to {names['fixed']}"
    return "Registration"


def _labels(names: Mapping[str, str]) -> dict[str, str]:
    """What the viewer calls the images."""
    labels = {}
    for role in ("fixed", "moving", "warped"):
        given = names.get(role)
        labels[role] = f"{role.capitalize()}: {given}" if given else role.capitalize()
    return labels


def _notes(report: Mapping) -> list[str]:
    warnings = report.get("warnings") or []
    return [warnings] if isinstance(warnings, str) else [str(w) for w in warnings]
