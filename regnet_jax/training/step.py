"""The pure training step: generate, predict, compare, update."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from regnet_jax.models.preprocessing import scale_hounsfield
from regnet_jax.synthesis.generator import Pairs
from regnet_jax.training.losses import endpoint_error, huber
from regnet_jax.training.residuals import leave_residuals
from regnet_jax.training.state import TrainState

# Weight in the loss of what a network says before its last word.
_HEAD = 0.3
# Folded into the stream before the step: no sample's key is made so.
_COIN = 0xC014


def draw_batch(generate: Callable, stream, step, indices) -> Pairs:
    """The windows of some samples of a step.

    Args:
        generate: ``generate(key) -> Pairs`` of one sample.
        stream: random key of the run.
        step: number of the step.
        indices: ``[n]``, global numbers of the samples in the step.

    Returns:
        ``Pairs`` with one batch axis over samples and windows. It depends on the
        arguments alone, not on how samples are spread over devices.
    """
    step_key = jax.random.fold_in(stream, step)
    keys = jax.vmap(lambda index: jax.random.fold_in(step_key, index))(indices)
    # One after the other: a single volume fills any device, and memory stays low.
    pairs = jax.lax.map(generate, keys)
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), pairs)


def predict(model, variables, batch: Pairs, **options):
    """Applies a model to windows in Hounsfield units.

    Args:
        model: Flax module called with (fixed, moving).
        variables: its variables.
        batch: the windows.
        **options: passed to ``model.apply``.

    Returns:
        What ``model.apply`` returns.
    """
    fixed, moving = scale_hounsfield(batch.fixed), scale_hounsfield(batch.moving)
    return model.apply(variables, fixed, moving, **options)


def make_train_step(
    model,
    optimizer,
    generate: Callable,
    reduce: Callable,
    *,
    residuals: float = 0.0,
    huber_delta: float = 1.0,
) -> Callable:
    """Builds the step that ``parallel.data_parallel`` spreads.

    Args:
        model: Flax module with ``params`` and ``batch_stats``.
        optimizer: optax transformation.
        generate: ``generate(key, scans) -> Pairs`` of one sample.
        reduce: adds a pytree over devices; the identity on a single one.
        residuals: chance of a step on what the network's own answer leaves.
        huber_delta: see ``losses.huber``.

    Returns:
        ``step(state, stream, indices, scans=()) -> (state, metrics)``; metrics are
        sums over the batch (``loss``, ``error`` and ``zero_error`` in voxels,
        ``weight``).
    """

    def step(state: TrainState, stream, indices, scans=()):
        batch = draw_batch(
            lambda key: generate(key, scans), stream, state.step, indices
        )
        if residuals:
            batch = leave_residuals(
                jax.random.fold_in(jax.random.fold_in(stream, _COIN), state.step),
                lambda fixed, moving: predict(
                    model,
                    state.variables,
                    batch._replace(fixed=fixed, moving=moving),
                    train=False,
                ),
                batch,
                residuals,
            )

        def total(params):
            variables = {**state.variables, "params": params}
            prediction, updates = predict(
                model, variables, batch, train=True, mutable=["batch_stats", "heads"]
            )
            heads = jax.tree.leaves(updates.pop("heads", {}))
            targets = (batch.displacement, batch.weight)
            loss, weight = huber(prediction, *targets, delta=huber_delta)
            for head in heads:
                loss += _HEAD * huber(head, *targets, delta=huber_delta)[0]
            return loss, (weight, prediction, updates)

        params = state.variables["params"]
        gradient = jax.value_and_grad(total, has_aux=True)
        (loss, (weight, prediction, updates)), gradients = gradient(params)
        error = endpoint_error(prediction, batch.displacement)
        zero_error = endpoint_error(0.0 * prediction, batch.displacement)
        metrics = {
            "loss": loss,
            "error": jnp.sum(batch.weight * error),
            "zero_error": jnp.sum(batch.weight * zero_error),
            "weight": weight,
        }
        gradients, metrics = reduce((gradients, metrics))
        # A batch without a single target must not poison the weights.
        mean = 1.0 / jnp.maximum(metrics["weight"], 1.0)
        gradients = jax.tree.map(lambda g: g * mean, gradients)
        changes, optimizer_state = optimizer.update(gradients, state.optimizer, params)
        variables = {**updates, "params": optax.apply_updates(params, changes)}
        return TrainState(state.step + 1, variables, optimizer_state), metrics

    return step
