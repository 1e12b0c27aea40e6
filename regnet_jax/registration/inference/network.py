"""A trained network, ready to predict."""

import dataclasses
import functools
import hashlib
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.models import make_model
from regnet_jax.pretrained import InferenceConfig, read_weights
from regnet_jax.registration.inference.programs import KeptProgram


def apply_model(variables, fixed, moving, *, model: nn.Module) -> tuple[Any, Any]:
    """Apply a model to one patch of each image; see ``Network.predict_patch``."""
    pair = fixed[None], moving[None]
    if not estimates_errors(model):
        return model.apply(variables, *pair, train=False)[0], None
    found, sown = model.apply(variables, *pair, train=False, mutable=["errors"])
    return found[0], sown["errors"]["logarithm"][0][0]


_predict_patch = KeptProgram(apply_model, static_argnames=("model",))


def estimates_errors(model: nn.Module) -> bool:
    """Return whether a model estimates the error of its prediction, see ``CorrNet``."""
    return getattr(model, "estimates_errors", False)


# Passes at voxels up to this multiple of the finest may predict in both orders. In
# coarser ones too much is left to register for predictions at the same voxels.
_FINE = 2
# A factor that exceeds a power of two by less than this power gets no further pass.
_NEARLY = 0.1
# Stands for the shipped network for the dimension of the images.
AUTO = "auto"
_DEFAULTS = {2: "lung2d", 3: "lung"}


@dataclass(frozen=True)
class Network:
    """A network and how it is used.

    Attributes:
        config: how registration uses it.
        model: the Flax module.
        variables: of the model.
        others: where ``config.stage_weights`` names them, the networks of the voxel
            sizes; empty if this network serves all.
        both_orders: whether the finest passes predict with the images in both orders,
            see ``passes.in_both_orders``.
    """

    config: InferenceConfig
    model: nn.Module
    variables: Any
    others: tuple["Network", ...] = ()
    both_orders: bool = False

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return self.config.dimensions

    @property
    def spacing(self) -> float:
        """The finest voxel size, mm."""
        return self.config.voxel_size

    @functools.cached_property
    def checksum(self) -> str:
        """Of the weights and of how they are used, of all networks: hexadecimal."""
        digest = hashlib.sha256()
        for network in (self, *self.others):
            digest.update(repr(network.config).encode())
            for leaf in jax.tree.leaves(network.variables):
                digest.update(np.asarray(leaf).tobytes())
        return digest.hexdigest()

    @property
    def stages(self) -> tuple["Network", ...]:
        """The network of each pass."""
        sizes = self.others or (self,) * len(self.config.voxel_sizes)
        return (*sizes, sizes[-1]) if self.config.extra_pass else sizes

    def takes_both_orders(self, factor: int) -> bool:
        """Return whether a pass predicts with the images in both orders.

        Args:
            factor: of the pass, one of ``config.factors``.
        """
        return self.both_orders and factor <= _FINE

    @property
    def dense(self) -> bool:
        """Whether there is a prediction for every voxel of a patch, in each pass."""
        if self.others:
            return all(other.dense for other in self.others)
        support = self.model.support
        return support.margin == 0 and support.stride == 1

    def with_effort(
        self, fineness: float, *, repeats: bool = True, both_orders: bool = False
    ) -> "Network":
        """Return the network as it is used with more or fewer predictions.

        Args:
            fineness: factor by which voxels are smaller than the network's own. Above
                1, coarser passes come first, so that the first reaches as far in mm as
                without the factor; not where there is a network for each voxel size.
            repeats: whether the pass at the finest voxel size may be repeated.
            both_orders: as the attribute.

        Returns:
            A network of the same weights.
        """
        sizes = self.config.voxel_sizes
        further = 0
        if not self.others and fineness > 1.0:
            further = math.ceil(math.log2(fineness) - _NEARLY)
        config = dataclasses.replace(
            self.config,
            voxel_sizes=(*(sizes[0] * 2**n for n in range(further, 0, -1)), *sizes),
            extra_pass=self.config.extra_pass and repeats,
        )
        return dataclasses.replace(self, config=config, both_orders=both_orders)

    def predict_patch(self, fixed, moving):
        """Predict the displacements of a patch in a single call of the network.

        Args:
            fixed: ``[*patch, 1]``, scaled to [0, 1] as by ``scale_hounsfield``.
            moving: of the same shape.

        Returns:
            Displacements ``[*predictions, d]``, voxels, fixed to moving, whose
            positions in the patch follow from the model's ``support``; and for each
            the mean of the logarithm of its error in voxels and the logarithm of the
            standard deviation, ``[*predictions, 2]``, or None if the model estimates
            none.
        """
        return _predict_patch(self.variables, fixed, moving, model=self.model)

    def prepare_patch(self, pool: Executor, shape: Sequence[int]) -> None:
        """Begin to compile ``predict_patch``, or to load what was compiled before.

        Args:
            pool: of threads.
            shape: of the patches that will be predicted.
        """
        patch = jax.ShapeDtypeStruct((*shape, 1), jnp.float32)
        _predict_patch.prepare(pool, self.variables, patch, patch, model=self.model)


def make_network(config: InferenceConfig, variables) -> Network:
    """Make a network of its model and its variables.

    Args:
        config: names the model.
        variables: of the model.

    Returns:
        The network.
    """
    model = make_model(config.model, dimensions=config.dimensions)
    return Network(config, model, variables)


def load_network(name: str | Path) -> Network:
    """Load a network that ships, or the newest checkpoint of a training run.

    Args:
        name: of a shipped network, or the ``--workdir`` of a run.

    Returns:
        The network.

    Raises:
        InputError: if no shipped network has the name and the folder holds no run or
            no checkpoint, or if the networks of its stages do not fit.
    """
    config, variables = read_weights(name)
    others = tuple(make_network(*read_weights(each)) for each in config.stage_weights)
    for each, weights in zip(others, config.stage_weights, strict=True):
        if each.config.stage_weights:
            raise InputError(
                f"{weights}: has networks of its own for its voxel sizes; name one that"
                f" serves {name} by itself"
            )
        if each.config.dimensions != config.dimensions:
            raise InputError(
                f"{weights}: is {each.config.dimensions}D and {name} is"
                f" {config.dimensions}D; name networks of one dimension"
            )
    return dataclasses.replace(make_network(config, variables), others=others)


def named_network(
    model: str | os.PathLike | Network | None,
    load: Callable[..., Network] = load_network,
) -> Network | None:
    """Return the network that the option ``model`` names.

    Args:
        model: as in ``RegistrationOptions``.
        load: loads a network by its name or folder.

    Returns:
        The network; None for ``auto`` or None, which depend on the images.

    Raises:
        InputError: as ``load`` does.
    """
    if model is None or isinstance(model, Network):
        return model
    return None if model == AUTO else load(model)


def checksum_of(
    model: str | os.PathLike | Network | None,
    load: Callable[..., Network] = load_network,
) -> str:
    """Return the checksum of the network that the option ``model`` names.

    Args:
        model: as in ``RegistrationOptions``; ``auto`` stands for all that it may take.
        load: as in ``named_network``.

    Returns:
        16 hexadecimal digits, others for other weights.

    Raises:
        InputError: as ``load`` does.
    """
    network = named_network(model, load)
    networks = [network] if network else [load(name) for name in _DEFAULTS.values()]
    joined = "".join(each.checksum for each in networks)
    return hashlib.sha256(joined.encode()).hexdigest()[:16]


def default_network(dimensions: int) -> tuple[str, list[str]]:
    """Return the default network for images of a dimension.

    Args:
        dimensions: 2 or 3.

    Returns:
        Its name, and notices of the choice for the user, one line each.
    """
    name = _DEFAULTS[dimensions]
    notice = f"the images are 2D and no model was named, so {name} was used"
    return name, [notice] if dimensions == 2 else []
