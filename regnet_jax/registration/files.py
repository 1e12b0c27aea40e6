"""One registration from files to files, as ``experiments.register`` does it."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from regnet_jax.cli.output import write_measures
from regnet_jax.evaluation import (
    evaluate_before_and_after,
    registration_errors,
    segment_lungs,
)
from regnet_jax.files import staged_folder
from regnet_jax.io import (
    Pair,
    affine_matrix,
    read_pair,
    write_displacement,
    write_for_ants,
    write_for_elastix,
    write_transform,
)
from regnet_jax.io.images import write_image
from regnet_jax.registration.alignment.linear import KINDS
from regnet_jax.registration.inference.network import Network, default_network
from regnet_jax.registration.register import register, timed
from regnet_jax.registration.result import Registration
from regnet_jax.registration.summary import make_views, summarise
from regnet_jax.reporting import registration_report
from regnet_jax.spatial import Image, map_points

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Options:
    """How to register, the same for all pairs of a batch.

    Attributes:
        model: what ``load_network`` takes; None for the network that ships for images
            of a pair's dimension.
        initial: kind of linear alignment, or the file of a linear transform.
        intensity: a preset.
        inverse_consistent: go both ways.
        refine: steps of descent.
        memory: cap while predicting, GiB.
        voxel_size: of the grid that is worked on, mm.
        formats: of further files, ``ants`` and ``elastix``.
    """

    model: str | None = None
    initial: str = "affine"
    intensity: str = "auto"
    inverse_consistent: bool = False
    refine: int = 0
    memory: float | None = None
    voxel_size: float | None = None
    formats: tuple[str, ...] = ()


def request(pair: Pair, options: Options) -> dict:
    """What was asked for, as ``report.json`` keeps it; paths are absolute."""
    given = dataclasses.asdict(pair)
    del given["name"]
    paths = {key: str(Path(path).absolute()) for key, path in given.items() if path}
    settings = dataclasses.asdict(options)
    return paths | settings | {"formats": list(options.formats)}


def register_files(
    pair: Pair,
    out,
    load: Callable[[str], Network],
    options: Options,
    *,
    progress: bool = False,
) -> tuple[dict, dict]:
    """Registers a pair and writes the results, whole or not at all.

    Args:
        pair: where its images are; points and labels are measured and reported.
        out: folder for the results.
        load: ``load_network``, keeping what it loaded.
        options: how to register.
        progress: show bars.

    Returns:
        The content of ``report.json``, and the seconds of every phase, those of
        reading and writing among them.

    Raises:
        InputError: whatever is wrong with the files.
    """
    with _logged_warnings() as logged:
        report, seconds = _register(pair, out, load, options, logged, progress)
    for warning in report["warnings"]:
        if warning not in logged:
            _LOG.warning("%s: %s", pair.fixed, warning)
    return report, seconds


class _Lines(logging.Handler):
    """Keeps the messages of warnings."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record):
        self.lines.append(record.getMessage())


@contextlib.contextmanager
def _logged_warnings() -> Iterator[list[str]]:
    """What the library warns of meanwhile: it belongs into the report, too."""
    logger, handler = logging.getLogger("regnet_jax"), _Lines()
    logger.addHandler(handler)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)


def _register(pair, out, load, options, logged, progress) -> tuple[dict, dict]:
    seconds: dict = {}
    model, notices = options.model, []
    if model is not None:
        with timed(seconds, "network"):
            load(model)  # A bad name is refused before the images are read.
    with timed(seconds, "reading"):
        known = read_pair(pair)
        d = known.fixed.frame.ndim
        initial = options.initial
        if initial not in KINDS:
            initial = affine_matrix(initial, d)
    if model is None:
        model, notices = default_network(d)
    with timed(seconds, "network"):
        network = load(model)
    with staged_folder(out) as folder:
        registration = register(
            known.fixed,
            known.moving,
            network,
            initial=initial,
            fixed_mask=known.fixed_mask,
            moving_mask=known.moving_mask,
            intensity=options.intensity,
            inverse_consistent=options.inverse_consistent,
            refine=options.refine,
            memory=options.memory,
            voxel_size=options.voxel_size,
            progress=progress,
        )
        seconds |= registration.seconds
        with timed(seconds, "measuring and writing"):
            extra = {"request": request(pair, options)}
            if known.labels:
                extra |= evaluate_before_and_after(
                    registration.transform, labels=known.labels
                ).to_dict()
            report = write_results(
                folder,
                registration,
                known.fixed,
                known.moving,
                model=model,
                notices=[*notices, *logged],
                landmarks=known.points,
                formats=options.formats,
                extra=extra,
            )
    return report, seconds


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
    lungs = segment_lungs(registration.transform, fixed, moving)
    report = summarise(registration, views, lungs, model=model)
    report["warnings"] = [*notices, *report["warnings"]]
    errors = None
    if landmarks is not None:
        transform = registration.transform
        report |= evaluate_before_and_after(
            transform, landmarks=landmarks, moving_frame=moving.frame
        ).to_dict()
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
