"""A trained network, ready to predict."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

from regnet_jax.models import make_model
from regnet_jax.training.checkpoint import read_trained
from regnet_jax.training.config import ExperimentConfig

# A network on a new grid takes LLVM 24 s of one core at its usual level 3, and 7 s at
# this one, and then runs as fast: the time is spent in products and convolutions, which
# come from libraries.
_LIGHT = {"xla_backend_optimization_level": 1}


def program(function: Callable, *, static_argnames: Sequence[str]) -> Callable:
    """``jax.jit`` of a whole network, for callers on the host.

    JAX takes options of the compiler at the outermost ``jit`` alone, so what others may
    compose, as ``Network.apply``, is not compiled so.

    Args:
        function: pure.
        static_argnames: names, as of ``jax.jit``.

    Returns:
        The compiled function. The platform is looked up at the first call.
    """

    @functools.cache
    def compiled(platform):
        options = _LIGHT if platform == "cpu" else None
        return jax.jit(
            function, static_argnames=static_argnames, compiler_options=options
        )

    @functools.wraps(function)
    def call(*arguments, **options):
        return compiled(jax.default_backend())(*arguments, **options)

    return call


# Of the networks that ship, the one for images of a dimension.
_DEFAULTS = {2: "lung2d", 3: "lung"}


@dataclass(frozen=True)
class Network:
    """A network and what it was trained for.

    Attributes:
        config: of its training; tells dimension and voxel size.
        model: the Flax module.
        apply: ``apply(variables, fixed, moving) -> displacement``, compiled; windows
            ``[batch, *window, 1]`` scaled as in training, displacements in voxels on
            the lattice that the model predicts.
        variables: of the model.
    """

    config: ExperimentConfig
    model: nn.Module
    apply: Callable
    variables: Any

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return self.config.dimensions

    @property
    def dense(self) -> bool:
        """Whether there is an answer for every voxel of any window."""
        return self.config.targets == (0, 1)

    @property
    def spacing(self) -> float:
        """The finest voxel size, mm."""
        return min(stage.spacing for stage in self.config.data.stages)


def make_network(config: ExperimentConfig, variables) -> Network:
    """Wraps variables that were trained with a config.

    Args:
        config: of the training.
        variables: of the model.

    Returns:
        The network.
    """
    model = make_model(config.model, dimensions=config.dimensions)
    return Network(config, model, jax.jit(_prediction(model)), variables)


def _prediction(model):
    def predict(variables, fixed, moving):
        return model.apply(variables, fixed, moving, train=False)

    return predict


def load_network(name: str | Path) -> Network:
    """A network that ships, or the newest checkpoint of a training run.

    Args:
        name: of a shipped network, or the ``--workdir`` of a run.

    Returns:
        The network.

    Raises:
        InputError: if no shipped network has the name and the folder holds no run or
            no checkpoint.
    """
    return make_network(*read_trained(name))


def default_network(dimensions: int) -> tuple[str, list[str]]:
    """The shipped network for images of a dimension, where none is named.

    Args:
        dimensions: 2 or 3.

    Returns:
        Its name, and what a person should be told of the choice, a line each.
    """
    name = _DEFAULTS[dimensions]
    notice = f"the images are 2D and no model was named, so {name} was used"
    return name, [notice] if dimensions == 2 else []
