"""One registration from files to files, as ``experiments.register`` does it."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from regnet_jax.evaluation import registration_errors
from regnet_jax.files import staged_folder, write_atomically
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
from regnet_jax.registration.report import build_report, make_canonical_arrays
from regnet_jax.registration.result import Registration
from regnet_jax.reporting.schema import RegistrationReport
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
) -> tuple[RegistrationReport, dict]:
    """Registers a pair and writes the results, whole or not at all.

    Args:
        pair: where its images are; points and labels are measured and reported.
        out: folder for the results.
        load: ``load_network``, keeping what it loaded.
        options: how to register.
        progress: show bars.

    Returns:
        The report, and the seconds of every phase, those of reading and writing among
        them.

    Raises:
        InputError: whatever is wrong with the files.
    """
    with _logged_warnings() as logged:
        report, seconds = _register(pair, out, load, options, logged, progress)
    for warning in report.warnings:
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


def _register(
    pair, out, load, options, logged, progress
) -> tuple[RegistrationReport, dict]:
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
            report = write_results(
                folder,
                registration,
                known.fixed,
                known.moving,
                model=model,
                notices=[*notices, *logged],
                landmarks=known.points,
                labels=known.labels,
                request=request(pair, options),
                formats=options.formats,
            )
    return report, seconds


def write_results(
    folder: Path,
    registration: Registration,
    fixed: Image,
    moving: Image,
    *,
    model: str,
    notices: Sequence[str] = (),
    landmarks=None,
    labels=None,
    request: Mapping | None = None,
    formats: Collection[str] = (),
) -> RegistrationReport:
    """Writes the five files of a registration, and those of further formats.

    Args:
        folder: where to; it exists.
        registration: of the pair.
        fixed: image.
        moving: image.
        model: what to call the network.
        notices: what else to warn of.
        landmarks: fixed and moving points ``[n, d]``, mm, that correspond; or None.
        labels: fixed and moving label map, or None.
        request: the files and settings that were asked for.
        formats: ``ants`` and ``elastix``, for files that those tools look for.

    Returns:
        The content of ``report.json``.
    """
    arrays = make_canonical_arrays(registration, fixed, moving)
    with ThreadPoolExecutor(1) as pool:
        # Compression takes as long as drawing, and ITK needs no interpreter for it.
        volumes = pool.submit(_write_volumes, folder, registration, formats)
        report = build_report(
            registration,
            fixed,
            moving,
            arrays,
            model=model,
            notices=notices,
            landmarks=landmarks,
            labels=labels,
            request=request,
        )
        _write_page(folder, report, registration, arrays, fixed, moving, landmarks)
        volumes.result()
    text = report.to_json()
    write_atomically(
        folder / "report.json", lambda name: Path(name).write_text(text, "utf-8")
    )
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


def _write_page(folder, report, registration, arrays, fixed, moving, landmarks):
    """The report as a page; Matplotlib is loaded here and not before."""
    from regnet_jax.reporting.registration_page import write_registration_page

    errors = None
    if landmarks is not None:
        moments = (landmarks[0], map_points(registration.transform, landmarks[0]))
        errors = tuple(registration_errors(points, landmarks[1]) for points in moments)
    write_registration_page(
        folder / "report.html",
        report,
        **arrays._asdict(),
        names={"fixed": fixed.name, "moving": moving.name},
        landmark_errors=errors,
    )
