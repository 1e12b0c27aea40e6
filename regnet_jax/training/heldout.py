"""Evaluation on artificial pairs that training never samples."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from regnet_jax.evaluation import endpoint_error, sample_deviation
from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.synthesis.fields.families import pick_family
from regnet_jax.synthesis.generator import sample_patches
from regnet_jax.training.config import ExperimentConfig
from regnet_jax.training.logs import draw_panel
from regnet_jax.training.step import predict, sample_batch

# Folded into the seed's key, so that held-out pairs differ from all training pairs.
_STREAM = 0x4E1D


def make_evaluation(
    model, config: ExperimentConfig, *, sample: Callable = sample_patches
) -> Callable:
    """Build the evaluation of a model on held-out pairs, family by family.

    Positions are sampled as in training, so that every class of displacement has equal
    weight and the errors cover the range that the network was trained for. Volumes are
    procedural, even if training uses scans.

    Args:
        model: Flax module called with (fixed, moving).
        config: the experiment; ``evaluation.pairs`` pairs are sampled for each family
            and scale.
        sample: as in ``synthesis.generator.make_generator``.

    Returns:
        ``evaluate(variables, show=None) -> {name: statistics}``, named after the
        family and, if there are several scales, the voxel size. The statistics are the
        number ``n`` of pairs, the mean and standard deviation over pairs of the
        endpoint errors of the network and of the zero field, mm, and the ``ratio`` of
        the means. ``show(name, picture)`` is called with a panel of each first pair.
    """
    stream, targets = heldout_stream(config.seed), config.targets
    errors = [
        _make_errors(model, stage, targets, stream, sample)
        for stage in config.data.stages
    ]

    def evaluate(variables, show: Callable | None = None):
        results = {}
        for stage, error in zip(config.data.stages, errors, strict=True):
            for number, family in enumerate(stage.families):
                scaled = f" {stage.spacing:g} mm" if len(errors) > 1 else ""
                name = family + scaled
                pairs = [
                    error(variables, jnp.int32(number), jnp.int32(index))
                    for index in range(config.evaluation.pairs)
                ]
                results[name] = _statistics([found for found, _ in pairs])
                if show:
                    show(name, draw_panel(*pairs[0][1], grid=targets))
        return results

    return evaluate


def heldout_stream(seed: int):
    """Return the random key of the held-out pairs of a run.

    Args:
        seed: of the run.

    Returns:
        A key.
    """
    return jax.random.fold_in(jax.random.key(seed), _STREAM)


def _make_errors(model, data: GeneratorConfig, targets, stream, sample: Callable):
    """Build ``errors(variables, family, index)``.

    It returns the errors of the network and of the zero field, and the first patch with
    the network's prediction.
    """
    families = list(data.amplified.values())

    @jax.jit
    def errors(variables, number, index):
        # A traced number, so that one compiled function serves all families.
        family = pick_family(families, number)
        batch = sample_batch(
            lambda key: sample(key, family, data, targets), stream, 0, index[None]
        )
        prediction = predict(model, variables, batch, train=False)
        fields = jnp.stack([prediction, jnp.zeros_like(prediction)])
        target = jnp.broadcast_to(batch.displacement[None], fields.shape)
        error = endpoint_error(fields, target)[..., None] * batch.weight[None]
        weight = jnp.maximum(jnp.sum(batch.weight), 1.0)
        sums = data.spacing * jnp.sum(error, axis=range(1, error.ndim)) / weight
        return sums, jax.tree.map(lambda a: a[0], (batch, prediction))

    return errors


def overall_ratio(results: dict) -> float:
    """Return the error over all families, by which the best checkpoint is chosen.

    Args:
        results: from an evaluation.

    Returns:
        The sum of the families' errors as a fraction of the zero field's sum, which
        includes families in which nothing moves.
    """
    error, zero = (
        sum(result[name] for result in results.values())
        for name in ("error_mm", "zero_mm")
    )
    return error / zero if zero else math.inf


def _statistics(errors) -> dict:
    error, zero = np.asarray(errors, np.float64).T
    return {
        "n": len(error),
        "error_mm": float(error.mean()),
        "error_sd_mm": sample_deviation(error),
        "zero_mm": float(zero.mean()),
        "zero_sd_mm": sample_deviation(zero),
        "ratio": float(error.mean() / zero.mean()) if zero.any() else math.inf,
    }
