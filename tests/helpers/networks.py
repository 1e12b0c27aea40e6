"""Networks that were never trained, and folders that hold them like a training run."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.models import make_model
from regnet_jax.models.corrnet import ConfidentCorrNet, CorrNet
from regnet_jax.models.regnet import RegNet
from regnet_jax.pretrained import InferenceConfig
from regnet_jax.pretrained.inference import write_inference
from regnet_jax.registration.inference.network import Network, make_network
from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.training import checkpoint
from regnet_jax.training.config import ExperimentConfig
from regnet_jax.training.inference import inference_config
from regnet_jax.training.state import TrainState
from tests.helpers.tiny import optimizer_of

_GAIN = {2: 20.0, 3: 15.0}
# Predictions of a tile on each axis: small ones are compiled and computed sooner.
_TILE = 13


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


def inference(dimensions, spacing, *, tile=_TILE) -> InferenceConfig:
    """How registration uses the network of ``config``."""
    given = inference_config(config(dimensions, spacing))
    return dataclasses.replace(given, tile=tile)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FakeNetwork(Network):
    """A network of a function, which sees arrays and not tracers.

    Attributes:
        function: ``function(fixed, moving) -> displacement``, all with a batch axis.
    """

    function: Callable

    def predict_patch(self, fixed, moving):
        """Call the function."""
        return self.function(fixed[None], moving[None])[0], None


def fake(dimensions, spacing, function, *, tile=_TILE) -> FakeNetwork:
    """A network with RegNet's patches and the displacements of a function."""
    use = inference(dimensions, spacing, tile=tile)
    return FakeNetwork(use, RegNet(dimensions), {}, function=function)


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
    use = inference_config(experiment)
    write_inference(folder, dataclasses.replace(use, tile=_TILE))
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
    return make_network(inference(2, 2.0), untrained(experiment).variables)


def dense(
    dimensions, spacing, scales=(1.0,), model=None, extra_pass=False, **attributes
):
    """A network with a prediction for every voxel; a small CorrNet without a model.

    Its weights are random, and its displacements of about a voxel. With an extra pass
    small displacements are shrunk. Further attributes are those of CorrNet.
    """
    use = dataclasses.replace(
        inference(dimensions, spacing),
        model="corrnet",
        voxel_sizes=tuple(sorted((s * spacing for s in scales), reverse=True)),
        extra_pass=extra_pass,
        shrinkage=0.2 if extra_pass else 0.0,
    )
    if model is not None:
        return Network(use, model, {})
    kind = ConfidentCorrNet if attributes.get("estimates_errors") else CorrNet
    model = kind(dimensions, features=(6, 8), decoder=(6, 8, 8), **attributes)
    image = jax.ShapeDtypeStruct((1, *(8,) * dimensions, 1), jnp.float32)
    init = functools.partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), image, image)["params"]
    rng = np.random.default_rng(4)

    def draw(leaf):
        spread = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return (spread * rng.normal(size=leaf.shape)).astype(np.float32)

    return Network(use, model, {"params": jax.tree.map(draw, shapes)})


def smooth_image(shape, seed=0):
    """HU that look like nothing but have structure at all places."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape) / 10.0
    waves = sum(
        np.sin(np.tensordot(rng.normal(size=len(shape)), grid, 1) + phase)
        for phase in rng.uniform(0, 6, 8)
    )
    return (200 * waves - 300).astype(np.float32)
