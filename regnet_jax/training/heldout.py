"""Evaluation on artificial pairs that training never draws."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.synthesis.fields.families import pick_family
from regnet_jax.synthesis.generator import draw_windows
from regnet_jax.training.config import ExperimentConfig
from regnet_jax.training.logs import panel
from regnet_jax.training.losses import endpoint_error
from regnet_jax.training.step import draw_batch, predict

# Folded into the seed's key: the stream of held-out pairs never meets training's.
_STREAM = 0x4E1D


def make_evaluation(model, config: ExperimentConfig) -> Callable:
    """Builds the evaluation of a model on held-out pairs, family by family.

    Positions are drawn as in training, so every class of displacement counts alike
    and the errors answer for the range the network was trained for. Volumes are
    procedural, also where training sees scans.

    Args:
        model: Flax module called with (fixed, moving).
        config: the experiment; its ``evaluation_pairs`` are drawn of each family and
            scale.

    Returns:
        ``evaluate(variables, show=None) -> {name: statistics}``, named after the
        family and, where there are several scales, the voxel size; the statistics
        are ``n`` pairs, mean and standard deviation over pairs of the endpoint error
        and of the zero field's, mm, and the ``ratio`` of the means. ``show(name,
        picture)`` is called with a panel of the first pair of each.
    """
    stream = jax.random.fold_in(jax.random.key(config.seed), _STREAM)
    errors = [_make_errors(model, stage, stream) for stage in config.data.stages]

    def evaluate(variables, show: Callable | None = None):
        results = {}
        for stage, error in zip(config.data.stages, errors, strict=True):
            for number, family in enumerate(stage.families):
                scaled = f" {stage.spacing:g} mm" if len(errors) > 1 else ""
                name = family + scaled
                pairs = [
                    error(variables, jnp.int32(number), jnp.int32(index))
                    for index in range(config.evaluation_pairs)
                ]
                results[name] = _statistics([found for found, _ in pairs])
                if show:
                    show(name, panel(*pairs[0][1], stage))
        return results

    return evaluate


def _make_errors(model, data: GeneratorConfig, stream):
    """``errors(variables, family, index)``: of the network and of the zero field, and
    the first window with what the network says of it.
    """
    families = list(data.amplified.values())

    @jax.jit
    def errors(variables, number, index):
        # A traced number, so that one compiled function serves all families.
        family = pick_family(families, number)
        batch = draw_batch(
            lambda key: draw_windows(key, family, data), stream, 0, index[None]
        )
        prediction = predict(model, variables, batch, train=False)
        fields = jnp.stack([prediction, jnp.zeros_like(prediction)])
        target = jnp.broadcast_to(batch.displacement[None], fields.shape)
        error = endpoint_error(fields, target) * batch.weight[None]
        weight = jnp.maximum(jnp.sum(batch.weight), 1.0)
        sums = data.spacing * jnp.sum(error, axis=range(1, error.ndim)) / weight
        return sums, jax.tree.map(lambda a: a[0], (batch, prediction))

    return errors


def overall(results: dict) -> float:
    """One number for all families, by which the best checkpoint is told.

    Args:
        results: from an evaluation.

    Returns:
        The sum of their errors, as a part of the zero field's: families where nothing
        moves count, too.
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
        "error_sd_mm": float(error.std(ddof=1)) if len(error) > 1 else 0.0,
        "zero_mm": float(zero.mean()),
        "zero_sd_mm": float(zero.std(ddof=1)) if len(zero) > 1 else 0.0,
        "ratio": float(error.mean() / zero.mean()) if zero.any() else math.inf,
    }
