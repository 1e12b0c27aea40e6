"""Real pairs with landmarks or labels, on which a run is evaluated as it goes."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.evaluation import correlation, label_overlap, registration_errors
from regnet_jax.io import (
    Image,
    check_pair,
    map_points,
    read_image,
    read_labels,
    read_pairs,
    read_points,
    resample,
)
from regnet_jax.registration import register
from regnet_jax.registration.affine import align
from regnet_jax.registration.network import make_network
from regnet_jax.training.config import ExperimentConfig


@dataclass(frozen=True, eq=False)
class _Case:
    """A pair in memory, aligned linearly once for all evaluations."""

    fixed: Image
    moving: Image
    affine: np.ndarray
    points: tuple
    labels: tuple


def make_measure(config: ExperimentConfig, path: str) -> Callable[[Any], Mapping]:
    """Reads and aligns the pairs that a file lists.

    Args:
        config: of the run.
        path: of the file, see ``io.read_pairs``.

    Returns:
        ``measure(variables) -> {pair: {measure: number}}`` of the registration by
        the network: mean ``tre`` in mm and mean ``dice`` over the labels, as far as
        points and labels are given, and ``correlation`` of the images.

    Raises:
        InputError: if a pair cannot be used.
    """
    cases = {
        pair.name: _read(pair, len(config.data.shape)) for pair in read_pairs(path)
    }
    # One network, with other variables each time: what it compiles is kept.
    network = make_network(config, None)

    def measure(variables):
        trained = dataclasses.replace(network, variables=variables)
        return {name: _measure(trained, case) for name, case in cases.items()}

    return measure


def _read(pair, dimensions: int) -> _Case:
    fixed, moving = read_image(pair.fixed), read_image(pair.moving)
    check_pair(fixed, moving)
    if fixed.frame.ndim != dimensions:
        raise InputError(
            f"{fixed.name}: is {fixed.frame.ndim}D and the experiment {dimensions}D;"
            " list other pairs"
        )
    points = labels = ()
    if pair.fixed_points:
        points = (
            read_points(pair.fixed_points, fixed.frame),
            read_points(pair.moving_points, moving.frame),
        )
        if points[0].shape != points[1].shape:
            raise InputError(
                f"{pair.moving_points}: holds {len(points[1])} points and"
                f" {pair.fixed_points} {len(points[0])}; give points that correspond"
            )
    if pair.fixed_labels:
        labels = read_labels(pair.fixed_labels), read_labels(pair.moving_labels)
    affine = align(fixed, moving, kind="affine")
    return _Case(fixed, moving, affine, points, labels)


def _measure(network, case: _Case) -> dict:
    result = register(case.fixed, case.moving, network, initial=case.affine)
    measures = {}
    if case.points:
        warped = map_points(result.transform, case.points[0])
        measures["tre"] = float(registration_errors(warped, case.points[1]).mean())
    if case.labels:
        fixed, moving = case.labels
        warped = resample(
            moving, fixed.frame, result.transform, interpolation="nearest"
        )
        overlap = label_overlap(fixed.array, warped.array, fixed.frame.spacing[::-1])
        measures["dice"] = float(np.mean([v["dice"] for v in overlap.values()]))
    measures["correlation"] = correlation(case.fixed.array, result.warped.array)
    return {key: value for key, value in measures.items() if np.isfinite(value)}
