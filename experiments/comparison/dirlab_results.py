"""The methods on cases of DIR-Lab's sets: registration and errors at the landmarks."""

import logging
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from experiments.comparison.dirlab_files import (
    EXHALE,
    INHALE,
    CaseFiles,
    read_case_image,
)
from experiments.comparison.dirlab_published import (
    CASES,
    LANDMARKS,
    SETS,
    Geometry,
    set_of,
)
from experiments.comparison.methods import BEFORE, Variant
from experiments.comparison.records import describe_run, read_record, write_record
from experiments.comparison.runs import Options, read_field, run_method
from regnet_jax.errors import InputError
from regnet_jax.evaluation import (
    jacobian_statistics,
    local_volume_change,
    registration_errors,
    snap_to_voxels,
)
from regnet_jax.io import Frame, PairPaths, checksum, write_image
from regnet_jax.spatial import composite, map_points

_LOG = logging.getLogger(__name__)


class Plan(NamedTuple):
    """The same for all cases.

    Attributes:
        fixed: phase of the fixed image.
        methods: version by name.
        options: of the methods.
        folder: for the records of the registrations; it exists.
    """

    fixed: str
    methods: dict[str, str]
    options: Options
    folder: Path

    @property
    def moving(self) -> str:
        """The other phase."""
        return EXHALE if self.fixed == INHALE else INHALE


class CaseResults(NamedTuple):
    """The results of a case.

    Attributes:
        records: of each method that succeeded, and ``before``: ``errors`` of the
            landmarks and ``snapped``, ``[n]`` mm, and for methods ``folding`` (%) and
            what ``run_method`` returns.
        failures: reason by method.
        reused: number of records of an earlier run.
    """

    records: dict[str, dict]
    failures: dict[str, str]
    reused: int


def register_case(
    case: str, files: CaseFiles, geometry: Geometry, points: dict, plan: Plan
) -> CaseResults:
    """Register a case by all methods, and measure the errors at its landmarks.

    A registration is recorded in ``plan.folder`` as soon as it is measured, and is not
    repeated where the record of an equal request is there.

    Args:
        case: its name.
        files: of the case.
        geometry: of its images.
        points: landmarks ``[n, 3]`` by phase, mm, x first.
        plan: for all cases.

    Returns:
        The results; methods that fail do not stop the others.
    """
    ends = points[plan.fixed], points[plan.moving]
    errors = registration_errors(*ends).tolist()
    records, failures = {BEFORE: {"errors": errors, "snapped": errors}}, {}
    same = _describe_case(case, files, geometry, plan.fixed)
    requests = {
        method: same | describe_run(Variant(method), version, plan.options, 3)
        for method, version in plan.methods.items()
    }
    paths = {m: plan.folder / f"{case}-{m}.json" for m in plan.methods}
    for method in plan.methods:
        if (record := read_record(paths[method], requests[method])) is not None:
            records[method] = record
    reused = len(records) - 1
    missing = [method for method in plan.methods if method not in records]
    if missing:
        with tempfile.TemporaryDirectory() as folder:
            try:
                pair, frame = _write_pair(case, files, geometry, plan, Path(folder))
            except InputError as error:
                failures, missing = dict.fromkeys(missing, str(error)), []
            for method in missing:
                try:
                    log = paths[method].with_suffix(".log")
                    found = _run(method, pair, frame, ends, plan.options, log)
                except InputError as error:
                    failures[method] = str(error)
                    continue
                path, request = paths[method], requests[method]
                records[method] = write_record(path, request, found)
                tqdm.write(f"{case}, {method}: {found['seconds']:.1f} s")
    ordered = {m: records[m] for m in (BEFORE, *plan.methods) if m in records}
    return CaseResults(ordered, failures, reused)


def measure_landmarks(field, frame: Frame, fixed, moving) -> dict:
    """Measure a displacement at landmarks.

    Args:
        field: ``[*frame.shape, 3]``, mm, x first, from fixed to moving.
        frame: of both images.
        fixed: ``[n, 3]``, mm, x first.
        moving: the corresponding points.

    Returns:
        ``errors`` and ``snapped``, lists of mm, and ``folding``, %.
    """
    transform = composite(frame, field, np.eye(frame.ndim + 1))
    warped = map_points(transform, fixed)
    snapped = snap_to_voxels(warped, frame.matrix, frame.origin)
    determinant = local_volume_change(frame, field)
    folding = None
    if determinant is not None:
        folding = 100 * jacobian_statistics(determinant).folding_fraction
    return {
        "errors": registration_errors(warped, moving).tolist(),
        "snapped": registration_errors(snapped, moving).tolist(),
        "folding": folding,
    }


def check_against_published(case: str, geometry: Geometry, points: dict) -> list[str]:
    """Warn where the landmarks of a case are not those that are published.

    Args:
        case: its name.
        geometry: of its images. Only the published one is checked.
        points: landmarks ``[n, 3]`` by phase, mm, x first.

    Returns:
        The warnings, which are logged, too.
    """
    published = CASES.get(case)
    if published is None or published.geometry != geometry:
        return []
    of, motion = SETS[set_of(case)], registration_errors(*points.values())
    warnings, mean = [], float(np.mean(motion))
    if len(motion) != LANDMARKS:
        warnings.append(
            f"{case}: has {len(motion)} landmarks where {LANDMARKS} are published, so"
            " its errors are not comparable; download its landmarks again"
        )
    if abs(mean - published.motion) > of.tolerance * published.motion:
        warnings.append(
            f"{case}: its landmarks move by {mean:.2f} mm on average where"
            f" {published.motion:.2f} mm are published for {of.motion_of}; check that"
            " the files belong to this case"
        )
    for warning in warnings:
        _LOG.warning(warning)
    return warnings


def _describe_case(case: str, files: CaseFiles, geometry: Geometry, fixed: str) -> dict:
    """Return what all registrations of a case depend on, as JSON gives it back."""
    named = {f"image {k}": path for k, path in files.images.items()}
    named |= {f"landmarks {k}": path for k, path in files.landmarks.items()}
    return {
        "case": case,
        "fixed": fixed,
        "geometry": [list(values) for values in geometry],
        "files": {k: [p.name, checksum(p)] for k, p in named.items()},
    }


def _write_pair(
    case: str, files: CaseFiles, geometry: Geometry, plan: Plan, folder: Path
) -> tuple[PairPaths, Frame]:
    """Write both images where the methods can read them; they see no landmarks."""
    paths = {}
    for role, phase in (("fixed", plan.fixed), ("moving", plan.moving)):
        image = read_case_image(files.images[phase], geometry)
        paths[role] = folder / f"{role}.nii"
        write_image(paths[role], image.array, image.frame)
    return PairPaths(case, **paths), image.frame


def _run(
    method: str, pair: PairPaths, frame: Frame, ends, options: Options, log: Path
) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        ran = run_method(Variant(method), pair, Path(folder), options, log=log)
        field = read_field(Path(folder))
    return measure_landmarks(field, frame, *ends) | ran
