"""Training that compiles in seconds: a tiny model, tiny pairs."""

import pytest

from regnet_jax.models import registry
from regnet_jax.training.config import ExperimentConfig, override
from tests.helpers.tiny import TINY, Tiny


@pytest.fixture
def tiny(monkeypatch) -> ExperimentConfig:
    """The config of ``Tiny``, which is among the models."""
    monkeypatch.setitem(registry.MODELS, "tiny", Tiny)
    return TINY


@pytest.fixture
def tiny_model():
    """Builds the model: ``tiny_model(axis_name=None)``."""
    return Tiny


@pytest.fixture
def changed(tiny):
    """Builds a variation of the config: ``changed("steps=2")``, as by --override."""
    return lambda *assignments: override(tiny, assignments)
