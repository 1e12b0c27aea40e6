"""The experiments: one module each, loaded by its name; or a user's own file."""

import importlib
import importlib.util
import pkgutil
from pathlib import Path

from regnet_jax.errors import InputError
from regnet_jax.training.config import ExperimentConfig


def names() -> list[str]:
    """Return the names of the experiments, in alphabetical order."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ExperimentConfig:
    """Return the config of an experiment.

    Args:
        name: of a module in this package, or the path of a Python file.

    Returns:
        Its ``CONFIG``.

    Raises:
        InputError: if there is no such experiment, or the file cannot be used.
    """
    if name.endswith(".py"):
        return _load_file(Path(name))
    if name not in names():
        raise InputError(
            f"--config {name}: unknown; there are {', '.join(names())}, or give the"
            " path of a .py file with a CONFIG"
        )
    return importlib.import_module(f"{__name__}.{name}").CONFIG


def _load_file(path: Path) -> ExperimentConfig:
    """Run a user's file and return its ``CONFIG``."""
    if not path.is_file():
        raise InputError(f"--config {path}: there is no such file; check the path")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    # A user's file can raise an exception of any kind.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"--config {path}: cannot be run ({reason})") from error
    config = getattr(module, "CONFIG", None)
    if not isinstance(config, ExperimentConfig):
        raise InputError(
            f"--config {path}: has no CONFIG that is an ExperimentConfig; take one of"
            " experiments/configs as a model"
        )
    return config
