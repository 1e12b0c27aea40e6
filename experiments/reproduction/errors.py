"""Errors of networks on held-out artificial pairs: by family, size and component."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.text import mean_and_sd
from regnet_jax.evaluation import sample_deviation
from regnet_jax.registration import Network
from regnet_jax.synthesis.fields.families import pick_family
from regnet_jax.synthesis.generator import sample_patches
from regnet_jax.training.config import ExperimentConfig
from regnet_jax.training.heldout import heldout_stream
from regnet_jax.training.step import predict, sample_batch

# Upper limits of the classes of displacement of RegNet 2017, mm.
_CLASSES = (1.5, 4.0, 8.0)


class Measured(NamedTuple):
    """Predictions at the targets of one artificial pair.

    Attributes:
        family: of its field.
        truth: ``[n, d]``, mm, array-axis order.
        predictions: ``[n, d]``, mm, of each network.
    """

    family: str
    truth: np.ndarray
    predictions: dict[str, np.ndarray]


def measure(
    networks: Mapping[str, Network], config: ExperimentConfig, scans, *, count: int
) -> list[Measured]:
    """Let networks predict the displacements of held-out pairs, in one pass.

    Args:
        networks: by name, all of the config's patches.
        config: of their training, whose families are sampled; its margin must be the
            largest.
        scans: ``ScanBank`` of the held-out scans; None for procedural chests.
        count: pairs of each family.

    Returns:
        The pairs. Targets where nothing is visible are left out.
    """
    (data,) = config.data.stages
    targets, stream = config.targets, heldout_stream(config.seed)
    families = list(data.amplified.values())

    @jax.jit
    def sample(number, index, scans):
        family = pick_family(families, number)
        return sample_batch(
            lambda key: sample_patches(key, family, data, targets, scans),
            stream,
            0,
            index[None],
        )

    @jax.jit
    def run(variables, batch):
        return {
            name: _at_targets(
                predict(network.model, variables[name], batch, train=False),
                config,
                network,
            )
            for name, network in networks.items()
        }

    variables = {name: network.variables for name, network in networks.items()}
    pairs = [(n, i) for n in range(len(families)) for i in range(count)]
    found = []
    for number, index in tqdm(pairs, "measuring", unit="pair"):
        batch = sample(jnp.int32(number), jnp.int32(index), scans)
        seen = np.asarray(batch.weight[..., 0]) > 0.5
        fields = {"truth": batch.displacement, **run(variables, batch)}
        vectors = {k: data.spacing * np.asarray(u)[seen] for k, u in fields.items()}
        found.append(Measured(data.families[number], vectors.pop("truth"), vectors))
    return found


def _at_targets(field, config: ExperimentConfig, network: Network):
    """Crop the predictions of a network of a smaller margin to the config's targets."""
    support = network.model.support
    skip = (config.targets.margin - support.margin) // support.stride
    inside = slice(skip, field.shape[1] - skip)
    return field[(slice(None), *(inside,) * config.dimensions)]


Table = tuple[str, Sequence, list[Sequence]]


def tables(found: Sequence[Measured]) -> list[Table]:
    """Return tables of the errors: by family, by size, by component.

    Args:
        found: from ``measure``.

    Returns:
        Title, header and rows of each. Errors are mm, mean and sample standard
        deviation over pairs; ratios are fractions of the displacement's mean length.
    """
    names = list(found[0].predictions)
    families = list(dict.fromkeys(pair.family for pair in found))
    rows = [
        _row(family, [pair for pair in found if pair.family == family], names)
        for family in families
    ]
    head = ["", "pairs", "displacement, mm"]
    for name in names:
        head += [f"{_spaced(name)}, mm", "ratio"]
    by_family = ("Errors by family", head, [*rows, _row("all", found, names)])
    return [by_family, _by_size(found, names), _by_component(found, names)]


def ratio(found: Sequence[Measured], name: str) -> float:
    """Return the error of a network as a fraction of the zero field's."""
    errors, lengths = _means(found, name), _means(found)
    return float(np.mean(errors) / np.mean(lengths))


def _means(found, name: str = "") -> list[float]:
    """Return the mean error of each pair that has targets; without a name of zero."""
    return [
        np.linalg.norm(
            pair.truth - (pair.predictions[name] if name else 0.0), axis=-1
        ).mean()
        for pair in found
        if len(pair.truth)
    ]


def _row(label: str, found, names) -> list:
    zero = _means(found)
    row = [label, len(zero), _spread(zero)]
    for name in names:
        row += [_spread(_means(found, name)), f"{ratio(found, name):.2f}"]
    return row


def _spread(values) -> str:
    return mean_and_sd(float(np.mean(values)), sample_deviation(values))


def _stacked(found, names) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    truth = np.concatenate([pair.truth for pair in found])
    errors = {
        name: np.concatenate([pair.predictions[name] for pair in found]) - truth
        for name in names
    }
    return truth, errors


def _by_size(found, names) -> Table:
    truth, errors = _stacked(found, names)
    length = np.linalg.norm(truth, axis=-1)
    limits, rows = (0.0, *_CLASSES, np.inf), []
    for low, high in itertools.pairwise(limits):
        inside = (length >= low) & (length < high)
        if not inside.any():
            continue
        label = f"{low:g} to {high:g} mm" if high < np.inf else f"{low:g} mm and more"
        means = [np.linalg.norm(errors[n][inside], axis=-1).mean() for n in names]
        cells = (f"{mean:.2f}" for mean in means)
        rows.append([label, int(inside.sum()), f"{length[inside].mean():.2f}", *cells])
    head = [
        "displacement",
        "targets",
        "mean, mm",
        *(f"{_spaced(n)}, mm" for n in names),
    ]
    return "Errors by size of the displacement", head, rows


def _by_component(found, names) -> Table:
    truth, errors = _stacked(found, names)
    axes = ("z", "y", "x") if truth.shape[1] == 3 else ("first", "second")
    rows = []
    for index, axis in enumerate(axes):
        size = np.abs(truth[:, index]).mean()
        ratios = [np.abs(errors[name][:, index]).mean() / size for name in names]
        rows.append([axis, f"{size:.2f}", *(f"{ratio:.2f}" for ratio in ratios)])
    head = ["component", "mean size, mm", *(f"{_spaced(n)}, ratio" for n in names)]
    return "Errors by component", head, rows


def _spaced(name: str) -> str:
    return name.replace("_", " ")
