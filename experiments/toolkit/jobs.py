"""One registration from files to files, as ``experiments.register`` does it."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from experiments.toolkit.measures import before_and_after, measure_labels
from experiments.toolkit.results import write_results
from regnet_jax.io import Pair, affine_matrix, read_pair, staged_folder
from regnet_jax.registration import Network, default_network, register
from regnet_jax.registration.affine import KINDS
from regnet_jax.registration.timing import timed

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
                extra["overlap"] = before_and_after(
                    measure_labels, registration.transform, *known.labels
                )
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
