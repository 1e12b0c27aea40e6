"""Real pairs with landmarks or labels, on which a training is evaluated."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from regnet_jax import register
from regnet_jax.errors import InputError
from regnet_jax.evaluation import correlation, evaluate
from regnet_jax.io import LoadedPair, PairPaths, read_pair, read_pairs
from regnet_jax.registration.alignment.linear import align
from regnet_jax.registration.batch import check_pairs
from regnet_jax.registration.inference.network import make_network
from regnet_jax.spatial import check_pair
from regnet_jax.training.config import ExperimentConfig
from regnet_jax.training.inference import inference_config


class _Case(NamedTuple):
    """A pair in memory with its linear alignment, which all evaluations share."""

    known: LoadedPair
    affine: np.ndarray


def make_measure(config: ExperimentConfig, path: str) -> Callable[[Any], Mapping]:
    """Read and align the pairs that a file lists.

    Args:
        config: of the run.
        path: of the file, see ``io.read_pairs``.

    Returns:
        ``measure(variables) -> {pair: {measure: number}}`` of the registration by
        the network: mean ``tre`` in mm, mean ``dice`` over the labels, if the pair has
        points or labels, and ``correlation`` of the images. All are NaN, with a
        warning, if the network's prediction cannot be used.

    Raises:
        InputError: if a pair cannot be used.
    """
    pairs = read_pairs(path)
    check_pairs(path, pairs, config.dimensions)
    cases = {pair.name: _read(pair) for pair in pairs}
    # One network with changing variables, so that it is compiled once.
    network = make_network(inference_config(config), None)

    def measure(variables):
        trained = dataclasses.replace(network, variables=variables)
        return {name: _measure(name, trained, case) for name, case in cases.items()}

    return measure


def _read(pair: PairPaths) -> _Case:
    known = read_pair(pair)
    check_pair(known.fixed, known.moving)
    masks = {name: known.masks.get(name) for name in ("fixed_mask", "moving_mask")}
    return _Case(known, align(known.fixed, known.moving, kind="affine", **masks))


def _measure(name: str, network, case: _Case) -> dict:
    known, measures = case.known, {}
    try:
        result = register(
            known.fixed,
            known.moving,
            network,
            initial=case.affine,
            voxel_size=network.spacing,
            **known.masks,
        )
    except InputError as error:
        # A network in training may predict anything; this must not end the training.
        logging.warning("real pair %s is not measured: %s", name, error)
        given = {"tre": known.points, "dice": known.labels, "correlation": True}
        return {key: np.nan for key, value in given.items() if value}
    found = evaluate(result.transform, landmarks=known.points, labels=known.labels)
    if found.tre:
        measures["tre"] = found.tre.mean
    if found.overlap is not None:
        measures["dice"] = found.dice
    shown = result.shown.fixed & result.shown.after
    images = known.fixed.array, result.warped.array
    measures["correlation"] = correlation(*images, shown)
    return measures
