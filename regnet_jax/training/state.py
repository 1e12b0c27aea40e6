"""The state of training, and the optimizer that moves it from step to step."""

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
        """The variables to predict with: of the average where one is kept."""
        return {**self.variables, "params": self.average or self.variables["params"]}


def update_average(average, params, step, *, decay: float):
    """Move an exponential moving average of weights towards the newest ones.

    Args:
        average: like ``params``, or empty to keep none.
        params: the newest weights.
        step: number of steps before this one.
        decay: fraction of the average that stays. Less stays in the first steps, so
            that the initial weights are soon forgotten.

    Returns:
        The average after the step.
    """
    if not decay:
        return average
    stays = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return optax.incremental_update(params, average, 1.0 - stays)


def make_schedule(config: ExperimentConfig) -> optax.Schedule:
    """Build the learning rate of every step: linear warm-up and cosine decay.

    Args:
        config: gives the highest rate, the length and the shape.

    Returns:
        An optax schedule.
    """
    highest, warmup = config.optimizer.learning_rate, config.schedule.warmup_steps
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=highest,
        warmup_steps=warmup,
        decay_steps=max(config.steps, warmup + 1),
        end_value=config.schedule.final_fraction * highest,
    )


def make_optimizer(
    config: OptimizerConfig, learning_rate: optax.ScalarOrSchedule
) -> optax.GradientTransformation:
    """Build Adam; gradients are clipped and kernels decay if the config says so.

    Args:
        config: of the optimizer.
        learning_rate: a number, or one for every step as from ``make_schedule``.

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
    """Mark the weights that decay: no biases, scales or single numbers."""
    return jax.tree.map(lambda p: jnp.ndim(p) > 1, params)


def init_state(key, model, optimizer, config: ExperimentConfig) -> TrainState:
    """Return a fresh state.

    Args:
        key: random key of the weights.
        model: Flax module called with (fixed, moving).
        optimizer: optax transformation.
        config: gives the size of the patches.

    Returns:
        A ``TrainState`` at step 0.
    """
    patch = jnp.zeros((1, *config.patch_shape, 1))
    variables = jax.jit(model.init, static_argnames="train")(
        key, patch, patch, train=False
    )
    # The predictions of auxiliary heads are not part of the state.
    variables.pop("heads", None)
    params = variables["params"]
    # A copy: the state's memory is given away, and no array can be given twice.
    average = jax.tree.map(jnp.copy, params) if config.optimizer.ema_decay else ()
    return TrainState(jnp.int32(0), variables, optimizer.init(params), average)
