"""The files that a registration or a synthesis leaves."""

import json
from pathlib import Path

from regnet_jax.io import (
    Frame,
    Image,
    displacement_to_world,
    write_displacement,
    write_image,
    write_transform,
)
from regnet_jax.registration import Registration
from regnet_jax.registration.summary import find_lungs, make_views, summarise
from regnet_jax.reporting import registration_report
from regnet_jax.synthesis import ArtificialPair


def write_results(
    folder: Path, registration: Registration, fixed: Image, moving: Image, *, model: str
) -> dict:
    """Writes the five files of a registration.

    Args:
        folder: where to; it exists.
        registration: of the pair.
        fixed: image.
        moving: image.
        model: what to call the network.

    Returns:
        The content of ``report.json``.
    """
    frame = registration.frame
    displacement = registration.displacement
    write_image(folder / "warped.nii.gz", registration.warped.array, frame)
    write_displacement(folder / "displacement.nii.gz", displacement, frame)
    write_transform(folder / "transform.h5", registration.transform)
    views = make_views(registration, fixed, moving)
    lungs = find_lungs(registration, fixed, moving)
    report = summarise(registration, views, lungs, model=model)
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    registration_report(
        folder / "report.html",
        **views._asdict(),
        report=report,
        names={"fixed": fixed.name, "moving": moving.name},
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
