"""All methods on one pair."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.comparison import runs, tables
from experiments.comparison.measured import flatten, measure, read_truth
from regnet_jax.errors import InputError
from regnet_jax.io import (
    KnownPair,
    Pair,
    canonicalise,
    composite,
    read_pair,
    warp_image,
)
from regnet_jax.reporting import differences_figure


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
        rows.append(row | {"measures": measured})
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
