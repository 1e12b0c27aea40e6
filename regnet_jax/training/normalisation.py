"""Statistics of batch normalisation, estimated for the weights that are used.

During a training they follow the weights of each step with a delay, and the averaged
weights that a network predicts with have never normalised a batch. After a short
training both matter. Estimating them once more at the end is known from averaged
weights (P. Izmailov et al., "Averaging weights leads to wider optima and better
generalization", UAI 2018).
"""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from regnet_jax.models import make_model
from regnet_jax.models.layers.blocks import MOMENTUM
from regnet_jax.synthesis.generator import make_generator, sample_patches
from regnet_jax.training.config import ExperimentConfig
from regnet_jax.training.data import ScanPrefetcher
from regnet_jax.training.step import predict, sample_batch

# Folded into the seed's key, so that these pairs differ from those of the training.
_STREAM = 0xBA7C
_BATCHES = 8


def reestimate_statistics(
    variables,
    config: ExperimentConfig,
    *,
    cache: Path | None = None,
    batches: int = _BATCHES,
    sample: Callable = sample_patches,
):
    """Estimate the statistics of batch normalisation for given weights.

    Args:
        variables: ``params`` and ``batch_stats`` of the config's network.
        config: of the training, from whose pairs they are estimated.
        cache: of its scans, as for ``train``.
        batches: number of batches of the config's size.
        sample: as in ``synthesis.generator.make_generator``.

    Returns:
        The variables with the mean and the variance over all voxels of these batches;
        unchanged if the network has no such statistics.

    Raises:
        InputError: if the scans of the training cannot be read.
    """
    if not jax.tree.leaves(variables.get("batch_stats", {})):
        return variables
    model = make_model(config.model, dimensions=config.dimensions)
    generate = make_generator(config.data, config.targets, sample=sample)
    scans = ()
    if config.data.scan_probability:
        with ScanPrefetcher(config, cache=cache) as banks:
            scans = banks.scans_at(0)
    stream = jax.random.fold_in(jax.random.key(config.seed), _STREAM)
    indices = jnp.arange(config.batch_size)
    empty = jax.tree.map(jnp.zeros_like, variables["batch_stats"])

    def statistics_of(params, batch):
        given = {"params": params, "batch_stats": empty}
        _, found = predict(model, given, batch, train=True, mutable=["batch_stats"])
        # The statistics were empty, so all that they hold now is of the batch.
        return jax.tree.map(lambda x: x / (1.0 - MOMENTUM), found["batch_stats"])

    @jax.jit
    def sample_statistics(params, number, scans):
        batch = sample_batch(
            lambda key, **group: generate(key, scans, **group),
            stream,
            number,
            indices,
            at_once=config.pairs_at_once,
        )
        # As in the training, which normalises each micro-batch by itself.
        split = jax.tree.map(
            lambda a: a.reshape(config.microbatches, -1, *a.shape[1:]), batch
        )
        return jax.lax.map(functools.partial(statistics_of, params), split)

    found = [
        sample_statistics(variables["params"], number, scans)
        for number in range(batches)
    ]
    found = jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)
    return {**variables, "batch_stats": _pool(found)}


def _pool(statistics):
    """Return mean and variance of all, given ``[batches, ...]`` of each layer."""
    if "mean" in statistics:
        mean, var = statistics["mean"], statistics["var"]
        return {"mean": mean.mean(axis=0), "var": var.mean(axis=0) + mean.var(axis=0)}
    return {name: _pool(inner) for name, inner in statistics.items()}
