"""Run the methods on a pair, each in its own process, and measure them all alike."""

import functools
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

from experiments.comparison.lungs import lungs_with_vessels
from experiments.comparison.methods import Variant
from experiments.comparison.network import network_of
from experiments.comparison.worker import COSTS, FIELD
from regnet_jax.errors import InputError
from regnet_jax.evaluation import (
    Measures,
    endpoint_error,
    evaluate,
    find_body,
    registration_errors,
)
from regnet_jax.hounsfield import looks_like_ct
from regnet_jax.io import (
    LoadedPair,
    PairPaths,
    read_displacement,
    read_frame,
    read_pair,
)
from regnet_jax.reporting import differences_figure
from regnet_jax.spatial import (
    canonicalise,
    check_pair,
    composite,
    find_padding,
    map_points,
    warp_image,
    where_shown,
)


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
    model: str
    refine: int
    patience: float
    cache: str


def run_method(
    variant: Variant,
    pair: PairPaths,
    folder: Path,
    options: Options,
    *,
    initial=None,
    spacing: float | None = None,
) -> dict:
    """Run a method on a pair in a process of its own.

    Args:
        variant: of the method.
        pair: its paths.
        folder: for the files of the run; it must exist.
        options: for all pairs.
        initial: ``alignment`` of an earlier run, for methods that start from it; None
            computes it.
        spacing: of the network's voxels, mm, for the resolution ``network``.

    Returns:
        ``seconds`` of the whole process, ``registration_seconds`` from images in
        memory to a field in memory, ``cpu_seconds`` of all threads, ``peak_gib``,
        ``notes``, and ``alignment`` where it was computed. The three times include
        that of the alignment, also where an earlier run computed it.

    Raises:
        InputError: if the method fails or takes too long. The message ends with the
            last line of its output; the full output is in ``log.txt``.
    """
    shared = initial if variant.alignment == "shared" else None
    request = {
        **variant._asdict(),
        **{key: str(value) for key, value in asdict(pair).items() if value},
        "initial": shared and shared["matrix"],
        "spacing": spacing,
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
    ran = {"seconds": seconds, **json.loads((folder / COSTS).read_text("utf-8"))}
    if shared:
        ran["seconds"] += shared["seconds"]
        ran["registration_seconds"] += shared["seconds"]
        ran["cpu_seconds"] += shared["cpu_seconds"]
    return ran


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


def find_regions(known: LoadedPair, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Find where a displacement is compared with the truth.

    It depends on the images and the truth alone, so it is the same for all methods.

    Args:
        known: the pair.
        truth: ``[*fixed, d]``, mm, x first.

    Returns:
        Masks ``[*fixed]`` by name: ``endpoint``, the voxels of the fixed image whose
        points the moving image shows, in CT those of the body; and in chest CT
        ``endpoint_lung``, those of the lungs and their vessels among them.
    """
    fixed, moving = known.fixed, known.moving
    transform = composite(fixed.frame, truth, np.eye(fixed.frame.ndim + 1))
    both = where_shown(moving, find_padding(moving.array), fixed.frame, transform)
    if (padding := find_padding(fixed.array)) is not None:
        both &= ~padding
    if looks_like_ct(fixed.array):
        both &= find_body(fixed)
    regions = {"endpoint": both}
    if (lungs := lungs_with_vessels(fixed)) is not None:
        regions["endpoint_lung"] = both & (lungs.array > 0)
    return regions


class Measured(NamedTuple):
    """The measures of a displacement.

    Attributes:
        measures: those of ``regnet_jax.evaluation``.
        errors: mm, ``[n]`` each, by name: ``tre`` of the landmarks, and those of the
            regions of ``find_regions``.
    """

    measures: Measures
    errors: dict[str, np.ndarray]


def measure(known: LoadedPair, truth, regions, field) -> Measured:
    """Measure a displacement by the landmarks, labels and truth known of a pair.

    Args:
        known: the pair.
        truth: ``[*fixed, d]``, mm, x first, or None.
        regions: from ``find_regions``; empty without a truth.
        field: ``[*fixed, d]``, mm, x first.

    Returns:
        The measures, and the errors that they summarise.
    """
    frame = known.fixed.frame
    transform = composite(frame, field, np.eye(frame.ndim + 1))
    measures = evaluate(
        transform,
        frame,
        landmarks=known.points,
        labels=known.labels,
        images=(known.fixed, known.moving),
        truth=truth,
        truth_mask=regions.get("endpoint"),
    )
    errors = {}
    if known.points is not None:
        fixed, moving = known.points
        errors["tre"] = registration_errors(map_points(transform, fixed), moving)
    for name, mask in regions.items():
        errors[name] = endpoint_error(field, truth)[mask]
    return Measured(measures, errors)


# An error below it, mm, is a success.
GOOD = 2.0


def flatten(measured: Measured, ran: dict | None) -> dict[str, float]:
    """Return the numbers of one method on one pair, by column name.

    Args:
        measured: from ``measure``.
        ran: from ``run_method``; None before any registration.

    Returns:
        Numbers. Of errors ``NAME`` is the mean, and ``NAME_median``, ``NAME_p95`` and
        ``NAME_good``, the share below 2 mm in percent, are those of the landmarks or
        voxels of this pair. Dice and HD95 are means over labels, and ``dice N`` of
        label N.
    """
    measures = measured.measures
    values = measures.similarity.to_dict()
    if measures.jacobian:
        values["folding"] = 100 * measures.jacobian.folding_fraction
    for name, errors in measured.errors.items():
        if errors.size:
            values[name] = float(errors.mean())
            values[f"{name}_median"] = float(np.median(errors))
            values[f"{name}_p95"] = float(np.percentile(errors, 95))
            values[f"{name}_good"] = 100 * float(np.mean(errors < GOOD))
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
        rows: ``pair``, ``patient``, ``method``, ``values`` by column; for methods also
            ``measures`` and ``notes``.
        failures: ``pair``, ``method`` and ``reason`` of each failure.
        figure: fixed minus warped image of each method.
    """

    rows: list[dict]
    failures: list[dict]
    figure: Figure


def compare_on(
    pair: PairPaths, variants: Sequence[Variant], options: Options
) -> Compared:
    """Run methods on a pair, one after another, and measure all alike.

    Args:
        pair: its paths.
        variants: of the methods, see ``methods.variants``.
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
    regions = {} if truth is None else find_regions(known, truth)
    zero = np.zeros((*frame.shape, frame.ndim))
    base = {"pair": pair.name, "patient": pair.patient or pair.name}
    values = flatten(measure(known, truth, regions, zero), None)
    rows = [base | {"method": BEFORE, "values": values}]
    failures, images = [], {BEFORE: _warped(known, zero)}
    # In a process of its own, as itk-elastix is not to share one with JAX at work.
    aligned = _run(Variant("affine"), pair, options)
    for variant in variants:
        try:
            if variant == Variant("affine"):
                ran, field = aligned
            else:
                ran, field = _run(variant, pair, options, aligned[0]["alignment"])
        except InputError as error:
            failure = {"pair": pair.name, "method": variant.label}
            failures.append(failure | {"reason": str(error)})
            continue
        measured = measure(known, truth, regions, field)
        row = base | {"method": variant.label, "values": flatten(measured, ran)}
        row |= {"measures": measured.measures.to_dict(), "notes": ran["notes"]}
        rows.append(row)
        tqdm.write(f"{pair.name}, {variant.label}: {ran['seconds']:.1f} s")
        images[variant.label] = _warped(known, field)
    fixed, canonical = canonicalise(known.fixed.array, frame)
    figure = differences_figure(fixed, images, spacing=canonical.spacing[::-1])
    return Compared(rows, failures, figure)


@functools.cache
def _network_spacing(model: str, d: int) -> float:
    """Return the size of the voxels that a network is used at, mm."""
    config = network_of(model, d).config
    return config.voxel_size / config.fineness


def _run(
    variant: Variant, pair: PairPaths, options: Options, initial=None
) -> tuple[dict, np.ndarray]:
    spacing = None
    if variant.resolution == "network":
        spacing = _network_spacing(options.model, read_frame(pair.fixed).ndim)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ran = run_method(
            variant, pair, folder, options, initial=initial, spacing=spacing
        )
        return ran, read_field(folder)


def _warped(known: LoadedPair, field: np.ndarray) -> np.ndarray:
    frame = known.fixed.frame
    transform = composite(frame, field, np.eye(frame.ndim + 1))
    return canonicalise(warp_image(known.moving, frame, transform).array, frame)[0]
