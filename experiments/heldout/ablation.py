"""Networks trained on the same data, and measured alike."""

import dataclasses
import math
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.heldout.artificial import assess, make_cases, summarise
from regnet_jax.errors import DivergenceError
from regnet_jax.models import MODELS, make_model
from regnet_jax.models.cost import cost, parameters, window_of
from regnet_jax.registration.inference.network import Network, make_network
from regnet_jax.synthesis import FAMILIES, chest
from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.synthesis.generator import make_generator
from regnet_jax.training.config import ExperimentConfig
from regnet_jax.training.state import init_state
from regnet_jax.training.step import QUANTITIES, make_draw, make_update


def suited(config: ExperimentConfig, model: str, answers: int) -> ExperimentConfig:
    """The experiment with another network.

    Args:
        config: any experiment.
        model: name in ``regnet_jax.models.registry``.
        answers: voxels along each axis of a window for which there are targets.

    Returns:
        The experiment with windows, margin and stride of the network, and volumes
        that have room for them.
    """
    support = MODELS[model].support
    window = window_of(support, answers // support.stride)
    data = dataclasses.replace(
        config.data,
        shape=tuple(max(n, window) for n in config.data.shape),
        window=window,
        margin=support.margin,
        stride=support.stride,
    )
    return dataclasses.replace(config, model=model, data=data)


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


# Voxels along each axis with targets: networks of a margin see a wider window.
_ANSWERS = {2: (128, 64), 3: (64, 32)}
_PAIRS = {2: 8, 3: 2}
_SPACING = {2: 2.0, 3: 4.0}


def experiment(model: str, dimensions: int, seed: int) -> ExperimentConfig:
    """What a network is trained on: procedural chests, all families.

    Args:
        model: name in ``regnet_jax.models.registry``.
        dimensions: 2 or 3.
        seed: of weights and pairs.

    Returns:
        The experiment; its length is not used.
    """
    whole, part = _ANSWERS[dimensions]
    data = GeneratorConfig(
        shape=(whole,) * dimensions,
        spacing=_SPACING[dimensions],
        families=tuple(FAMILIES),
        limits=(1000.0,),
        noise_fixed=10.0,
        noise_moving=10.0,
        unseen=0.05,
        windows=1,
        window=whole,
        margin=0,
        stride=1,
    )
    config = ExperimentConfig(
        name=f"ablation-{model}",
        model=model,
        data=data,
        pairs=_PAIRS[dimensions],
        steps=1,
        learning_rate=1e-3,
        clip=1.0,
        seed=seed,
    )
    margin = make_model(model, dimensions=dimensions).support.margin
    return suited(config, model, part if margin else whole)


def volumes_drawn(count: int, dimensions: int) -> dict:
    """Procedural chests that no training draws, as ``make_cases`` takes them.

    Args:
        count: volumes.
        dimensions: 2 gives slices.

    Returns:
        ``{name: [*spatial]}``, HU.
    """
    shape = (2 * _ANSWERS[dimensions][0] - 32 * dimensions,) * dimensions
    keys = jax.random.split(jax.random.key(1908), count)
    draw = jax.jit(lambda key: chest(key, shape, spacing=_SPACING[dimensions]))
    return {f"drawn {i}": np.asarray(draw(k))[..., 0] for i, k in enumerate(keys)}


def measure(network: Network, sets: dict, count: int) -> dict:
    """Endpoint errors on the same artificial pairs for every network.

    Args:
        network: trained.
        sets: volumes by the name of their set.
        count: pairs of each set, all families in turn.

    Returns:
        ``sets``: of each, what ``errors.summarise`` gives, and the seconds of
        processor time that a registration takes; ``parameters`` and
        ``operations_per_voxel``.
    """
    d, spacing = network.dimensions, network.spacing
    measured = {}
    for name, volumes in sets.items():
        key, families = jax.random.key(2017), tuple(FAMILIES)
        cases = make_cases(key, volumes, families, count, spacing=spacing, d=d)
        rows, seconds = [], []
        for case in cases:
            began = time.process_time()
            rows.append(assess(case, network, spacing, [0]))
            seconds.append(time.process_time() - began)
        measured[name] = {**summarise(rows), "seconds": float(np.median(seconds))}
    window = (network.config.data.window,) * d
    spent = cost(network.model, window)
    answered = spent.predictions * network.model.support.stride**d
    return {
        "sets": measured,
        "parameters": parameters(network.model),
        "operations_per_voxel": spent.operations / answered,
    }
