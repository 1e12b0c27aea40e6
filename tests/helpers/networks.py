"""Networks that were never trained, and folders that hold them like a training run."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.models import make_model
from regnet_jax.models.corrnet import CorrNet
from regnet_jax.registration.inference.network import Network, make_network
from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.training import checkpoint
from regnet_jax.training.config import ExperimentConfig
from regnet_jax.training.state import TrainState
from tests.helpers.tiny import optimizer_of

_GAIN = {2: 20.0, 3: 15.0}


def config(dimensions, spacing):
    """A valid experiment of the smallest patches there are."""
    return ExperimentConfig(
        name=f"untrained{dimensions}d",
        model="regnet",
        data=GeneratorConfig(
            shape=(64,) * dimensions,
            spacing=spacing,
            families=("low",),
            noise_fixed=5.0,
            noise_moving=0.0,
            patches_per_pair=1,
            patch_size=53,
        ),
        batch_size=1,
        steps=2,
    )


def untrained(experiment):
    """Random weights that keep the size of what they are given, without compiling.

    The field is a shift by 1, 2 and 3 voxels and a part that follows the images.
    """
    d = experiment.dimensions
    model = make_model(experiment.model, dimensions=d)
    window = jax.ShapeDtypeStruct((1, *(53,) * d, 1), jnp.float32)
    shapes = jax.eval_shape(
        functools.partial(model.init, train=False), jax.random.key(0), window, window
    )
    rng = np.random.default_rng(3)

    def draw(path, leaf):
        name = path[-1].key
        if name != "kernel":
            return np.full(leaf.shape, name in ("scale", "var"), np.float32)
        spread = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return (spread * rng.normal(size=leaf.shape)).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    layers = variables["params"]
    last = max(
        (name for name in layers if name.startswith("Conv")),
        key=lambda name: int(name.split("_")[1]),
    )
    layers[last]["kernel"] *= _GAIN[d]
    layers[last]["bias"] = np.arange(1, d + 1, dtype=np.float32)
    optimizer = optimizer_of(experiment).init(layers)
    return TrainState(np.int32(0), variables, optimizer)


def write_run(folder, experiment):
    """What a training run of the experiment would leave."""
    checkpoint.write_config(folder, experiment)
    with checkpoint.open_checkpoints(folder) as manager:
        checkpoint.save(manager, untrained(experiment))
    return folder


@pytest.fixture(scope="session")
def run2d(tmp_path_factory):
    """The folder of a 2D run at 2 mm."""
    return write_run(tmp_path_factory.mktemp("run2d"), config(2, 2.0))


@pytest.fixture(scope="session")
def run3d(tmp_path_factory):
    """The folder of a 3D run at 4 mm."""
    return write_run(tmp_path_factory.mktemp("run3d"), config(3, 4.0))


@pytest.fixture(scope="session")
def network2d():
    """A 2D network at 2 mm."""
    experiment = config(2, 2.0)
    return make_network(experiment, untrained(experiment).variables)


def dense(dimensions, spacing, scales=(1.0,), model=None, residuals=0.0):
    """A network that answers at every voxel; a small CorrNet without a model.

    Its weights are random, and its displacements of about a voxel.
    """
    experiment = config(dimensions, spacing)
    data = dataclasses.replace(experiment.data, patch_size=64, scales=scales)
    experiment = dataclasses.replace(
        experiment, model="corrnet", data=data, residual_probability=residuals
    )
    if model is not None:
        return Network(experiment, model, None, {})
    model = CorrNet(dimensions, features=(6, 8), decoder=(6, 8, 8))
    image = jax.ShapeDtypeStruct((1, *(8,) * dimensions, 1), jnp.float32)
    init = functools.partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), image, image)["params"]
    rng = np.random.default_rng(4)

    def draw(leaf):
        spread = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return (spread * rng.normal(size=leaf.shape)).astype(np.float32)

    return Network(experiment, model, None, {"params": jax.tree.map(draw, shapes)})


def smooth_image(shape, seed=0):
    """HU that look like nothing but have structure at all places."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape) / 10.0
    waves = sum(
        np.sin(np.tensordot(rng.normal(size=len(shape)), grid, 1) + phase)
        for phase in rng.uniform(0, 6, 8)
    )
    return (200 * waves - 300).astype(np.float32)
