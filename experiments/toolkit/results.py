"""The files that a registration leaves."""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from experiments.toolkit.measures import measure_landmarks
from experiments.toolkit.tables import write_measures
from regnet_jax.evaluation import registration_errors
from regnet_jax.io import (
    Image,
    map_points,
    write_displacement,
    write_for_ants,
    write_for_elastix,
    write_image,
    write_transform,
)
from regnet_jax.registration import Registration
from regnet_jax.registration.summary import find_lungs, make_views, summarise
from regnet_jax.reporting import registration_report


def write_results(
    folder: Path,
    registration: Registration,
    fixed: Image,
    moving: Image,
    *,
    model: str,
    notices: Collection[str] = (),
    landmarks=None,
    formats: Collection[str] = (),
    extra: Mapping | None = None,
) -> dict:
    """Writes the five files of a registration, and those of further formats.

    Args:
        folder: where to; it exists.
        registration: of the pair.
        fixed: image.
        moving: image.
        model: what to call the network.
        notices: what else to warn of.
        landmarks: fixed and moving points ``[n, d]``, mm, that correspond; or None.
        formats: ``ants`` and ``elastix``, for files that those tools look for.
        extra: what else goes into the report.

    Returns:
        The content of ``report.json``.
    """
    views = make_views(registration, fixed, moving)
    with ThreadPoolExecutor(1) as pool:
        # Compression takes as long as drawing, and ITK needs no interpreter for it.
        volumes = pool.submit(_write_volumes, folder, registration, formats)
        report = _write_report(
            folder, registration, views, fixed, moving, model, notices, landmarks, extra
        )
        volumes.result()
    write_measures(folder / "report.json", report)
    return report


def _write_volumes(folder: Path, registration: Registration, formats):
    """The warped image, the field and the transform."""
    frame = registration.frame
    write_image(folder / "warped.nii.gz", registration.warped.array, frame)
    write_displacement(folder / "displacement.nii.gz", registration.displacement, frame)
    write_transform(folder / "transform.h5", registration.transform)
    if "ants" in formats:
        write_for_ants(folder, frame, registration.residual, registration.affine)
    if "elastix" in formats:
        write_for_elastix(folder, frame)


def _write_report(
    folder, registration, views, fixed, moving, model, notices, landmarks, extra
) -> dict:
    """The page for people; returns what goes into ``report.json``."""
    lungs = find_lungs(registration.transform, fixed, moving)
    report = summarise(registration, views, lungs, model=model)
    report["warnings"] = [*notices, *report["warnings"]]
    errors = None
    if landmarks is not None:
        transform = registration.transform
        report |= measure_landmarks(transform, *landmarks, moving.frame)
        moments = (landmarks[0], map_points(transform, landmarks[0]))
        errors = tuple(registration_errors(points, landmarks[1]) for points in moments)
    report |= extra or {}
    registration_report(
        folder / "report.html",
        **views._asdict(),
        report=report,
        names={"fixed": fixed.name, "moving": moving.name},
        landmark_errors=errors,
    )
    return report
