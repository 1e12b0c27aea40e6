"""The methods of this project: its presets."""

import functools

import numpy as np

from experiments.comparison.methods import Task
from regnet_jax import register as register_pair
from regnet_jax.registration import (
    Network,
    default_network,
    load_network,
    named_network,
)


@functools.cache
def network_of(model: str, dimensions: int) -> Network:
    """Return the network that ``--model`` names for images of a dimension."""
    return named_network(model) or load_network(default_network(dimensions)[0])


def register(task: Task, *, model: str, preset: str) -> np.ndarray:
    """Register a pair; see ``experiments.comparison.methods``.

    All else is as by default. With the setting ``default`` images may have any
    intensities.
    """
    registration = register_pair(
        task.fixed,
        task.moving,
        network_of(model, task.fixed.frame.ndim),
        initial=task.initial,
        intensity="ct" if task.setting == "lung" else "auto",
        preset=preset,
    )
    return registration.displacement
