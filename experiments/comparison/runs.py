"""Run the methods on a pair, each in its own process, and measure them all alike."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.comparison.worker import COSTS, FIELD
from regnet_jax.errors import InputError
from regnet_jax.evaluation import Measures, evaluate
from regnet_jax.hounsfield import body_mask, looks_like_ct
from regnet_jax.io import LoadedPair, PairPaths, read_displacement, read_pair
from regnet_jax.reporting import differences_figure
from regnet_jax.spatial import canonicalise, check_pair, composite, warp_image


class Options(NamedTuple):
    """The options of a comparison, the same for all pairs.

    Attributes:
        setting: ``lung`` or ``default``.
        model: of this project's methods.
        refine: steps of ``regnet+refine``.
        patience: time limit of a method, seconds.
        cache: folder of compiled programs.
    """

    setting: str
    model: str | None
    refine: int
    patience: float
    cache: str


def run_method(name: str, pair: PairPaths, folder: Path, options: Options) -> dict:
    """Run a method on a pair in a process of its own.

    Args:
        name: one of ``methods.METHODS``.
        pair: its paths.
        folder: for the files of the run; it must exist.
        options: for all pairs.

    Returns:
        ``seconds`` of the whole process, ``registration_seconds`` from images in
        memory to a field in memory, ``cpu_seconds`` of all threads, ``peak_gib``.

    Raises:
        InputError: if the method fails or takes too long. The message ends with the
            last line of its output; the full output is in ``log.txt``.
    """
    request = {
        "method": name,
        **{key: str(value) for key, value in asdict(pair).items() if value},
        "masks": [m and str(m) for m in (pair.fixed_mask, pair.moving_mask)],
        "folder": str(folder),
        **options._asdict(),
    }
    (folder / "request.json").write_text(json.dumps(request), "utf-8")
    command = [sys.executable, "-m", "experiments.comparison.worker"]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": options.cache}
    began = time.perf_counter()
    with (folder / "log.txt").open("w+", encoding="utf-8") as log:
        try:
            done = subprocess.run(
                [*command, str(folder / "request.json")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                timeout=options.patience,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise InputError(f"took more than {options.patience:g} s") from error
        seconds = time.perf_counter() - began
        log.seek(0)
        output = [line for line in log.read().splitlines() if line.strip()]
    if done.returncode:
        reason = output[-1].removeprefix("error: ") if output else "no output"
        raise InputError(f"ended with status {done.returncode}: {reason}")
    return {"seconds": seconds, **json.loads((folder / COSTS).read_text("utf-8"))}


def read_field(folder: Path) -> np.ndarray:
    """Read the displacement that a worker wrote: ``[*fixed, d]``, mm, x first."""
    return read_displacement(folder / FIELD)[0]


def read_truth(pair: PairPaths, shape: tuple[int, ...]) -> np.ndarray | None:
    """Read the true displacement of a pair.

    Args:
        pair: its paths.
        shape: of the fixed image.

    Returns:
        ``[*shape, d]``, mm, x first; None if it is not known.

    Raises:
        InputError: if it cannot be read or lies on another grid.
    """
    if not pair.displacement:
        return None
    truth, frame = read_displacement(pair.displacement)
    if frame.shape != shape:
        raise InputError(
            f"{pair.displacement}: is not on the grid of {pair.fixed}; give the"
            " displacement of every fixed voxel"
        )
    return truth


def measure(known: LoadedPair, truth, field) -> Measures:
    """Measure a displacement by the landmarks, labels and truth known of a pair.

    Args:
        known: the pair.
        truth: ``[*fixed, d]``, mm, x first, or None; in CT the error is over the body.
        field: ``[*fixed, d]``, mm, x first.

    Returns:
        The measures.
    """
    frame, array = known.fixed.frame, known.fixed.array
    mask = None
    if truth is not None and looks_like_ct(array):
        mask = body_mask(array)
    return evaluate(
        composite(frame, field, np.eye(frame.ndim + 1)),
        frame,
        landmarks=known.points,
        labels=known.labels,
        images=(known.fixed, known.moving),
        truth=truth,
        truth_mask=mask,
    )


def flatten(measures: Measures, ran: dict | None) -> dict[str, float]:
    """Return the numbers of one method on one pair, by column name.

    Args:
        measures: from ``measure``.
        ran: from ``run_method``; None before any registration.

    Returns:
        Numbers; Dice and HD95 are means over labels, and ``dice N`` of label N.
    """
    values = measures.similarity.to_dict()
    if measures.jacobian:
        values["folding"] = 100 * measures.jacobian.folding_fraction
    if measures.tre:
        values["tre"] = measures.tre.mean
    if measures.endpoint:
        values["endpoint"] = measures.endpoint.mean
        values["endpoint_p95"] = measures.endpoint.p95
    if measures.overlap:
        values |= {"dice": measures.dice, "hd95": measures.hd95}
        for label, overlap in measures.overlap.items():
            values[f"dice {label}"] = overlap.dice
            values[f"hd95 {label}"] = overlap.hd95
    if ran:
        for name in ("seconds", "registration_seconds", "cpu_seconds"):
            values[name] = ran[name]
        values["memory"] = ran["peak_gib"]
    return values


# The row of a pair before any registration.
BEFORE = "before"


class Compared(NamedTuple):
    """The results of all methods on a pair.

    Attributes:
        rows: ``pair``, ``method``, ``values`` by column; for methods also ``measures``.
        failures: ``pair``, ``method`` and ``reason`` of each failure.
        figure: fixed minus warped image of each method.
    """

    rows: list[dict]
    failures: list[dict]
    figure: Figure


def compare_on(pair: PairPaths, names: Sequence[str], options: Options) -> Compared:
    """Run methods on a pair, one after another, and measure all alike.

    Args:
        pair: its paths.
        names: the methods, see ``methods.METHODS``.
        options: for all pairs.

    Returns:
        The measures, the first row before any registration.

    Raises:
        InputError: if the pair cannot be used by any method.
    """
    known = read_pair(pair)
    check_pair(known.fixed, known.moving)
    frame = known.fixed.frame
    truth = read_truth(pair, frame.shape)
    zero = np.zeros((*frame.shape, frame.ndim))
    values = flatten(measure(known, truth, zero), None)
    rows = [{"pair": pair.name, "method": BEFORE, "values": values}]
    failures, images = [], {BEFORE: _warped(known, zero)}
    for name in names:
        try:
            ran, field = _run(name, pair, options)
        except InputError as error:
            failures.append({"pair": pair.name, "method": name, "reason": str(error)})
            continue
        measured = measure(known, truth, field)
        row = {"pair": pair.name, "method": name, "values": flatten(measured, ran)}
        rows.append(row | {"measures": measured.to_dict()})
        tqdm.write(f"{pair.name}, {name}: {ran['seconds']:.1f} s")
        images[name] = _warped(known, field)
    fixed, canonical = canonicalise(known.fixed.array, frame)
    figure = differences_figure(fixed, images, spacing=canonical.spacing[::-1])
    return Compared(rows, failures, figure)


def _run(name: str, pair: PairPaths, options: Options) -> tuple[dict, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        ran = run_method(name, pair, Path(folder), options)
        return ran, read_field(Path(folder))


def _warped(known: LoadedPair, field: np.ndarray) -> np.ndarray:
    frame = known.fixed.frame
    transform = composite(frame, field, np.eye(frame.ndim + 1))
    return canonicalise(warp_image(known.moving, frame, transform).array, frame)[0]
