"""What training changes from step to step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from regnet_jax.training.config import ExperimentConfig


class TrainState(NamedTuple):
    """A pytree of arrays.

    Attributes:
        step: number of finished steps.
        variables: of the model: ``params`` and ``batch_stats``.
        optimizer: state of the optimizer.
        average: of the weights over the steps, like ``params``; empty without one.
    """

    step: jax.Array
    variables: Any
    optimizer: Any
    average: Any = ()

    @property
    def best(self):
        """The variables to use: with the average of the weights, where one is kept."""
        return {**self.variables, "params": self.average or self.variables["params"]}


def follow(average, params, step, *, decay: float):
    """Moves an average of weights towards the newest ones.

    Args:
        average: like ``params``, or empty to keep none.
        params: the newest weights.
        step: number of steps before this one.
        decay: part of the average that stays. In the first steps less stays, so that
            weights from the beginning are soon forgotten.

    Returns:
        The average after the step.
    """
    if not decay:
        return average
    stays = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: stays * a + (1.0 - stays) * p, average, params)


def make_optimizer(config: ExperimentConfig) -> optax.GradientTransformation:
    """Adam with linear warm-up and cosine decay.

    Gradients are clipped and kernels decay if the config says so.

    Args:
        config: gives the rates and the length.

    Returns:
        An optax transformation.
    """
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=config.warmup,
        decay_steps=max(config.steps, config.warmup + 1),
        end_value=config.final_rate * config.learning_rate,
    )
    if config.weight_decay:
        adam = optax.adamw(schedule, weight_decay=config.weight_decay, mask=_kernels)
    else:
        adam = optax.adam(schedule)
    if not config.clip:
        return adam
    return optax.chain(optax.clip_by_global_norm(config.clip), adam)


def _kernels(params):
    """What decays: no biases, scales or numbers that stand alone."""
    return jax.tree.map(lambda p: jnp.ndim(p) > 1, params)


def init_state(key, model, optimizer, config: ExperimentConfig) -> TrainState:
    """A fresh state.

    Args:
        key: random key of the weights.
        model: Flax module called with (fixed, moving).
        optimizer: optax transformation.
        config: gives the size of the windows.

    Returns:
        A ``TrainState`` at step 0.
    """
    data = config.data
    window = jnp.zeros((1, *(data.window,) * len(data.shape), 1))
    variables = jax.jit(model.init, static_argnames="train")(
        key, window, window, train=False
    )
    # What a network says on the way is not part of its state.
    variables.pop("heads", None)
    params = variables["params"]
    # A copy: the state's memory is given away, and no array can be given twice.
    average = jax.tree.map(jnp.copy, params) if config.average else ()
    return TrainState(jnp.int32(0), variables, optimizer.init(params), average)
