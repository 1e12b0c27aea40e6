"""An experiment for any network: the windows that it needs."""

import dataclasses

from regnet_jax.models import MODELS
from regnet_jax.models.arithmetic import window_of
from regnet_jax.training.config import ExperimentConfig


def suited(config: ExperimentConfig, model: str, answers: int) -> ExperimentConfig:
    """The experiment with another network.

    Args:
        config: any experiment.
        model: name in ``regnet_jax.models.registry``.
        answers: voxels along each axis of a window for which there are targets.

    Returns:
        The experiment with windows, margin and stride of the network, and volumes
        that have room for them.
    """
    support = MODELS[model].support
    window = window_of(support, answers // support.stride)
    data = dataclasses.replace(
        config.data,
        shape=tuple(max(n, window) for n in config.data.shape),
        window=window,
        margin=support.margin,
        stride=support.stride,
    )
    return dataclasses.replace(config, model=model, data=data)
