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
    """

    step: jax.Array
    variables: Any
    optimizer: Any


def make_optimizer(config: ExperimentConfig) -> optax.GradientTransformation:
    """Adam with linear warm-up and cosine decay, of clipped gradients if so wished.

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
    if not config.clip:
        return optax.adam(schedule)
    return optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(schedule))


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
    return TrainState(jnp.int32(0), variables, optimizer.init(variables["params"]))
