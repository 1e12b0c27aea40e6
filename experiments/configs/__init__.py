"""The experiments: one module each, found by its file name."""

import importlib
import pkgutil

from regnet_jax.errors import InputError
from regnet_jax.training.config import ExperimentConfig


def names() -> list[str]:
    """The names that ``load`` knows, in alphabetical order."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ExperimentConfig:
    """The config of an experiment.

    Args:
        name: of a module in this package.

    Returns:
        Its ``CONFIG``.

    Raises:
        InputError: if there is none of that name.
    """
    if name not in names():
        raise InputError(f"--config {name}: unknown; there are {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}").CONFIG
