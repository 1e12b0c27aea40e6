"""Registering and measuring from files, as ``regnet register`` and ``evaluate`` do."""

import contextlib
import dataclasses
import hashlib
import logging
import math
import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import SimpleITK as sitk

import regnet_jax
from regnet_jax.errors import InputError
from regnet_jax.evaluation import (
    describe_overlap,
    evaluate_before_and_after,
    local_volume_change,
    require_lungs,
    ventilation,
)
from regnet_jax.files import check_folder, check_not_read, staged_folder
from regnet_jax.io import (
    LoadedPair,
    PairPaths,
    grid_of,
    read_image,
    read_labels,
    read_landmarks,
    read_pair,
    read_transform,
    split_series,
)
from regnet_jax.io.manifests import files_of_image
from regnet_jax.io.segmentations import warn_of_other_segments
from regnet_jax.io.warping import describe_points_beyond
from regnet_jax.registration.inference.network import (
    Network,
    checksum_of,
    named_network,
)
from regnet_jax.registration.maps import (
    check_maps,
    write_inverse,
    write_jacobian,
    write_ventilation,
)
from regnet_jax.registration.monitoring import collect_warnings, timed
from regnet_jax.registration.options import RegistrationOptions
from regnet_jax.registration.register import register
from regnet_jax.registration.report import NOTHING_COMPARED
from regnet_jax.registration.saving import (
    REPORT,
    expected_files,
    import_drawing,
    result_paths,
    stale_files,
    warn_of_points_outside,
    write_registration,
)
from regnet_jax.registration.start import checksum_of_start, files_of_start
from regnet_jax.reporting.schema import RegistrationReport
from regnet_jax.spatial import (
    Frame,
    Image,
    check_dimension,
    check_pair,
    continue_over,
    invert_onto,
    sample_transform,
    warn_if_elsewhere,
    warn_if_same,
)

_LOG = logging.getLogger(__name__)

# What tells whether the sources of a request have changed.
_STATES = "states"


def describe_request(
    sources: Mapping[str, str | os.PathLike],
    load: Callable[[str], Network],
    options: RegistrationOptions,
    formats: Collection[str] = (),
    *,
    results: Path | None = None,
) -> dict:
    """Return the request of a registration, as ``report.json`` stores it.

    Args:
        sources: paths of the files that it reads, by name.
        load: as in ``register_files``.
        options: of the registration.
        formats: of further files.
        results: a folder whose files are no sources, where it lies in one of them; or
            None.

    Returns:
        Absolute paths by name, the options, the checksums of the network and of a
        transform to start from, the formats, and by the name of each source what tells
        whether it has changed.

    Raises:
        InputError: if the network cannot be read.
    """
    paths = {name: str(Path(path).absolute()) for name, path in sources.items()}
    content = {
        "weights": checksum_of(options.model, load),
        "start": checksum_of_start(options.initial),
        "formats": sorted(formats),
        _STATES: {name: _state_of(path, results) for name, path in sources.items()},
    }
    return paths | options.to_dict() | content


def find_finished(
    folder: Path, request: Mapping, *, page: bool
) -> RegistrationReport | None:
    """Return the report of an earlier registration of the same request.

    Args:
        folder: of its results.
        request: as it would be stored in the report.
        page: whether ``report.html`` is among the results.

    Returns:
        The report; None if there is none, if it is of another version, if a file of the
        results is missing, or if a source is not what it was.
    """
    try:
        report = RegistrationReport.from_json((folder / REPORT).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not _is_same_request(report.request or {}, request):
        return None
    if report.versions.get("regnet_jax") != regnet_jax.__version__:
        return None
    confidence = request["confidence"]
    names = expected_files(request["formats"], confidence=confidence, page=page)
    return report if all((folder / name).is_file() for name in names) else None


def _is_same_request(stored: Mapping, request: Mapping) -> bool:
    """Compare requests; a source that is gone is as it was."""
    then, now = stored.get(_STATES, {}), request[_STATES]
    gone = {name: then.get(name) for name, state in now.items() if state is None}
    return {**stored, _STATES: then} == {**request, _STATES: {**now, **gone}}


def _state_of(path: str | os.PathLike, results: Path | None) -> str | None:
    """Return what tells whether a file, or those in a folder, are others than before.

    Args:
        path: as ``io.read_image`` takes it.
        results: a folder that does not count; or None.

    Returns:
        16 hexadecimal digits, of names, sizes and times of last change, by which no
        file has to be read; None if nothing is there.
    """
    try:
        source, _ = split_series(path)
    except InputError:
        return None
    files = [source]
    if source.is_dir():
        files = []
        for folder, folders, names in os.walk(source):
            here = Path(folder)
            if results is not None and results.exists():
                folders[:] = [f for f in folders if not (here / f).samefile(results)]
            files += [here / name for name in names]
    else:
        with contextlib.suppress(InputError, OSError):
            files = files_of_image(source)
    # Links that lead nowhere are no files.
    found = {str(f.absolute()): f.stat() for f in files if f.is_file()}
    states = [(name, s.st_size, s.st_mtime_ns) for name, s in sorted(found.items())]
    return hashlib.sha256(repr(states).encode()).hexdigest()[:16]


def register_files(
    pair: PairPaths,
    out,
    load: Callable[[str], Network],
    options: RegistrationOptions,
    formats: Collection[str] = (),
    *,
    page: bool = True,
    progress: bool = False,
) -> tuple[RegistrationReport, dict]:
    """Register a pair of files and write the results atomically.

    Args:
        pair: paths of its images; points and labels are measured and reported.
        out: folder for the results.
        load: returns the network of a name; it should cache the networks.
        options: of the registration.
        formats: of further files, see ``Registration.save``.
        page: write ``report.html``.
        progress: show progress bars.

    Returns:
        The report, and the seconds of every phase, including reading and writing.

    Raises:
        InputError: if a file or an option cannot be used.
    """
    check_folder(out)
    sources = [*pair.files.values(), *files_of_start(options.initial)]
    check_not_read(result_paths(Path(out)), sources)
    return register_loaded(
        lambda: read_pair(pair, coordinates=options.point_coordinates),
        *(out, load, options, formats),
        name=pair.fixed,
        request=describe_request(
            pair.files, load, options, formats, results=Path(out).parent
        ),
        page=page,
        progress=progress,
    )


def register_loaded(
    read: Callable[[], LoadedPair],
    out,
    load: Callable[[str], Network],
    options: RegistrationOptions,
    formats: Collection[str] = (),
    *,
    name,
    request: dict,
    stale: Collection[str] = (),
    page: bool = True,
    progress: bool = False,
) -> tuple[RegistrationReport, dict]:
    """Register a pair and write the results atomically.

    Args:
        read: returns the pair.
        out: as in ``register_files``.
        load: as in ``register_files``.
        options: as in ``register_files``.
        formats: as in ``register_files``.
        name: of the pair in warnings.
        request: what was asked for, for the report.
        stale: names of further files that depend on an earlier registration in the
            same folder, which are removed.
        page: as in ``register_files``.
        progress: as in ``register_files``.

    Returns:
        As ``register_files``.

    Raises:
        InputError: as ``register_files``.
    """
    seconds: dict = {}

    def load_in_time(name):
        with timed(seconds, "network"):
            return load(name)

    # A wrong name is refused before the images are read.
    named_network(options.model, load_in_time)
    stage = staged_folder(out, stale=stale_files(Path(out), stale), last=REPORT)
    with stage as folder, collect_warnings() as logged:
        with timed(seconds, "reading"):
            known = read()
            check_maps(formats, known.fixed.frame, known.fixed.name)
            if "ventilation" in formats:
                # Refused before the registration.
                require_lungs(known.fixed, known.moving)
        with ThreadPoolExecutor(1) as pool:
            # Matplotlib takes half a second, in which ITK and XLA leave a core idle.
            if page:
                pool.submit(import_drawing)
            registration = register(
                known.fixed,
                known.moving,
                load=load_in_time,
                progress=progress,
                log_warnings=False,
                **known.masks,
                **options.to_keywords(),
            )
        seconds |= registration.seconds
        # Warnings of reading come first.
        notices = tuple(dict.fromkeys((*logged, *registration.notices)))
        registration = dataclasses.replace(registration, notices=notices)
        with timed(seconds, "measuring and writing"):
            report = write_registration(
                registration,
                folder,
                formats,
                report=page,
                landmarks=known.points,
                labels=known.labels,
                request=request,
            )
    for warning in report.warnings:
        if warning not in logged:
            _LOG.warning("%s: %s", name, warning)
    return report, seconds


def evaluate_files(
    *,
    transform=None,
    points=None,
    coordinates: str | None = None,
    labels=None,
    images=None,
    maps: Collection[str] = (),
    folder: Path | None = None,
) -> dict:
    """Measure a transform by the files of a pair.

    Args:
        transform: path of the transform from fixed to moving, or several, see
            ``io.read_transform``; None is the identity.
        points: paths of fixed and moving landmarks, or None; of a file that holds both,
            that and None.
        coordinates: of the points, see ``io.read_points``.
        labels: of fixed and moving label maps, or None.
        images: of the fixed and the moving image, or None.
        maps: of ``maps.MAPS``, to be written to the folder.
        folder: an existing folder.

    Returns:
        ``transform`` as given, and the measures before and after, for JSON.

    Raises:
        InputError: if a file cannot be read or does not fit the others.
    """
    label_maps = [read_labels(path) for path in labels or ()]
    if labels:
        warn_of_other_segments(*labels)
    scans = [read_image(path) for path in images or ()]
    if scans:
        check_pair(*scans)
    for image in label_maps:
        if not image.array.any():
            raise InputError(f"{image.name}: holds no label; give one that does")
    for image, scan in zip(label_maps, scans, strict=False):
        warn_if_elsewhere(image, scan.frame)
    pair = scans or label_maps
    dimensions = {image.name: image.frame.ndim for image in (*scans, *label_maps)}
    landmarks = None
    if points:
        frames = [image.frame for image in pair] or [None, None]
        landmarks = read_landmarks(points, frames, coordinates=coordinates)
        dimensions[points[0]] = landmarks[0].shape[1]
    found = _read_transform(transform, dimensions)
    for both in (scans, label_maps):
        if both:
            warn_if_same(*both)
    frame = None
    if transform:
        frame = pair[0].frame if pair else grid_of(transform, found)
    if maps:
        _check_map_inputs(maps, frame, pair, scans)
    if landmarks is not None:
        for line in describe_points_beyond(found, landmarks[0]):
            _LOG.warning(line)
        if pair:
            warn_of_points_outside(landmarks, [image.frame for image in pair])
    measures = evaluate_before_and_after(
        found,
        frame,
        landmarks=landmarks,
        labels=label_maps or None,
        images=scans or None,
        moving_frame=pair[1].frame if pair else None,
    )
    for line in describe_overlap(measures.after.overlap or {}):
        _LOG.warning(line)
    likeness = measures.after.similarity
    if likeness is not None and math.isnan(likeness.correlation):
        _LOG.warning(NOTHING_COMPARED)
    if maps and folder is not None:
        _write_maps(folder, maps, found, frame, pair, scans)
    return {"transform": transform} | measures.to_dict()


def _check_map_inputs(
    maps: Collection[str], frame: Frame | None, pair: list[Image], scans: list[Image]
) -> None:
    """Raise InputError unless all is there that maps are made of."""
    needs_pair = {"inverse": pair, "ventilation": scans}
    for name in maps:
        if frame is None or not needs_pair.get(name, [True]):
            raise InputError(
                f"--write {name}: needs --transform and the grids of both images; give"
                " --fixed and --moving"
            )
    assert frame is not None
    check_maps(maps, frame, pair[0].name if pair else "the transform")


def _write_maps(
    folder: Path,
    maps: Collection[str],
    transform: sitk.Transform,
    frame: Frame | None,
    pair: list[Image],
    scans: list[Image],
) -> None:
    """Write what follows from a transform on the grids of a pair."""
    assert frame is not None
    if "inverse" in maps:
        moving = pair[1].frame
        inverse = invert_onto(transform, frame, moving, progress=True)
        write_inverse(folder, inverse, moving)
    if not {"jacobian", "ventilation"} & set(maps):
        return
    transform = continue_over(transform, frame, None)
    displacement = sample_transform(transform, frame, np.float32)
    determinant = local_volume_change(frame, displacement)
    # ``check_maps`` has refused grids without a derivative.
    assert determinant is not None
    if "jacobian" in maps:
        write_jacobian(folder, determinant, frame)
    if "ventilation" in maps:
        found = ventilation(scans[0], scans[1], transform, determinant)
        write_ventilation(folder, found, scans[0])


def _read_transform(path, dimensions: dict[str, int]) -> sitk.Transform:
    """Return the transform or the identity, of the dimension of all files."""
    (first, d), *others = dimensions.items()
    for name, other in others:
        if other != d:
            raise InputError(
                f"{first} is {d}D and {name} is {other}D; give all of one dimension"
            )
    if not path:
        return sitk.Transform(d, sitk.sitkIdentity)
    transform = read_transform(path)
    check_dimension(transform, first, d)
    return transform
