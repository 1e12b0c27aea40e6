"""One registration from files to files, as ``experiments.register`` does it."""

import dataclasses
from pathlib import Path

from experiments.measures import measure_labels, read_landmarks
from experiments.results import write_results
from regnet_jax.errors import InputError
from regnet_jax.io import (
    Pair,
    affine_matrix,
    check_pair,
    read_image,
    read_labels,
    read_mask,
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
        formats: of further files, ``ants`` and ``elastix``.
    """

    model: str
    initial: str = "affine"
    intensity: str = "auto"
    inverse_consistent: bool = False
    refine: int = 0
    memory: float | None = None
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
        fixed, moving = read_image(pair.fixed), read_image(pair.moving)
        check_pair(fixed, moving)
        masks = {
            "fixed_mask": _mask(pair.fixed_mask, fixed),
            "moving_mask": _mask(pair.moving_mask, moving),
        }
        initial = read_initial(options.initial, fixed.frame.ndim)
        landmarks = _landmarks(pair, fixed, moving)
        labels = _labels(pair)
    with staged_folder(out) as folder:
        registration = register(
            fixed,
            moving,
            network,
            initial=initial,
            **masks,
            intensity=options.intensity,
            inverse_consistent=options.inverse_consistent,
            refine=options.refine,
            memory=options.memory,
            progress=progress,
        )
        seconds |= registration.seconds
        with timed(seconds, "measuring and writing"):
            extra = {"request": request(pair, options)}
            if labels:
                extra["overlap"] = measure_labels(registration.transform, *labels)
            report = write_results(
                folder,
                registration,
                fixed,
                moving,
                model=options.model,
                landmarks=landmarks,
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


def _mask(path, image):
    return None if path is None else read_mask(path, image.frame)


def _landmarks(pair: Pair, fixed, moving):
    paths = (pair.fixed_points, pair.moving_points)
    return read_landmarks(paths, (fixed.frame, moving.frame)) if all(paths) else None


def _labels(pair: Pair):
    paths = (pair.fixed_labels, pair.moving_labels)
    return [read_labels(path) for path in paths] if all(paths) else None
