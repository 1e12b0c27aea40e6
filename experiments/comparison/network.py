"""The methods of this project: its presets."""

import functools
from dataclasses import replace

import numpy as np

from experiments.comparison.methods import Task
from regnet_jax import register as register_pair
from regnet_jax.registration import (
    Network,
    default_network,
    load_network,
    named_network,
)
from regnet_jax.spatial import Frame, Image


@functools.cache
def network_of(model: str, dimensions: int) -> Network:
    """Return the network that ``--model`` names for images of a dimension."""
    return named_network(model) or load_network(default_network(dimensions)[0])


def register(task: Task, *, model: str, preset: str) -> np.ndarray:
    """Register a pair; see ``experiments.comparison.methods``.

    With the setting ``default`` images may have any intensities, and coordinates are
    scaled such that the fixed image's voxels are as large as the network's, so that
    small organs are registered at their full resolution; but not for a network that was
    trained on images of that size.
    """
    frame = task.fixed.frame
    network = network_of(model, frame.ndim)
    factor = 1.0
    if task.setting == "default" and network.config.adapt_voxel_size:
        factor = network.spacing / float(np.mean(frame.spacing))
    initial = np.array(task.initial)
    initial[:-1, -1] *= factor
    registration = register_pair(
        *(_scaled(image, factor) for image in (task.fixed, task.moving)),
        network,
        initial=initial,
        intensity="ct" if task.setting == "lung" else "auto",
        preset=preset,
    )
    return registration.displacement / factor


def _scaled(image: Image, factor: float) -> Image:
    """Return the image with its spacing and origin multiplied by a factor."""
    frame = image.frame
    spacing, origin = (factor * np.asarray(x) for x in (frame.spacing, frame.origin))
    return replace(image, frame=Frame(frame.shape, spacing, origin, frame.direction))
