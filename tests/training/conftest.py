"""Training that compiles in seconds: a tiny model, tiny pairs."""

import dataclasses

import pytest

from regnet_jax.models import registry
from regnet_jax.synthesis import generator
from regnet_jax.training import heldout
from regnet_jax.training.config import ExperimentConfig
from tests.helpers.tiny import TINY, Tiny, noise_windows, smooth_volume


@pytest.fixture
def tiny_pairs(monkeypatch) -> ExperimentConfig:
    """The config of ``Tiny``, with real fields and windows of smooth volumes."""
    monkeypatch.setitem(registry.MODELS, "tiny", Tiny)
    monkeypatch.setattr(generator, "chest", smooth_volume)
    return TINY


@pytest.fixture
def tiny(tiny_pairs, monkeypatch) -> ExperimentConfig:
    """The config of ``Tiny``, on noise, which compiles fastest."""
    for module in (generator, heldout):
        monkeypatch.setattr(module, "draw_windows", noise_windows)
    return tiny_pairs


@pytest.fixture
def tiny_model():
    """Builds the model: ``tiny_model(axis_name=None)``."""
    return Tiny


@pytest.fixture
def changed(tiny):
    """Builds a variation of the config: ``changed(steps=2)``."""
    return lambda **values: dataclasses.replace(tiny, **values)
