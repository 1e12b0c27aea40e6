"""Networks trained on the same data, and measured alike."""

import time

import jax
import numpy as np

from experiments.heldout.cases import make_cases
from experiments.heldout.errors import assess, summarise
from experiments.heldout.suited import suited
from regnet_jax.models import make_model
from regnet_jax.models.arithmetic import cost, parameters
from regnet_jax.registration.network import Network
from regnet_jax.synthesis import FAMILIES, chest
from regnet_jax.synthesis.generator_config import GeneratorConfig
from regnet_jax.training.config import ExperimentConfig

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
    answered = spent.answers * network.model.support.stride**d
    return {
        "sets": measured,
        "parameters": parameters(network.model),
        "operations_per_voxel": spent.operations / answered,
    }
