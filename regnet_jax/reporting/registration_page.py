"""The page of one registration: headline numbers, slices, figures and tables."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from numbers import Integral, Real
from pathlib import Path
from typing import cast

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from regnet_jax.evaluation import LabelOverlap, Similarity
from regnet_jax.reporting.fields import (
    confidence_figure,
    displacement_figure,
    grid_figure,
    jacobian_figure,
)
from regnet_jax.reporting.html import DPI, Table, write_html
from regnet_jax.reporting.images import (
    checkerboard_figure,
    difference_figure,
    pair_figure,
)
from regnet_jax.reporting.measures import landmark_figure
from regnet_jax.reporting.schema import RegistrationReport
from regnet_jax.reporting.slices import IntensityWindow, View, as_image
from regnet_jax.reporting.viewer import viewer_data

# Titles of similarity measures; the first available one heads the page.
_SIMILARITY = {
    "lung_correlation": "correlation in the lung",
    "correlation": "correlation",
    "lung_overlap": "lung overlap",
}

Card = tuple[str, str, str]
Entry = tuple[str, str, Figure]


def write_registration_page(
    path: str | os.PathLike,
    report: RegistrationReport,
    *,
    fixed: np.ndarray,
    moving: np.ndarray,
    warped: np.ndarray,
    spacing: Sequence[float],
    displacement: np.ndarray | None = None,
    determinant: np.ndarray | None = None,
    error_bound: np.ndarray | None = None,
    names: Mapping[str, str] | None = None,
    window: IntensityWindow | None = None,
    landmark_errors: tuple[ArrayLike, ArrayLike] | None = None,
    dpi: int = DPI,
) -> Path:
    """Write the HTML report of one registration.

    Args:
        path: of the file; its folder exists.
        report: the numbers.
        fixed: ``[z, y, x]`` or ``[y, x]``, canonical (LPS) in 3D.
        moving: the moving image on the fixed grid, before.
        warped: the moving image on the fixed grid, after.
        spacing: mm, array order.
        displacement: ``[*spatial, d]``, mm, array order, fixed to moving; None leaves
            its figures out.
        determinant: ``[*spatial]``, its Jacobian determinant; None leaves its figure
            out.
        error_bound: ``[*spatial]``, mm, of the estimated errors, not finite where
            nothing is known; None leaves its figure out.
        names: of the images, by fixed and moving.
        window: intensities drawn black and white; None chooses them by the fixed image.
        landmark_errors: before and after, ``[n]`` each, mm; None leaves their figure
            out.
        dpi: of the figures.

    Returns:
        The path.

    Raises:
        InputError: if the file cannot be written.
    """
    names = dict(names or {})
    images = tuple(
        as_image(image, len(spacing), name)
        for image, name in ((fixed, "fixed"), (moving, "moving"), (warped, "warped"))
    )
    view = View(spacing, window).resolve(*images[:2])
    figures = _image_figures(images, view)
    figures += _field_figures(images, displacement, determinant, view)
    if error_bound is not None:
        figures.append(_confidence_entry(error_bound, images[0], view))
    if landmark_errors is not None:
        figures.append(_landmark_entry(*landmark_errors))
    return write_html(
        path,
        title=_title(names),
        summary=headline_cards(report, displacement),
        tables=report_tables(report),
        figures=figures,
        slices=viewer_data(*images, view=view, names=_viewer_names(names)),
        notes=report.warnings,
        dpi=dpi,
    )


def headline_cards(
    report: RegistrationReport, displacement: np.ndarray | None = None
) -> list[Card]:
    """Return the headline numbers of a registration.

    Args:
        report: the numbers.
        displacement: ``[*spatial, d]``, mm; None leaves its card out.

    Returns:
        Label, value and detail of each card.
    """
    before, after = _similarities(report)
    name = next(name for name in _SIMILARITY if name in before)
    change = f"{format_number(before[name])} → {format_number(after[name])}"
    cards = [("Similarity before → after", change, _SIMILARITY[name])]
    if (jacobian := report.after.jacobian) is not None:
        folding = format_fraction(jacobian.folding_fraction)
        least = f"smallest Jacobian {format_number(jacobian.min)}"
        cards.append(("Folding", folding, least))
    if displacement is not None:
        median = np.median(_sampled_lengths(displacement))
        slabs = (np.linalg.norm(slab, axis=-1).max() for slab in displacement)
        largest = f"largest {max(slabs):.1f} mm"
        cards.append(("Median displacement", f"{median:.1f} mm", largest))
    if report.confidence:
        region, bound = list(report.confidence.items())[-1]
        detail = f"of 95 % of the {region}, at most"
        cards.append(("Estimated error", f"{format_number(bound)} mm", detail))
    phases = {k: v for k, v in report.seconds.items() if k != "total"}
    longest = max(phases, key=phases.__getitem__, default="")
    detail = f"longest: {longest}, {phases[longest]:.3g} s" if phases else ""
    cards.append(("Time", f"{report.seconds['total']:.3g} s", detail))
    cards.append(("Model", report.model, ""))
    return cards


def report_tables(report: RegistrationReport) -> list[Table]:
    """Return the tables of a registration that are not empty.

    Args:
        report: the numbers.

    Returns:
        Title, header and rows of each.
    """
    jacobian = {} if report.after.jacobian is None else asdict(report.after.jacobian)
    jacobian_rows = [
        (
            _spaced(name),
            (format_fraction if name.endswith("fraction") else format_number)(value),
        )
        for name, value in jacobian.items()
    ]
    confidence_rows = [
        (region, format_number(bound))
        for region, bound in (report.confidence or {}).items()
    ]
    settings = {**(report.request or {}), **report.parameters}
    settings |= {"unmatched_fraction": report.unmatched_fraction}
    settings |= {"affine": report.affine}
    phases = [(_spaced(phase), f"{s:.3g}") for phase, s in report.seconds.items()]
    phases.sort(key=lambda row: row[0] == "total")
    tables = [
        _similarity_table(report),
        _landmark_table(report),
        _label_table(report),
        ("Jacobian determinant", (), jacobian_rows),
        ("Estimated error, mm", ("region", "of 95 % at most"), confidence_rows),
        ("Time", ("phase", "seconds"), phases),
        ("Parameters", (), _setting_rows(settings)),
        ("Versions", (), list(report.versions.items())),
    ]
    return [table for table in tables if table[2]]


def format_number(value: object) -> str:
    """Return a value as text for a reader.

    Args:
        value: a number, a sequence of them, or anything else.

    Returns:
        Four digits of a number, ``n/a`` where it is missing or not finite.
    """
    if value is None:
        return "n/a"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        return f"{float(value):.4g}" if math.isfinite(value) else "n/a"
    if isinstance(value, list | tuple):
        return ", ".join(format_number(v) for v in value)
    return str(value)


def format_fraction(fraction: float) -> str:
    """Format a fraction in per cent, without rounding a positive one to zero.

    Args:
        fraction: from 0 to 1, or not finite.

    Returns:
        Such as ``1.23 %``.
    """
    if not np.isfinite(fraction):
        return "n/a"
    percent = 100 * fraction
    if 0 < percent < 0.001:
        return "< 0.001 %"
    return f"{percent:.3g} %"


def _image_figures(images, view: View) -> list[Entry]:
    return [
        (
            "Images",
            "The fixed image, the moving image before the nonrigid registration "
            "on the grid of the fixed, and the moving image warped by the result.",
            pair_figure(*images, view=view),
        ),
        (
            "Difference",
            "Fixed minus moving (before) and fixed minus warped (after) on one "
            "scale; white is no difference.",
            difference_figure(*images, view=view),
        ),
        (
            "Checkerboard",
            "Squares of the fixed image alternate with the moving (before) and "
            "the warped image (after): aligned edges run on across the squares.",
            checkerboard_figure(*images, view=view),
        ),
    ]


def _field_figures(images, displacement, determinant, view: View) -> list[Entry]:
    fixed, moving, _ = images
    figures = []
    if displacement is not None:
        figures += [
            (
                "Displacement",
                "Length of the displacement in mm. Arrows point from the fixed "
                "position to where the same point lies in the moving image; they "
                "show the components in the plane, stretched as labelled.",
                displacement_figure(displacement, fixed, view),
            ),
            (
                "Deformed grid",
                "A regular grid on the fixed image, and the same grid moved by "
                "the displacement on the moving image: a crossing marks the same "
                "point in both, up to motion through the plane.",
                grid_figure(displacement, fixed, view, moving=moving),
            ),
        ]
    if determinant is not None:
        figures.append(_jacobian_entry(determinant, view))
    return figures


def _jacobian_entry(determinant: np.ndarray, view: View) -> Entry:
    """Draw the Jacobian in the planes of the other figures, or at the worst fold."""
    folds = bool((np.asarray(determinant) <= 0).any())
    caption = (
        "Local change of volume from fixed to moving: red where the moving image "
        "is larger, blue where it is smaller."
    )
    if folds:
        caption += " The field folds where it is green; the worst fold is shown."
        view = replace(view, index=None)
    return "Jacobian determinant", caption, jacobian_figure(determinant, view)


def _confidence_entry(bound, fixed, view: View) -> Entry:
    caption = (
        "The distance within which the result is right with a probability of 95 %, as "
        "the network estimates it from how well the images match; no colour where "
        "nothing is known."
    )
    return "Confidence", caption, confidence_figure(bound, fixed, view)


def _landmark_entry(before, after) -> Entry:
    caption = (
        "Distance of each landmark to where it should be, before and after: how "
        "many are within a distance, and each on its own (below the line it came "
        "closer)."
    )
    return "Landmark errors", caption, landmark_figure(before, after)


def _sampled_lengths(displacement: np.ndarray) -> np.ndarray:
    """Return the vectors' lengths in mm, at every n-th voxel of a large field."""
    displacement = np.asarray(displacement)
    steps = (slice(None, None, max(1, n // 128)) for n in displacement.shape[:-1])
    return np.linalg.norm(displacement[tuple(steps)], axis=-1)


def _title(names: Mapping[str, str]) -> str:
    if "fixed" in names and "moving" in names:
        return f"Registration of {names['moving']} to {names['fixed']}"
    return "Registration"


def _viewer_names(names: Mapping[str, str]) -> dict[str, str]:
    """Return the captions of the images in the viewer."""
    return {role: f"{role.capitalize()}: {name}" for role, name in names.items()}


def _similarities(report: RegistrationReport) -> list[dict[str, float]]:
    """Return the similarity before and after, which every report has."""
    moments = (report.before, report.after)
    return [cast(Similarity, moment.similarity).to_dict() for moment in moments]


def _similarity_table(report: RegistrationReport) -> Table:
    before, after = _similarities(report)
    rows = [
        (_SIMILARITY[name], format_number(value), format_number(after[name]))
        for name, value in before.items()
    ]
    return ("Similarity", ("measure", "before", "after"), rows)


def _landmark_table(report: RegistrationReport) -> Table:
    rows = []
    for title, before, after in (
        ("error", report.before.tre, report.after.tre),
        (
            "error, snapped to voxels",
            report.before.tre_snapped,
            report.after.tre_snapped,
        ),
    ):
        if before is None or after is None:
            continue
        before, after = before.to_dict(), after.to_dict()
        rows += [
            (
                f"{title}: {_spaced(name)}",
                format_number(value),
                format_number(after[name]),
            )
            for name, value in before.items()
        ]
    return ("Landmarks, mm", ("measure", "before", "after"), rows)


def _label_table(report: RegistrationReport) -> Table:
    rows, missing = [], LabelOverlap(float("nan"), float("nan"))
    overlaps = report.before.overlap or {}, report.after.overlap or {}
    for label in sorted(overlaps[0].keys() | overlaps[1].keys()):
        before, after = (overlap.get(label, missing) for overlap in overlaps)
        numbers = (before.dice, after.dice, before.hd95, after.hd95)
        rows.append((str(label), *map(format_number, numbers)))
    head = ("label", "Dice before", "Dice after", "HD95 before, mm", "HD95 after, mm")
    return ("Labels", head, rows)


def _setting_rows(settings: Mapping, prefix: str = "") -> list[tuple[str, str]]:
    """Return a row for each of the nested settings, with dotted names."""
    rows = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows += _setting_rows(value, f"{prefix}{_spaced(key)}.")
        else:
            rows.append((f"{prefix}{_spaced(key)}", format_number(value)))
    return rows


def _spaced(name: str) -> str:
    return str(name).replace("_", " ")
