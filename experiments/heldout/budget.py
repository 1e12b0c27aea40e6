"""Training for a given processor time instead of a number of steps."""

import math
import time

import jax
import jax.numpy as jnp
import optax

from regnet_jax.errors import DivergenceError
from regnet_jax.models import make_model
from regnet_jax.registration.network import Network, make_network
from regnet_jax.synthesis.generator import make_generator
from regnet_jax.training.config import ExperimentConfig
from regnet_jax.training.state import init_state
from regnet_jax.training.step import QUANTITIES, make_draw, make_update

# The part of the budget in which the rate rises.
_WARM_UP = 0.05


def train_for(config: ExperimentConfig, budget: float) -> tuple[Network, int]:
    """Trains until the steps have taken so much processor time, of all cores.

    The rate follows the part of the budget that is spent: a linear start and a cosine.
    Compilation is not counted, the drawing of pairs is.

    Args:
        config: of the pairs; its number of steps is not used.
        budget: seconds of processor time.

    Returns:
        The network, and how many steps it took.

    Raises:
        DivergenceError: if a step computes something that is not finite.
    """
    model = make_model(config.model, dimensions=len(config.data.shape))
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.inject_hyperparams(optax.adam)(learning_rate=0.0),
    )
    draw = make_draw(model, make_generator(config.data))
    update = make_update(model, optimizer, lambda tree: tree)
    weight_key, stream = jax.random.split(jax.random.key(config.seed))
    state = init_state(weight_key, model, optimizer, config)
    indices = jnp.arange(config.pairs)
    step = jax.jit(lambda state: update(state, draw(state, stream, indices)))
    step = step.lower(state).compile()
    spent = 0.0
    while spent < budget:
        done = spent / budget
        rate = min(done / _WARM_UP, 0.5 + 0.5 * math.cos(math.pi * done))
        hyper = state.optimizer[1].hyperparams
        hyper["learning_rate"] = jnp.float32(config.learning_rate * rate)
        began = time.process_time()
        state, metrics = jax.block_until_ready(step(state))
        spent += time.process_time() - began
        if fault := int(metrics["fault"]):
            raise DivergenceError(
                f"{config.name}: the {QUANTITIES[fault - 1]} of step"
                f" {int(state.step) + 1} is not finite; leave {config.model} out of"
                " --networks or try another --seed"
            )
    return make_network(config, state.variables), int(state.step)
