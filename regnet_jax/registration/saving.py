"""The files and the report of a registration."""

import itertools
import json
import logging
import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.evaluation import (
    Measures,
    check_landmarks,
    evaluate,
    jacobian_statistics,
    registration_errors,
)
from regnet_jax.files import check_folder, check_not_read, staged_folder, write_text
from regnet_jax.io import (
    as_image,
    read_landmarks,
    write_displacement,
    write_for_ants,
    write_for_elastix,
    write_image,
    write_transform,
)
from regnet_jax.io.segmentations import warn_of_other_segments
from regnet_jax.registration.maps import (
    check_maps,
    write_confidence,
    write_inverse,
    write_jacobian,
    write_ventilation,
)
from regnet_jax.registration.monitoring import collect_warnings
from regnet_jax.registration.options import check_switch, plain
from regnet_jax.registration.report import build_report
from regnet_jax.registration.result import Registration
from regnet_jax.reporting.schema import RegistrationReport
from regnet_jax.spatial import (
    Image,
    check_labels,
    is_outside,
    map_points,
    to_index,
    warn_if_elsewhere,
)

_LOG = logging.getLogger(__name__)

# The files that can be written in addition, by the name of their format.
_FORMAT_FILES = {
    "ants": ("ants_0GenericAffine.mat", "ants_1Warp.nii.gz"),
    "elastix": ("transform_elastix.txt",),
    "inverse": ("inverse_transform.h5", "inverse_displacement.nii.gz"),
    "jacobian": ("jacobian.nii.gz",),
    "ventilation": ("ventilation_jacobian.nii.gz", "ventilation_hu.nii.gz"),
}
FORMATS = tuple(_FORMAT_FILES)
_CONFIDENCE = "confidence.nii.gz"
PAGE = "report.html"
# Files that are always written; the report tells that the others are there.
REPORT = "report.json"
RESULT_FILES = ("displacement.nii.gz", REPORT, "transform.h5", "warped.nii.gz")
# Those that are not written by a registration are removed if an earlier one lies there.
OPTIONAL_FILES = (*itertools.chain(*_FORMAT_FILES.values()), _CONFIDENCE, PAGE)


def expected_files(
    formats: Collection[str], *, confidence: bool, page: bool
) -> list[str]:
    """Return the names of all files of a registration.

    Args:
        formats: of ``FORMATS``.
        confidence: whether the errors are estimated.
        page: whether ``report.html`` is written.

    Returns:
        Names in its folder.
    """
    further = itertools.chain(*(_FORMAT_FILES[name] for name in formats))
    return [*RESULT_FILES, *further, *[_CONFIDENCE] * confidence, *[PAGE] * page]


def is_ours(folder: Path) -> bool:
    """Tell whether the results of a registration, of any version, lie in a folder."""
    volumes = [folder / name for name in RESULT_FILES if name != REPORT]
    if all(path.is_file() for path in volumes):
        # An interrupt may have come before the report.
        return True
    try:
        content = json.loads((folder / REPORT).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    versions = content.get("versions") if isinstance(content, dict) else None
    return isinstance(versions, dict) and "regnet_jax" in versions


def stale_files(folder: Path, further: Collection[str] = ()) -> tuple[str, ...]:
    """Return the names of results that a new registration would not belong to.

    Args:
        folder: of the results; it need not exist.
        further: names of files that depend on the registration in it.

    Returns:
        The optional files and the further ones where a registration lies in the folder.
        Files of others that have such names are theirs.
    """
    return (*OPTIONAL_FILES, *further) if is_ours(folder) else ()


def result_paths(folder: Path) -> list[Path]:
    """Return the paths of all files that a registration may write to a folder."""
    return [folder / name for name in (*RESULT_FILES, *OPTIONAL_FILES)]


# Displacements are rounded by this fraction of a working voxel in files.
_TOLERANCE = 2e-4


def save_registration(
    registration: Registration,
    folder,
    formats: Collection[str] = (),
    *,
    report: bool = True,
    request: Mapping | None = None,
    **measured,
) -> RegistrationReport:
    """Write the files of a registration atomically, see ``Registration.save``."""
    if isinstance(formats, str):
        raise InputError(
            f"formats: is the text {formats!r}; give a list, [{formats!r}]"
        )
    if not isinstance(formats, Collection):
        raise InputError(
            f"formats: is of type {type(formats).__name__}; give a list, which may be"
            " empty"
        )
    for name in formats:
        if name not in FORMATS:
            raise InputError(
                f"format {name}: is not known; give {' or '.join(FORMATS)}"
            )
    check_maps(formats, registration.frame, registration.fixed.name)
    check_switch("report", report)
    if request is not None:
        request = _as_json(request)
    check_folder(folder)
    images = registration.fixed.name, registration.moving.name
    check_not_read(result_paths(Path(folder)), images)
    stale = stale_files(Path(folder))
    with staged_folder(folder, stale=stale, last=REPORT) as stage:
        how = {"report": report, "request": request}
        return write_registration(registration, stage, formats, **how, **measured)


def _as_json(request) -> Mapping[str, Any]:
    """Return a request with values that JSON can hold."""
    if not isinstance(request, Mapping):
        raise InputError(
            f"request: is of type {type(request).__name__}; give a dict, such as"
            " {'fixed': path}"
        )
    return json.loads(
        json.dumps({str(k): v for k, v in request.items()}, default=plain)
    )


def write_registration(
    registration: Registration,
    folder: Path,
    formats: Collection[str] = (),
    *,
    report: bool = True,
    landmarks=None,
    labels=None,
    request: Mapping | None = None,
) -> RegistrationReport:
    """Write the files of a registration into a folder that exists, one by one.

    Arguments and result are those of ``Registration.save``.
    """
    # Files are read and warnings given before a second thread writes: while ITK
    # writes, the output of the process is taken for its own.
    with collect_warnings() as logged:
        points = _read_points(registration, landmarks)
        label_maps = _read_label_maps(registration, labels)
        inverse = registration.inverse() if "inverse" in formats else None
    if logged:
        notices = tuple(dict.fromkeys((*registration.notices, *logged)))
        registration = replace(registration, notices=notices)

    def write_measures() -> RegistrationReport:
        known = points, label_maps, request
        return _write_report(folder, registration, *known, page=report)

    volumes = folder, registration, formats, inverse
    if registration.parameters.get("memory") is not None:
        content = write_measures()
        _write_volumes(*volumes)
        return content
    # Both threads need it; neither shall compute it again.
    _ = registration.displacement
    with ThreadPoolExecutor(1) as pool:
        # In parallel: compression takes as long as the figures, and drops the GIL.
        writing = pool.submit(_write_volumes, *volumes)
        content = write_measures()
        writing.result()
    return content


def _write_volumes(
    folder: Path, registration: Registration, formats, inverse: sitk.Transform | None
) -> None:
    """Write the warped image, the field and the transform."""
    frame = registration.frame
    write_image(folder / "warped.nii.gz", registration.warped.array, frame)
    how = {"tolerance": _TOLERANCE * min(registration.grid.spacing)}
    field = registration.displacement
    write_displacement(folder / "displacement.nii.gz", field, frame, **how)
    write_transform(folder / "transform.h5", registration.transform, grid=frame, **how)
    if registration.error_estimate is not None:
        write_confidence(folder, registration.error_estimate.on(frame))
    if "ants" in formats:
        grid, residual = registration.grid, registration.residual
        write_for_ants(folder, grid, residual, registration.affine)
    if "elastix" in formats:
        write_for_elastix(folder, frame)
    if inverse is not None:
        write_inverse(folder, inverse, registration.moving.frame)
    if "jacobian" in formats:
        write_jacobian(folder, cast(np.ndarray, registration.jacobian), frame)
    if "ventilation" in formats:
        write_ventilation(folder, registration.ventilation(), registration.fixed)


def import_drawing() -> Callable:
    """Import what draws the report; only this imports Matplotlib."""
    from regnet_jax.reporting.registration_page import write_registration_page

    return write_registration_page


def _write_report(
    folder: Path, registration: Registration, points, label_maps, request, *, page: bool
) -> RegistrationReport:
    """Write ``report.json``, and ``report.html`` if the page is wanted."""
    report, arrays = build_report(
        registration, landmarks=points, labels=label_maps, request=request
    )
    if page:
        _write_page(folder / PAGE, registration, report, arrays, points)
    write_text(folder / REPORT, report.to_json())
    return report


def _write_page(
    path: Path, registration: Registration, report: RegistrationReport, arrays, points
) -> None:
    """Write the page of a report."""
    write_registration_page = import_drawing()
    errors = None
    if points is not None:
        moments = (points[0], map_points(registration.transform, points[0]))
        before, after = (registration_errors(each, points[1]) for each in moments)
        errors = before, after
    write_registration_page(
        path,
        report,
        **arrays._asdict(),
        names={"fixed": registration.fixed.name, "moving": registration.moving.name},
        landmark_errors=errors,
    )


def make_report(registration: Registration, landmarks, labels) -> RegistrationReport:
    """Build the report of a registration, see ``Registration.report``."""
    report, _ = build_report(
        registration,
        landmarks=_read_points(registration, landmarks),
        labels=_read_label_maps(registration, labels),
    )
    return report


def evaluate_registration(registration: Registration, landmarks, labels) -> Measures:
    """Measure a registration, see ``Registration.evaluate``."""
    measures = evaluate(
        registration.transform,
        landmarks=_read_points(registration, landmarks),
        labels=_read_label_maps(registration, labels),
        moving_frame=registration.moving.frame,
    )
    if registration.jacobian is None:
        return measures
    return replace(measures, jacobian=jacobian_statistics(registration.jacobian))


def _read_points(registration: Registration, landmarks):
    """Return fixed and moving points, read from files or as given, or None."""
    if landmarks is None:
        return None
    images = (registration.fixed, registration.moving)
    frames = [image.frame for image in images]
    if isinstance(landmarks, str | os.PathLike):
        raise InputError(
            f"landmarks: is one path, {os.fspath(landmarks)}; give two, the same one"
            " twice if it holds fixed and moving points"
        )
    if (count := _count(landmarks, "landmarks")) != 2:
        raise InputError(
            f"landmarks: has {count} sets of points; give those of the fixed and of the"
            " moving image"
        )
    if all(isinstance(given, str | os.PathLike) for given in landmarks):
        coordinates = registration.parameters.get("point_coordinates")
        points = read_landmarks(landmarks, frames, coordinates=coordinates)
        warn_of_points_outside(points, frames)
        return points
    points = check_landmarks(landmarks, registration.frame.ndim)
    warn_of_points_outside(points, frames)
    return points


def warn_of_points_outside(points, frames) -> None:
    """Warn of landmarks that their image does not show.

    Args:
        points: fixed and moving, ``[n, d]`` each, mm, x first.
        frames: of the fixed and the moving image.
    """
    for name, known, frame in zip(("fixed", "moving"), points, frames, strict=True):
        if outside := int(is_outside(frame, to_index(frame, known)).sum()):
            _LOG.warning(
                "%d of %d landmarks of the %s image lie outside of it; check their"
                " coordinates (--point_coordinates)",
                *(outside, len(known), name),
            )


def _read_label_maps(registration: Registration, labels):
    """Return fixed and moving label map, read from files or as given, or None."""
    if labels is None:
        return None
    if (count := _count(labels, "labels")) != 2:
        raise InputError(
            f"labels: has {count} label maps; give those of the fixed and of the"
            " moving image"
        )
    if all(isinstance(given, str | os.PathLike) for given in labels):
        warn_of_other_segments(*labels)
    images = (registration.fixed, registration.moving)
    fixed, moving = (
        _read_label_map(*each) for each in zip(labels, images, strict=True)
    )
    return fixed, moving


def _count(given, name: str) -> int:
    """Return the number of things that are given, one for each image."""
    several = hasattr(given, "__len__") and getattr(given, "ndim", 1) > 0
    if not several or isinstance(given, Mapping | str):
        raise InputError(
            f"{name}: is of type {type(given).__name__}; give two, of the fixed and of"
            " the moving image"
        )
    return len(given)


def _read_label_map(given, image: Image) -> Image:
    """Return a label map; a bare array lies on the grid of its image."""
    label_map = check_labels(as_image(given, "labels", frame=image.frame))
    if (d := label_map.frame.ndim) != image.frame.ndim:
        raise InputError(
            f"{label_map.name}: is {d}D and its image is {image.frame.ndim}D; give a"
            " label map of the image"
        )
    if not isinstance(given, Image):
        # Those of files were read before the registration.
        warn_if_elsewhere(label_map, image.frame)
    if not label_map.array.any():
        raise InputError(f"{label_map.name}: holds no label; give one that does")
    return label_map
