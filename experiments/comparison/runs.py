"""Starting a worker, waiting for it, and measuring what it found."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments import measures
from experiments.comparison.worker import ANSWER, FIELD
from regnet_jax.errors import InputError
from regnet_jax.evaluation import body_mask, dice, endpoint_errors, endpoint_statistics
from regnet_jax.io import (
    Image,
    Pair,
    check_pair,
    composite,
    read_displacement,
    read_image,
    read_labels,
    read_points,
)
from regnet_jax.registration.summary import find_lungs


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
    model: str
    refine: int
    patience: float
    cache: str


class Known(NamedTuple):
    """A pair, read: what there is to measure with.

    Attributes:
        fixed: image.
        moving: image.
        points: both lists of landmarks, or nothing.
        labels: both label maps, or nothing.
        truth: ``[*fixed, d]``, mm, or None.
    """

    fixed: Image
    moving: Image
    points: list
    labels: list
    truth: np.ndarray | None


def read_known(pair: Pair) -> Known:
    """Reads the images of a pair and what is known of them.

    Raises InputError where a file cannot be read or does not fit.
    """
    fixed, moving = read_image(pair.fixed), read_image(pair.moving)
    check_pair(fixed, moving)
    points, labels, truth = [], [], None
    if pair.fixed_points:
        points = [
            read_points(pair.fixed_points, fixed.frame),
            read_points(pair.moving_points, moving.frame),
        ]
        if points[0].shape != points[1].shape:
            raise InputError(
                f"{pair.moving_points}: its points are not those of"
                f" {pair.fixed_points}; give points that correspond"
            )
    if pair.fixed_labels:
        labels = [read_labels(pair.fixed_labels), read_labels(pair.moving_labels)]
    if pair.displacement:
        truth, frame = read_displacement(pair.displacement)
        if frame.shape != fixed.frame.shape:
            raise InputError(
                f"{pair.displacement}: is not on the grid of {pair.fixed}; give the"
                " displacement of every fixed voxel"
            )
    return Known(fixed, moving, points, labels, truth)


def run_method(name: str, pair: Pair, folder: Path, options: Options) -> dict:
    """Runs a method on a pair in a process of its own.

    Args:
        name: one of ``methods.METHODS``.
        pair: paths.
        folder: for the files of the run; it exists.
        options: for all pairs.

    Returns:
        ``seconds`` of the whole process, ``registration_seconds`` from images in
        memory to a field in memory, ``cpu_seconds`` of all threads, ``peak_bytes``.

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
    with (folder / "log.txt").open("w+") as log:
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


def measure(known: Known, field) -> dict:
    """All that can be measured of a displacement.

    Args:
        known: the pair.
        field: ``[*fixed, d]``, mm, x first.

    Returns:
        ``similarity``, ``jacobian``, and where they are known ``tre``, ``overlap``
        and ``endpoint``, as ``experiments.evaluate`` names them.
    """
    frame = known.fixed.frame
    transform = composite(frame, field, np.eye(frame.ndim + 1))
    similarity = measures.measure_images(transform, known.fixed, known.moving)["after"]
    lungs = find_lungs(transform, known.fixed, known.moving)
    if lungs is not None:
        similarity["lung_overlap"] = dice(lungs.fixed, lungs.warped)
    result = {
        "similarity": similarity,
        "jacobian": measures.measure_jacobian(transform, frame),
    }
    if known.points:
        landmarks = measures.measure_landmarks(transform, *known.points, None)
        result["tre"] = landmarks["tre"]["after"]
    if known.labels:
        result["overlap"] = measures.measure_labels(transform, *known.labels)["after"]
    if known.truth is not None:
        array = known.fixed.array
        mask = body_mask(array) if array.min() < -500 else None
        errors = endpoint_errors(field, known.truth, mask)
        result["endpoint"] = endpoint_statistics(errors)
    return result
