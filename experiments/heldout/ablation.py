"""Train networks on the same data for the same time, and measure them alike."""

import functools
import math
import time
from dataclasses import asdict

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.heldout.artificial import (
    make_cases,
    make_plan,
    measure_case,
    register_case,
)
from experiments.heldout.tables import overall
from experiments.heldout.volumes import Volume, make_volume
from regnet_jax.errors import DivergenceError
from regnet_jax.models import MODELS, make_model
from regnet_jax.models.cost import cost, parameters
from regnet_jax.registration.inference.network import Network, make_network
from regnet_jax.synthesis import FAMILIES, chest
from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.synthesis.generator import make_generator
from regnet_jax.training.config import (
    ExperimentConfig,
    OptimizerConfig,
    with_model,
)
from regnet_jax.training.inference import inference_config
from regnet_jax.training.state import init_state, make_optimizer
from regnet_jax.training.step import QUANTITIES, make_batch_sampler, make_update

# Fraction of the budget over which the learning rate rises.
_WARM_UP = 0.05


def train_for(config: ExperimentConfig, budget: float) -> tuple[Network, int]:
    """Train until the steps have taken a budget of processor time, over all cores.

    The step is that of ``training.loop``, on one device. The learning rate is a
    function of the spent fraction of the budget: linear warm-up, then cosine decay. The
    budget does not include compilation; it includes the sampling of pairs.

    Args:
        config: of the pairs; its number of steps and its schedule are not used.
        budget: seconds of processor time.

    Returns:
        The network, and the number of steps.

    Raises:
        DivergenceError: if a step computes a value that is not finite.
    """
    model = make_model(config.model, dimensions=config.dimensions)
    adam = functools.partial(make_optimizer, config.optimizer)
    optimizer = optax.inject_hyperparams(adam)(learning_rate=0.0)
    draw = make_batch_sampler(model, make_generator(config.data, config.targets))
    update = make_update(model, optimizer, lambda tree: tree)
    weight_key, stream = jax.random.split(jax.random.key(config.seed))
    state = init_state(weight_key, model, optimizer, config)
    indices = jnp.arange(config.batch_size)
    step = jax.jit(lambda state: update(state, draw(state, stream, indices)))
    step = step.lower(state).compile()
    spent = 0.0
    while spent < budget:
        done = spent / budget
        rate = min(done / _WARM_UP, 0.5 + 0.5 * math.cos(math.pi * done))
        rate *= config.optimizer.learning_rate
        state.optimizer.hyperparams["learning_rate"] = jnp.float32(rate)
        began = time.process_time()
        state, metrics = jax.block_until_ready(step(state))
        spent += time.process_time() - began
        if fault := int(metrics["fault"]):
            raise DivergenceError(
                f"{config.name}: the {QUANTITIES[fault - 1]} of step"
                f" {int(state.step) + 1} is not finite; leave {config.model} out of"
                " --networks or try another --seed"
            )
    return make_network(inference_config(config), state.variables), int(state.step)


# Targets of a patch along each axis, without and with a margin, by dimension.
_TARGETS = {2: (128, 64), 3: (64, 32)}
_BATCH = {2: 8, 3: 2}
_SPACING = {2: 2.0, 3: 4.0}
# Voxels of held-out volumes along each axis: all of a chest, 384 mm.
_HELD_OUT = {2: 192, 3: 96}


def experiment(model: str, dimensions: int, seed: int) -> ExperimentConfig:
    """Return the experiment of a network: procedural chests, all families.

    Args:
        model: name in ``regnet_jax.models.registry``.
        dimensions: 2 or 3.
        seed: of weights and pairs.

    Returns:
        The experiment; its number of steps is not used.
    """
    dense, sparse = _TARGETS[dimensions]
    data = GeneratorConfig(
        shape=(dense,) * dimensions,
        spacing=_SPACING[dimensions],
        families=tuple(FAMILIES),
        noise_fixed=10.0,
        noise_moving=10.0,
        unseen_weight=0.05,
        patches_per_pair=1,
        patch_size=dense,
    )
    config = ExperimentConfig(
        name=f"ablation-{model}",
        model=model,
        data=data,
        batch_size=_BATCH[dimensions],
        steps=1,
        seed=seed,
        optimizer=OptimizerConfig(learning_rate=1e-3, max_grad_norm=1.0),
    )
    support = MODELS[model].support
    targets = sparse if support.margin else dense
    return with_model(config, model, targets // support.stride)


def sample_volumes(count: int, dimensions: int) -> list[Volume]:
    """Sample procedural chests that no training samples.

    Args:
        count: number of volumes.
        dimensions: 2 gives slices.

    Returns:
        The volumes, each of a patient of its own.
    """
    shape = (_HELD_OUT[dimensions],) * dimensions
    keys = jax.random.split(jax.random.key(1908), count)
    spacing = _SPACING[dimensions]
    sample = jax.jit(lambda key: chest(key, shape, spacing=spacing))
    images = {
        f"procedural {i}": np.asarray(sample(k))[..., 0] for i, k in enumerate(keys)
    }
    return [
        make_volume(name, image, spacing, patient=name, identity=name)
        for name, image in images.items()
    ]


def measure(network: Network, sets: dict[str, list[Volume]], count: int) -> dict:
    """Measure a network on artificial pairs, which are the same for every network.

    Args:
        network: a trained network.
        sets: volumes by the name of their set.
        count: number of pairs of each set, as for ``make_plan``.

    Returns:
        ``sets``: for each and for ``before`` and ``network``, the values of
        ``evaluation.Statistics`` over the body, the processor time of a registration,
        ``seconds``, and the number that failed, ``failed``; ``parameters`` and
        ``operations_per_voxel``.
    """
    d, spacing = network.dimensions, network.spacing
    measured = {}
    for name, volumes in sets.items():
        plan = make_plan(volumes, tuple(FAMILIES), count)
        rows, seconds = [], []

        def predict(case, seconds=seconds):
            began = time.process_time()
            found = register_case(case, network, spacing, 0)
            seconds.append(time.process_time() - began)
            return found

        for case in make_cases(jax.random.key(2017), plan, spacing=spacing, d=d):
            rows.append(measure_case(case, {"network": predict}, spacing))
        methods = {key: asdict(values) for key, values in overall(rows).items()}
        measured[name] = methods | {
            "seconds": float(np.median(seconds)) if seconds else float("nan"),
            "failed": sum(bool(row["failed"]) for row in rows),
        }
    patch = experiment(network.config.model, d, 0).patch_shape
    spent = cost(network.model, patch)
    voxels = spent.predictions * network.model.support.stride**d
    return {
        "sets": measured,
        "parameters": parameters(network.model),
        "operations_per_voxel": spent.operations / voxels,
    }
