"""Networks that exist already: shipped with the package, or left by a run."""

import os
from pathlib import Path

from regnet_jax import pretrained
from regnet_jax.errors import InputError
from regnet_jax.training.checkpoint import read_config, restore_variables
from regnet_jax.training.config import ExperimentConfig, from_json


def read_trained(name: str | Path) -> tuple[ExperimentConfig, dict]:
    """The config and the variables of a trained network.

    Args:
        name: of a shipped network, or the ``--workdir`` of a run, whose newest
            checkpoint it is.

    Returns:
        The config of its training, and the variables that its ``apply`` takes.

    Raises:
        InputError: if no shipped network has the name and the folder holds no run or
            no checkpoint.
    """
    if str(name) in pretrained.names():
        config, variables = pretrained.read(str(name))
        return from_json(config), variables
    folder = Path(name)
    if not os.path.exists(folder):
        known = ", ".join(pretrained.names()) or "none"
        raise InputError(
            f"{name}: neither a folder nor a shipped network; there are: {known}"
        )
    return read_config(folder), restore_variables(folder)
