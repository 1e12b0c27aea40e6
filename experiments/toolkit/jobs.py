"""One registration from files to files, as ``experiments.register`` does it."""

import dataclasses
from pathlib import Path

from experiments.toolkit.measures import before_and_after, measure_labels
from experiments.toolkit.results import write_results
from regnet_jax.errors import InputError
from regnet_jax.io import (
    Pair,
    affine_matrix,
    read_pair,
    read_transform,
    staged_folder,
)
from regnet_jax.registration import Network, register
from regnet_jax.registration.affine import KINDS
from regnet_jax.registration.timing import timed


@dataclasses.dataclass(frozen=True)
class Options:
    """How to register, the same for all pairs of a batch.

    Attributes:
        model: what ``load_network`` takes.
        initial: kind of linear alignment, or the file of a linear transform.
        intensity: a preset.
        inverse_consistent: go both ways.
        refine: steps of descent.
        memory: cap while predicting, GiB.
        voxel_size: of the grid that is worked on, mm.
        formats: of further files, ``ants`` and ``elastix``.
    """

    model: str
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
    pair: Pair, out, network: Network, options: Options, *, progress: bool = False
) -> tuple[dict, dict]:
    """Registers a pair and writes the results, whole or not at all.

    Args:
        pair: where its images are; points and labels are measured and reported.
        out: folder for the results.
        network: that ``options.model`` names.
        options: how to register.
        progress: show bars.

    Returns:
        The content of ``report.json``, and the seconds of every phase, those of
        reading and writing among them.

    Raises:
        InputError: whatever is wrong with the files.
    """
    seconds: dict = {}
    with timed(seconds, "reading"):
        known = read_pair(pair)
        initial = read_initial(options.initial, known.fixed.frame.ndim)
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
                model=options.model,
                landmarks=known.points,
                formats=options.formats,
                extra=extra,
            )
    return report, seconds


def read_initial(value: str, dimensions: int):
    """The kind of alignment, or the matrix in a file."""
    if value in KINDS:
        return value
    transform = read_transform(value)
    try:
        return affine_matrix(transform, dimensions)
    except InputError as error:
        raise InputError(f"{value}: {error}") from error
