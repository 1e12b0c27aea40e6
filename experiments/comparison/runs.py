"""Starting a worker, and waiting for what it finds."""

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

from experiments.comparison import runs, tables
from experiments.comparison.tables import flatten, measure, read_truth
from experiments.comparison.worker import ANSWER, FIELD
from regnet_jax.errors import InputError
from regnet_jax.io import KnownPair, Pair, read_displacement, read_pair
from regnet_jax.reporting import differences_figure
from regnet_jax.spatial import canonicalise, composite, warp_image


class Options(NamedTuple):
    """What holds for all pairs.

    Attributes:
        setting: ``lung`` or ``default``.
        model: of this project's methods.
        refine: steps of refinement.
        patience: seconds after which a method is given up.
        cache: folder of compiled programs.
    """

    setting: str
    model: str | None
    refine: int
    patience: float
    cache: str


def run_method(name: str, pair: Pair, folder: Path, options: Options) -> dict:
    """Runs a method on a pair in a process of its own.

    Args:
        name: one of ``methods.METHODS``.
        pair: paths.
        folder: for the files of the run; it exists.
        options: for all pairs.

    Returns:
        ``seconds`` of the whole process, ``registration_seconds`` from images in
        memory to a field in memory, ``cpu_seconds`` of all threads, ``peak_gib``.

    Raises:
        InputError: if the method fails or takes too long; the last line of what it
            said is in it, all of it in ``log.txt``.
    """
    request = {
        "method": name,
        **{key: str(value) for key, value in asdict(pair).items() if value},
        "masks": [m and str(m) for m in (pair.fixed_mask, pair.moving_mask)],
        "folder": str(folder),
        **options._asdict(),
    }
    (folder / "request.json").write_text(json.dumps(request))
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
        said = [line for line in log.read().splitlines() if line.strip()]
    if done.returncode:
        reason = said[-1].removeprefix("error: ") if said else "it said nothing"
        raise InputError(f"ended with status {done.returncode}: {reason}")
    return {"seconds": seconds, **json.loads((folder / ANSWER).read_text())}


def read_field(folder: Path) -> np.ndarray:
    """What a worker found: ``[*fixed, d]``, mm."""
    return read_displacement(folder / FIELD)[0]


class Compared(NamedTuple):
    """What came of a pair.

    Attributes:
        rows: ``pair``, ``method``, ``values`` by column; of a method ``measures`` too.
        failures: ``pair``, ``method`` and ``reason`` of each.
        figure: fixed minus warped image of each method.
    """

    rows: list[dict]
    failures: list[dict]
    figure: Figure


def compare_on(pair: Pair, names: Sequence[str], options: runs.Options) -> Compared:
    """Runs methods on a pair, one after another, and measures all alike.

    Args:
        pair: its paths.
        names: of the methods.
        options: for all pairs.

    Returns:
        The measures, the first row before any registration.

    Raises:
        InputError: if the pair cannot be used by any method.
    """
    known = read_pair(pair)
    frame = known.fixed.frame
    truth = read_truth(pair, frame.shape)
    zero = np.zeros((*frame.shape, frame.ndim))
    values = flatten(measure(known, truth, zero), None)
    rows = [{"pair": pair.name, "method": tables.BEFORE, "values": values}]
    failures, images = [], {tables.BEFORE: _warped(known, zero)}
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


def _run(name: str, pair: Pair, options: runs.Options) -> tuple[dict, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        ran = runs.run_method(name, pair, Path(folder), options)
        return ran, runs.read_field(Path(folder))


def _warped(known: KnownPair, field: np.ndarray) -> np.ndarray:
    frame = known.fixed.frame
    transform = composite(frame, field, np.eye(frame.ndim + 1))
    return canonicalise(warp_image(known.moving, frame, transform).array, frame)[0]
