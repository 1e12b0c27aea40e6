"""The state of a training run, and its optimizer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from regnet_jax.training.config import ExperimentConfig, OptimizerConfig


class TrainState(NamedTuple):
    """The state of a training run, a pytree of arrays.

    Attributes:
        step: number of finished steps.
        variables: of the model: ``params`` and ``batch_stats``.
        optimizer: state of the optimizer.
        average: exponential moving average of the weights, like ``params``; empty
            without one.
    """

    step: jax.Array
    variables: Any
    optimizer: Any
    average: Any = ()

    @property
    def inference_variables(self):
        """The variables to predict with; their weights are the EMA if one is kept."""
        return {**self.variables, "params": self.average or self.variables["params"]}


def update_average(average, params, step, *, decay: float):
    """Update an exponential moving average of weights.

    Args:
        average: like ``params``, or empty to keep none.
        params: the newest weights.
        step: number of steps before this one.
        decay: weight of the old average. It is lower in the first steps, so that the
            initial weights are soon forgotten.

    Returns:
        The average after the step.
    """
    if not decay:
        return average
    stays = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return optax.incremental_update(params, average, 1.0 - stays)


def make_schedule(config: ExperimentConfig) -> optax.Schedule:
    """Build the schedule of the learning rate.

    The rate grows linearly, is constant for a part of the run, and decays as a cosine.

    Args:
        config: of the run.

    Returns:
        An optax schedule.
    """
    highest, schedule = config.optimizer.learning_rate, config.schedule
    warmup = schedule.warmup_steps
    start = max(warmup, round(schedule.constant_fraction * config.steps))
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, highest, warmup),
            optax.constant_schedule(highest),
            optax.cosine_decay_schedule(
                highest, max(config.steps - start, 1), schedule.final_fraction
            ),
        ],
        [warmup, start],
    )


def make_optimizer(
    config: OptimizerConfig, learning_rate: optax.ScalarOrSchedule
) -> optax.GradientTransformation:
    """Build Adam, with gradient clipping and weight decay if the config sets them.

    Args:
        config: of the optimizer.
        learning_rate: a number, or a schedule as from ``make_schedule``.

    Returns:
        An optax transformation.
    """
    if config.weight_decay:
        adam = optax.adamw(
            learning_rate, weight_decay=config.weight_decay, mask=_is_kernel
        )
    else:
        adam = optax.adam(learning_rate)
    if not config.max_grad_norm:
        return adam
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), adam)


def _is_kernel(params):
    """Mark the weights that decay: kernels, not biases, scales or scalars."""
    return jax.tree.map(lambda p: jnp.ndim(p) > 1, params)


def init_state(key, model, optimizer, config: ExperimentConfig) -> TrainState:
    """Return the initial state.

    Args:
        key: random key of the weights.
        model: Flax module called with (fixed, moving), which sows nothing while it is
            initialised.
        optimizer: optax transformation.
        config: gives the size of the patches.

    Returns:
        A ``TrainState`` at step 0.
    """
    patch = jnp.zeros((1, *config.patch_shape, 1))
    variables = jax.jit(model.init, static_argnames="train")(
        key, patch, patch, train=False
    )
    params = variables["params"]
    # A copy, since the step donates the state and no array can be donated twice.
    average = jax.tree.map(jnp.copy, params) if config.optimizer.ema_decay else ()
    return TrainState(jnp.int32(0), variables, optimizer.init(params), average)
