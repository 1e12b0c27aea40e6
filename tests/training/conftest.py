"""Training that compiles in seconds: a tiny model, tiny pairs."""

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

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


def _configure(values):
    for name, value in values.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture
def compiled_once(tmp_path_factory):
    """Runs share what they compile, as those from the command line do."""
    values = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in values}
    _configure(values)
    yield
    _configure(before)
