"""The networks by name."""

import dataclasses
import functools
import operator
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.geometry.slices import SLICE_AXES
from regnet_jax.models.corrnet import ConfidentCorrNet, CorrNet
from regnet_jax.models.cropped_unet import CroppedUNet
from regnet_jax.models.multiview import MultiView
from regnet_jax.models.regnet import (
    HalfRegNet,
    HalfSingleScaleRegNet,
    RegNet,
    SingleScaleRegNet,
)
from regnet_jax.models.unet import UNet

MODELS = {
    "regnet": RegNet,
    "regnet_half": HalfRegNet,
    "regnet_single": SingleScaleRegNet,
    "regnet_single_half": HalfSingleScaleRegNet,
    "unet": UNet,
    "multiview": MultiView,
    "cropped_unet": CroppedUNet,
    "corrnet": CorrNet,
    "corrnet_confident": ConfidentCorrNet,
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


# Networks that two 2D networks of half the features can be put into, and the latter.
HALVES = {"regnet": "regnet_half", "regnet_single": "regnet_single_half"}
# Layers of RegNet that take two sets of features side by side: those of both images,
# at either resolution, and those of both resolutions.
_JOINS = ("Conv_6", "Conv_14", "Conv_20")


def inflate_planes(planes: Mapping[str, Any], volume, *, noise: float = 0.1):
    """Put the weights of two 2D networks of half the features into a 3D RegNet.

    The first half of the features of every layer comes from one network and the second
    from the other, each as the middle plane of the 3D kernels across its slices. The
    3D network then predicts every component of the displacement before it is trained
    in 3D: those within the slices of both networks as their mean.

    Args:
        planes: variables of ``regnet_half`` (or of the other in ``HALVES``) in 2D by
            the slices that it was trained on, keys of ``geometry.slices.SLICE_AXES``;
            two of them.
        volume: variables of ``regnet`` (or of the other) in 3D, freshly initialised.
        noise: factor of the fresh kernels where neither network has weights.

    Returns:
        Variables like ``volume``.
    """
    last = f"Conv_{sum(name.startswith('Conv_') for name in volume['params']) - 1}"

    def fill(path, fresh):
        *_, layer, kind = names = [step.key for step in path]
        new = np.array(fresh, np.float32)
        if kind == "kernel" or layer == last:
            new *= noise
        for half, (axis, variables) in enumerate(planes.items()):
            old = np.asarray(functools.reduce(operator.getitem, names, variables))
            across = SLICE_AXES[axis]
            if layer == last:
                outputs = [a for a in range(3) if a != across]
                # A component that both predict gets the mean of both.
                old = old / [sum(a != SLICE_AXES[p] for p in planes) for a in outputs]
            else:
                outputs = _block(new.shape[-1], np.shape(old)[-1], half)
            if kind != "kernel":
                new[outputs] = old + (new[outputs] if layer == last else 0.0)
                continue
            sets = 2 if layer in _JOINS else 1
            inputs = _block(new.shape[-2], np.shape(old)[-2], half, sets=sets)
            middle = [slice(None)] * 3
            middle[across] = new.shape[across] // 2
            taps = new[tuple(middle)]
            taps[np.ix_(*map(range, taps.shape[:2]), inputs, outputs)] = old
        return new

    return jax.tree_util.tree_map_with_path(fill, volume)


def _block(total: int, own: int, half: int, *, sets: int = 1) -> list[int]:
    """Return the channels of a layer that belong to one of two networks.

    Args:
        total: channels of the layer.
        own: channels of the same layer of the network.
        half: 0 for the first network, 1 for the second.
        sets: sets of features that lie side by side, of each of which it has a block.

    Returns:
        ``own`` indices; the image itself, a single channel, belongs to both.
    """
    n, m = total // sets, own // sets
    start = 0 if n == m else half * m
    return [s * n + start + i for s in range(sets) for i in range(m)]
