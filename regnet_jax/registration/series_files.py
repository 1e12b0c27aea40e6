"""The registration of a series from files, as ``regnet register --series`` does."""

import functools
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
import SimpleITK as sitk
from tqdm import tqdm

from regnet_jax.errors import InputError
from regnet_jax.files import check_folder, check_not_read, staged_folder
from regnet_jax.intensity import looks_like_labels
from regnet_jax.io import (
    LoadedPair,
    read_labels,
    read_mask,
    read_transform,
    split_series,
    write_image,
)
from regnet_jax.io.landmarks import (
    POINT_SUFFIXES,
    PointSet,
    load_points,
    rewrite_points,
)
from regnet_jax.io.phases import Phase, find_reference, read_phases
from regnet_jax.io.warping import describe_points_beyond
from regnet_jax.registration.batch import write_rows
from regnet_jax.registration.files import (
    describe_request,
    find_finished,
    register_loaded,
)
from regnet_jax.registration.inference.network import (
    Network,
    load_network,
    named_network,
)
from regnet_jax.registration.motion import Summary, summarise
from regnet_jax.registration.options import RegistrationOptions
from regnet_jax.registration.saving import PAGE, is_ours, result_paths
from regnet_jax.registration.series import SeriesRegistration
from regnet_jax.registration.start import check_start, files_of_start
from regnet_jax.reporting.schema import RegistrationReport
from regnet_jax.spatial import (
    Image,
    canonical_frame,
    canonicalise,
    map_points,
    resample,
    sample_transform,
    warn_if_elsewhere,
    warp_images_back,
)

_LOG = logging.getLogger(__name__)

# Files of the whole series.
_MAPS = ("amplitude.nii.gz", "path.nii.gz", "mid_position.nii.gz")
_SUMMARY = (*_MAPS, "motion.csv", PAGE)
_LABELS = "labels.nii.gz"
# Files that are carried to a phase depend on its registration.
_CARRIED = (_LABELS, *(f"points{suffix}" for suffix in POINT_SUFFIXES))
_MEASURES = ("correlation", "lung_correlation", "lung_overlap")
_COLUMNS = (
    *("phase", "source", "reference", "region", "mean_mm", "p95_mm", "max_mm"),
    *("mean_x_mm", "mean_y_mm", "mean_z_mm"),
    *(f"{name}_{moment}" for name in _MEASURES for moment in ("before", "after")),
    *("folding_fraction", "min_jacobian"),
    *("error_bound_body", "error_bound_lungs", "warnings"),
)


class _Carried(NamedTuple):
    """Points and labels on the reference, which are carried to all phases.

    Attributes:
        points: or None.
        labels: label map, or None.
        suffix: of the file of points.
    """

    points: PointSet | None
    labels: Image | None
    suffix: str

    @property
    def files(self) -> list[str]:
        """Their names in the folder of a phase."""
        named = [(self.points, f"points{self.suffix}"), (self.labels, _LABELS)]
        return [name for given, name in named if given is not None]


def run_series(
    path,
    out,
    options: RegistrationOptions,
    formats: Collection[str] = (),
    *,
    reference: str | None = None,
    masks: Mapping[str, str | Path] = MappingProxyType({}),
    points=None,
    labels=None,
    cycle: bool = True,
    page: bool = True,
    load: Callable[[str], Network] = load_network,
) -> dict:
    """Register all phases of a series to one of them, and write what they show.

    A phase that an earlier run registered by the same request is skipped. If a phase
    fails, the run ends; those before it are complete.

    Args:
        path: of the series, see ``io.phases.read_phases``.
        out: folder.
        options: of every registration.
        formats: of further files, see ``Registration.save``.
        reference: number or name of the phase to which the others are registered; None
            is the first.
        masks: paths of masks of the reference, by their names for ``register``.
        points: path of points in the reference, which are carried to all phases.
        labels: path of a label map of the reference, likewise.
        cycle: whether the last phase is followed by the first.
        page: write a ``report.html`` for each phase.
        load: returns the network of a name; it is called once for each name.

    Returns:
        Seconds of the steps, summed over phases.

    Raises:
        InputError: if a file or an option cannot be used.
    """
    check_folder(out)
    out, load = Path(out), functools.cache(load)
    # A wrong name is refused before the images are read.
    named_network(options.model, load)
    source, _ = split_series(path)
    if source.is_dir():
        _refuse_folder_of_phases(out, source)
    phases = read_phases(path)
    number = find_reference(phases, reference)
    results = _result_paths(out, phases)
    read = [*masks.values(), points, labels, *files_of_start(options.initial)]
    read += source.iterdir() if source.is_dir() else [source]
    check_not_read(results, read)
    check_start(options.initial, phases[number].frame.ndim)
    fixed = _read(phases[number])
    known = _read_carried(fixed, points, labels, options.point_coordinates)
    limits = {name: read_mask(each, fixed.frame) for name, each in masks.items()}
    print(
        f"{len(phases)} phases; reference: {_title(phases[number])}"
        + ", the first (--reference names another)" * (reference is None)
    )
    reports: list[RegistrationReport | None] = []
    total: dict = {}
    sources = {"series": path, **masks}
    request = describe_request(sources, load, options, formats, results=out)
    for k, phase in enumerate(tqdm(phases, "registering", unit="phase")):
        report, seconds, folder = None, {}, out / phase.name
        if k != number:
            asked = request | {
                "reference": phases[number].name,
                "phase": phase.name,
                "source": phase.source,
            }
            report = find_finished(folder, asked, page=page)
            if report is None:
                report, seconds = register_loaded(
                    lambda phase=phase: LoadedPair(fixed, _read(phase), limits),
                    *(folder, load, options, formats),
                    name=phase.source,
                    request=asked,
                    stale=_CARRIED,
                    page=page,
                )
        _carry(known, folder, phase, None if k == number else fixed)
        reports.append(report)
        total = {s: total.get(s, 0) + seconds.get(s, 0) for s in total | seconds}

    def field(k: int) -> np.ndarray:
        if k == number:
            return np.zeros((*fixed.frame.shape, fixed.frame.ndim), np.float32)
        # ITK drops the axis of a single slice in NIfTI.
        transform = read_transform(out / phases[k].name / "transform.h5")
        return sample_transform(transform, fixed.frame, np.float32)

    images = [phase.read for phase in phases]
    summary = summarise(fixed, images, field, cycle=cycle, progress=True)
    title = f"Series {path}"
    rows = _write_summary(out, title, phases, number, fixed, summary, reports, cycle)
    for warning in summary.warnings:
        _LOG.warning("%s: %s", path, warning)
    _remove_registration(out / phases[number].name, known.files)
    _print_rows(rows)
    print(
        f"wrote {out}/report.html, motion.csv, amplitude, path and mid_position"
        " (.nii.gz), and a folder for each phase"
    )
    return total


def _result_paths(out: Path, phases: Sequence[Phase]) -> list[Path]:
    """Return the paths of all files that a series may write."""
    paths = [out / name for name in _SUMMARY]
    for phase in phases:
        folder = out / phase.name
        paths += [*result_paths(folder), *(folder / name for name in _CARRIED)]
    return paths


def _refuse_folder_of_phases(out: Path, source: Path) -> None:
    """Raise InputError if results would be taken for phases the next time."""
    if out.exists() and out.samefile(source):
        raise InputError(
            f"{out}: is the folder of the phases; choose another for the results"
        )


def _read(phase: Phase) -> Image:
    """Read a phase, and warn of one that may not belong to the series."""
    image = phase.read()
    if looks_like_labels(image.array):
        _LOG.warning(
            "%s: has as few values as a label map; take it out of the folder if it is"
            " one",
            phase.source,
        )
    return image


def save_series(series: SeriesRegistration, folder, formats: Collection[str]) -> None:
    """Write the files of a series, see ``SeriesRegistration.save``."""
    check_folder(folder)
    folder = Path(folder)
    if series.source is not None and series.source.is_dir():
        _refuse_folder_of_phases(folder, series.source)
    images = [r.moving.name for r in series.registrations if r is not None]
    check_not_read(
        _result_paths(folder, series.phases),
        [series.source, series.fixed.name, *images],
    )
    was_series = all((folder / name).is_file() for name in _SUMMARY)
    reports = []
    for phase, registration in zip(series.phases, series.registrations, strict=True):
        place = folder / phase.name
        # The reference of an earlier series has no report.
        was_ours = is_ours(place) or (was_series and registration is None)
        reports.append(registration and registration.save(place, formats))
        if was_ours:
            _remove([place / name for name in _CARRIED])
        if registration is None:
            _remove_registration(place)
    _write_summary(
        *(folder, "Series", series.phases, series.reference, series.fixed),
        *(series.summary, reports, series.cycle),
    )
    for warning in series.summary.warnings:
        _LOG.warning("series: %s", warning)


def _title(phase: Phase) -> str:
    same = phase.source == phase.name
    return phase.name if same else f"{phase.name} ({phase.source})"


def _read_carried(fixed: Image, points, labels, coordinates) -> _Carried:
    """Read what is given on the reference, before the first registration."""
    known = None
    if points:
        known = load_points(points, fixed.frame, coordinates=coordinates)
    suffix = ""
    if points:
        name = Path(points).name.lower()
        suffix = next(s for s in (".mrk.json", *POINT_SUFFIXES) if name.endswith(s))
    label_map = read_labels(labels) if labels else None
    if label_map is not None and label_map.frame.ndim != fixed.frame.ndim:
        raise InputError(
            f"{labels}: is {label_map.frame.ndim}D and the phases are"
            f" {fixed.frame.ndim}D; give labels of the reference"
        )
    if label_map is not None:
        warn_if_elsewhere(label_map, fixed.frame)
    return _Carried(known, label_map, suffix)


def _carry(known: _Carried, folder: Path, phase: Phase, fixed: Image | None) -> None:
    """Write points and labels of the reference in a phase; None is the reference."""
    if not known.files:
        return
    folder.mkdir(parents=True, exist_ok=True)
    transform = sitk.Transform(phase.frame.ndim, sitk.sitkIdentity)
    if fixed is not None:
        transform = read_transform(folder / "transform.h5")
    if known.points is not None:
        parsed = known.points.parsed
        in_voxels = parsed.coordinates in ("voxels", "voxels1")
        points, lines = known.points.points, []
        if fixed is not None:
            lines += describe_points_beyond(transform, points)
            points = map_points(transform, points)
        lines += rewrite_points(
            folder / f"points{known.suffix}",
            *(points, known.points),
            phase.frame if in_voxels and parsed.rewrite else None,
        )
        for line in lines:
            _LOG.warning("%s: %s", phase.source, line)
    if known.labels is not None:
        if fixed is None:
            carried = resample(known.labels, phase.frame, interpolation="nearest")
        else:
            (carried,), lost = warp_images_back(
                *([known.labels], phase.frame, transform),
                interpolation="nearest",
                fills=[0],
            )
            if lost:
                _LOG.warning(
                    "%s: no inverse for %d of %d voxels, where the transform folds;"
                    " they are background",
                    *(phase.source, lost, carried.array.size),
                )
        array = carried.array.astype(known.labels.array.dtype)
        write_image(folder / _LABELS, array, phase.frame)


def _remove(paths: Iterable[Path]) -> None:
    """Remove files, if they are there."""
    for path in paths:
        path.unlink(missing_ok=True)


def _remove_registration(folder: Path, kept: Collection[str] = ()) -> None:
    """Remove the registration of what has become the reference, if there is one.

    Args:
        folder: of the phase.
        kept: names of files that were carried to the reference now.
    """
    if is_ours(folder):
        old = [folder / name for name in _CARRIED if name not in kept]
        _remove([*result_paths(folder), *old])
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _write_summary(
    out: Path,
    title: str,
    phases: Sequence[Phase],
    number: int,
    fixed: Image,
    summary: Summary,
    reports: Sequence[RegistrationReport | None],
    cycle: bool,
) -> list[dict]:
    """Write the maps, the table and the page of a series; return the table's rows."""
    from regnet_jax.reporting.series_page import write_series_page

    rows = [
        _make_row(phase, summary, values, report)
        for phase, values, report in zip(phases, summary.phases, reports, strict=True)
    ]
    frame, motion = fixed.frame, summary.motion
    mid_position = summary.mid_position.array

    def canonical(array: np.ndarray) -> np.ndarray:
        return canonicalise(array, frame)[0]

    with staged_folder(out) as stage:
        maps = (motion.amplitude, motion.path, mid_position)
        for file, array in zip(_MAPS, maps, strict=True):
            write_image(stage / file, array, frame)
        write_rows(stage / "motion.csv", rows, _COLUMNS)
        write_series_page(
            stage / PAGE,
            title=title,
            rows=rows,
            reference=number,
            region_name=summary.region.name,
            region=canonical(summary.region.mask),
            fixed=canonical(fixed.array),
            amplitude=canonical(motion.amplitude),
            path_length=canonical(motion.path),
            mid_position=canonical(mid_position),
            views=(summary.views.before, summary.views.after),
            index=summary.views.index,
            spacing=canonical_frame(frame).spacing[::-1],
            cycle=cycle,
            notes=[
                *summary.warnings,
                *(
                    f"{phase.name}: {warning}"
                    for phase, report in zip(phases, reports, strict=True)
                    for warning in (report.warnings if report else ())
                ),
            ],
            links={
                phase.name: f"{quote(phase.name)}/{PAGE}"
                for phase, report in zip(phases, reports, strict=True)
                if report and (out / phase.name / PAGE).is_file()
            },
        )
    return rows


def _make_row(
    phase: Phase,
    summary: Summary,
    values: dict[str, float],
    report: RegistrationReport | None,
) -> dict:
    """Return the row of the table for a phase."""
    row: dict = {"phase": phase.name, "source": phase.source, **values}
    row |= {"region": summary.region.name, "reference": "no" if report else "yes"}
    if report is None:
        return row
    row["warnings"] = "; ".join(report.warnings)
    for moment, measures in (("before", report.before), ("after", report.after)):
        for name in _MEASURES:
            row[f"{name}_{moment}"] = getattr(measures.similarity, name)
    if report.after.jacobian is not None:
        row["folding_fraction"] = report.after.jacobian.folding_fraction
        row["min_jacobian"] = report.after.jacobian.min
    for region, bound in (report.confidence or {}).items():
        row[f"error_bound_{region}"] = bound
    return row


def _print_rows(rows: Sequence[dict]) -> None:
    width = max(len("phase"), *(len(row["phase"]) for row in rows))
    print(f"{'phase':{width}}  mean mm   95 % mm   correlation, {rows[0]['region']}")
    for row in rows:
        print(
            f"{row['phase']:{width}}{row['mean_mm']:9.2f}{row['p95_mm']:10.2f}   "
            + _describe_similarity(row)
        )


def _describe_similarity(row: dict) -> str:
    if row["reference"] == "yes":
        return "(reference)"
    inside = row.get("lung_correlation_before") is not None
    name = "lung_correlation" if inside else "correlation"
    return f"{row[f'{name}_before']:.3f} -> {row[f'{name}_after']:.3f}"
