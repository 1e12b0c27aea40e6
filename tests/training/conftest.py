"""A tiny model and tiny pairs: training that compiles in seconds."""

import dataclasses

import flax.linen as nn
import jax
import pytest

from regnet_jax.models import registry
from regnet_jax.synthesis import generator
from regnet_jax.synthesis.generator import GeneratorConfig
from regnet_jax.synthesis.noise import smooth_noise
from regnet_jax.training.config import ExperimentConfig

TINY = ExperimentConfig(
    name="tiny",
    model="tiny",
    data=GeneratorConfig(
        shape=(48, 48),
        spacing=4.0,
        families=("medium", "high"),
        limits=(1.5, 4.0, 8.0),
        noise_fixed=5.0,
        noise_moving=0.0,
        windows=2,
        window=21,
        margin=8,
        stride=2,
    ),
    pairs=4,
    steps=4,
    learning_rate=0.02,
    warmup=1,
    save_every=2,
    evaluate_every=2,
    evaluation_pairs=2,
)


class Tiny(nn.Module):
    """One convolution and one normalisation, read at the targets of ``TINY``."""

    dimensions: int = 2
    axis_name: str | None = None

    @nn.compact
    def __call__(self, fixed, moving, *, train: bool):
        data = TINY.data
        both = jax.numpy.concatenate([fixed, moving], -1)
        x = nn.Conv(4, (3,) * self.dimensions)(both)
        x = nn.BatchNorm(
            use_running_average=not train, momentum=0.9, axis_name=self.axis_name
        )(x)
        targets = slice(data.margin, data.window - data.margin, data.stride)
        x = nn.relu(x)[(slice(None), *(targets,) * self.dimensions)]
        return nn.Dense(self.dimensions)(x)


def _smooth_volume(key, shape, *, spacing):
    """Stands for a chest, which takes longer to compile."""
    noise = smooth_noise(key, shape, {"volume": (5.0, 1)})["volume"]
    return 300.0 * noise


@pytest.fixture
def tiny(monkeypatch) -> ExperimentConfig:
    """The config of ``Tiny``, which the registry knows meanwhile."""
    monkeypatch.setitem(registry.MODELS, "tiny", Tiny)
    monkeypatch.setattr(generator, "chest", _smooth_volume)
    return TINY


@pytest.fixture
def tiny_model():
    """Builds the model: ``tiny_model(axis_name=None)``."""
    return Tiny


@pytest.fixture
def changed(tiny):
    """Builds a variation of the config: ``changed(steps=2)``."""
    return lambda **values: dataclasses.replace(tiny, **values)
