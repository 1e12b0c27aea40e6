"""A trained network, ready to predict."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from regnet_jax.models import make_model
from regnet_jax.training.checkpoint import read_config, restore_variables
from regnet_jax.training.config import ExperimentConfig


@dataclass(frozen=True)
class Network:
    """A network and what it was trained for.

    Attributes:
        config: of its training; tells dimension and voxel size.
        apply: ``apply(variables, fixed, moving) -> displacement``, compiled; windows
            ``[batch, *window, 1]`` scaled as in training, displacements in voxels on
            the lattice that the model predicts.
        variables: of the model.
    """

    config: ExperimentConfig
    apply: Callable
    variables: Any

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.config.data.shape)


def make_network(config: ExperimentConfig, variables) -> Network:
    """Wraps variables that were trained with a config.

    Args:
        config: of the training.
        variables: of the model.

    Returns:
        The network.
    """
    model = make_model(config.model, dimensions=len(config.data.shape))
    return Network(config, jax.jit(_prediction(model)), variables)


def _prediction(model):
    def predict(variables, fixed, moving):
        return model.apply(variables, fixed, moving, train=False)

    return predict


def load_network(folder: Path) -> Network:
    """Reads the newest checkpoint of a training run.

    Args:
        folder: the ``--workdir`` of the run.

    Returns:
        The network.

    Raises:
        InputError: if the folder holds no run or no checkpoint.
    """
    return make_network(read_config(folder), restore_variables(folder))
