"""The networks by name."""

import dataclasses

import jax
import jax.numpy as jnp

from regnet_jax.errors import InputError
from regnet_jax.models.corrnet import CorrNet
from regnet_jax.models.cropped_unet import CroppedUNet
from regnet_jax.models.multiview import MultiView
from regnet_jax.models.regnet import RegNet, SingleScaleRegNet
from regnet_jax.models.unet import UNet

MODELS = {
    "regnet": RegNet,
    "regnet_single": SingleScaleRegNet,
    "unet": UNet,
    "multiview": MultiView,
    "cropped_unet": CroppedUNet,
    "corrnet": CorrNet,
}


def make_model(name: str, *, dimensions: int, **options):
    """Build a network.

    Args:
        name: a key of ``MODELS``.
        dimensions: 2 or 3.
        **options: attributes of the network's module.

    Returns:
        A Flax module, called with (fixed, moving, train=...).

    Raises:
        InputError: if no network has that name, that dimension or such an option.
    """
    if name not in MODELS:
        raise InputError(f"model {name!r}: unknown; there are {', '.join(MODELS)}")
    if dimensions not in (2, 3):
        raise InputError(f"model {name!r}: dimensions are 2 or 3, not {dimensions}")
    attributes = {field.name for field in dataclasses.fields(MODELS[name])}
    known = sorted(attributes - {"dimensions", "parent", "name"})
    for option in options:
        if option not in known:
            known = ", ".join(known)
            raise InputError(f"model {name!r}: no option {option!r}; there are {known}")
    return MODELS[name](dimensions=dimensions, **options)


def inflate(plane, volume, *, noise: float = 0.3):
    """Put the weights of a 2D network into its 3D sibling.

    Kernels become the middle planes along z, so that the predictions for (y, x) stay
    as they were. The other taps and the displacement along z start from small random
    numbers.

    Args:
        plane: variables of the 2D network.
        volume: variables of the 3D network, freshly initialised; of the same layers,
            all of whose kernels are ``[*taps, c_in, c_out]``.
        noise: factor of the fresh kernels where the 2D network has no weights. Without
            noise no feature would tell up from down.

    Returns:
        Variables like ``volume``.
    """

    def fill(path, old, new):
        new = jnp.asarray(new)
        if path[-1].key != "kernel":
            # A bias of the last layer has an entry for each component.
            return new.at[new.shape[0] - old.shape[0] :].set(old)
        outputs = slice(new.shape[-1] - old.shape[-1], None)
        return (noise * new).at[new.shape[0] // 2, ..., outputs].set(old)

    return jax.tree_util.tree_map_with_path(fill, plane, volume)
