"""The files that a registration leaves."""

import json
from pathlib import Path

from regnet_jax.io import Image, write_displacement, write_image, write_transform
from regnet_jax.registration import Registration
from regnet_jax.registration.summary import make_views, summarise
from regnet_jax.reporting import registration_report


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
    report = summarise(registration, views, model=model)
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    registration_report(
        folder / "report.html",
        **views._asdict(),
        report=report,
        names={"fixed": fixed.name, "moving": moving.name},
    )
    return report
