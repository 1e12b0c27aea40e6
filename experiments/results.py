"""The files that a registration or a synthesis leaves."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.measures import measure_landmarks, write_measures
from regnet_jax.evaluation import registration_errors
from regnet_jax.io import (
    Frame,
    Image,
    displacement_to_world,
    map_points,
    write_displacement,
    write_for_ants,
    write_for_elastix,
    write_image,
    write_transform,
)
from regnet_jax.registration import Registration
from regnet_jax.registration.summary import find_lungs, make_views, summarise
from regnet_jax.reporting import registration_report, statistics_figure
from regnet_jax.synthesis import ArtificialPair, FieldStatistics


def write_results(
    folder: Path,
    registration: Registration,
    fixed: Image,
    moving: Image,
    *,
    model: str,
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
        landmarks: fixed and moving points ``[n, d]``, mm, that correspond; or None.
        formats: ``ants`` and ``elastix``, for files that those tools look for.
        extra: what else goes into the report.

    Returns:
        The content of ``report.json``.
    """
    frame = registration.frame
    write_image(folder / "warped.nii.gz", registration.warped.array, frame)
    write_displacement(folder / "displacement.nii.gz", registration.displacement, frame)
    write_transform(folder / "transform.h5", registration.transform)
    if "ants" in formats:
        write_for_ants(folder, frame, registration.residual, registration.affine)
    if "elastix" in formats:
        write_for_elastix(folder, frame)
    views = make_views(registration, fixed, moving)
    lungs = find_lungs(registration.transform, fixed, moving)
    report = summarise(registration, views, lungs, model=model)
    errors = None
    if landmarks is not None:
        transform = registration.transform
        report |= measure_landmarks(transform, *landmarks, moving.frame)
        moments = (landmarks[0], map_points(transform, landmarks[0]))
        errors = tuple(registration_errors(points, landmarks[1]) for points in moments)
    report |= extra or {}
    write_measures(folder / "report.json", report)
    registration_report(
        folder / "report.html",
        **views._asdict(),
        report=report,
        names={"fixed": fixed.name, "moving": moving.name},
        landmark_errors=errors,
    )
    return report


def write_pair(folder: Path, name: str, frame: Frame, pair: ArtificialPair) -> None:
    """Writes an artificial pair as NAME_fixed, NAME_moving and NAME_displacement.

    Args:
        folder: where to; it exists.
        name: begins the names of the files.
        frame: where the voxels lie.
        pair: its displacement in voxels; written in mm.
    """
    write_image(folder / f"{name}_fixed.nii.gz", pair.fixed[..., 0], frame)
    write_image(folder / f"{name}_moving.nii.gz", pair.moving[..., 0], frame)
    vectors = displacement_to_world(frame, pair.displacement)
    write_displacement(folder / f"{name}_displacement.nii.gz", vectors, frame)


def write_statistics(
    folder: Path, fields: Mapping[str, Sequence[FieldStatistics]]
) -> list[str]:
    """Writes what the fields of each family are like, as statistics.json and .png.

    Args:
        folder: where to; it exists.
        fields: the statistics of each field, by family.

    Returns:
        A table, a line for each family: mean and standard deviation over its fields.
    """
    columns = {
        name: {
            key: np.asarray([getattr(one, key) for one in several], float)
            for key in FieldStatistics._fields
        }
        for name, several in fields.items()
    }
    listed = {
        name: {key: values.tolist() for key, values in numbers.items()}
        for name, numbers in columns.items()
    }
    (folder / "statistics.json").write_text(json.dumps(listed, indent=1) + "\n")
    statistics_figure(columns).savefig(folder / "statistics.png", dpi=150)
    lines = ["family          mean mm      largest mm   least det.    wavelength mm"]
    for name, numbers in columns.items():
        shown = ("mean", "largest", "least_jacobian", "wavelength")
        cells = (f"{numbers[k].mean():6.2f} ±{numbers[k].std():5.2f}" for k in shown)
        lines.append(f"{name:14s}{' '.join(cells)}")
    return lines
