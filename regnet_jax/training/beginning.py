"""What a run without a checkpoint of its own starts from."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from regnet_jax.errors import InputError
from regnet_jax.models import inflate
from regnet_jax.training.checkpoint import restore_variables
from regnet_jax.training.config import ExperimentConfig, in_the_plane
from regnet_jax.training.state import TrainState
from regnet_jax.training.trained import read_trained


def begin(
    config: ExperimentConfig, folder: Path, state: TrainState, train: Callable
) -> TrainState:
    """Given weights, those of a start in the plane, or random ones, in this order.

    Args:
        config: of the run.
        folder: of the run; a start in the plane has its folder ``plane``.
        state: with random weights.
        train: ``train(config, folder)``, for a start in the plane.

    Returns:
        The state at step 0.

    Raises:
        InputError: if the given weights are not of the same network.
    """
    if config.init_from:
        variables = _given(config, state.variables)
    elif config.plane_steps:
        # A 3D network learns where to look in slices, at a small part of the cost.
        train(in_the_plane(config), folder / "plane")
        variables = inflate(restore_variables(folder / "plane"), state.variables)
    else:
        return state
    average = jax.tree.map(jnp.copy, variables["params"]) if state.average else ()
    return state._replace(variables=variables, average=average)


def _given(config, fresh):
    """The weights to start from, which must be those of the same network."""
    _, variables = read_trained(config.init_from)
    shapes, wanted = (jax.tree.map(jnp.shape, tree) for tree in (variables, fresh))
    if shapes != wanted:
        raise InputError(
            f"init_from={config.init_from}: holds other layers than {config.model} of"
            " this experiment; name a network of the same kind"
        )
    return jax.tree.map(jnp.asarray, variables)
