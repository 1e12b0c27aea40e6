"""The displacement field of two images of any size, by any network."""

import math

import jax.numpy as jnp
import numpy as np

from regnet_jax.hounsfield import AIR, scale_hounsfield
from regnet_jax.registration.inference.boxes import find_body
from regnet_jax.registration.inference.network import Network
from regnet_jax.registration.inference.passes import (
    continue_field,
    fill_each_other,
    run_passes,
    whole_pass,
)
from regnet_jax.registration.inference.tiles import (
    memory_of_a_tile,
    predict_lattice,
    tiled_pass,
)


def predict(
    network: Network,
    fixed,
    moving,
    *,
    shown=(None, None),
    memory: float | None = None,
    progress: bool = False,
):
    """Predict the displacement field of two images.

    Args:
        network: from ``load_network``.
        fixed: ``[*spatial]``, HU, at the finest voxel size of the network.
        moving: ``[*spatial]``, on the same grid.
        shown: bool ``[*spatial]`` of both images, where they show something. Elsewhere
            the field is continued smoothly. None for both if that is everywhere.
        memory: limit of the process, GiB, including images and interpreter; a
            prediction that needs more is computed tile by tile. None sets no limit.
        progress: show a progress bar while tiles are predicted.

    Returns:
        ``[*spatial, d]`` float32, voxels, fixed to moving.

    Raises:
        InputError: if not even the smallest tiles fit.
    """
    if network.dense:
        return _predict_in_passes(network, fixed, moving, shown, memory, progress)
    options = {"memory": memory, "progress": progress}
    pairs = zip((fixed, moving), shown, strict=True)
    images = [_scaled_channels(*pair) for pair in pairs]
    if shown[0] is None:
        return predict_lattice(network, *images, **options)
    *images, both = (np.asarray(image) for image in fill_each_other(*images))
    field = predict_lattice(network, *images, **options)
    return np.asarray(continue_field(field, both))


def _predict_in_passes(network: Network, fixed, moving, shown, memory, progress):
    """Predict coarse to fine within the box of the body, at once or by tiles."""
    box = find_body(fixed)
    images = [
        _scaled_channels(
            box.crop(image, AIR), None if where is None else box.crop(where, 0.0)
        )
        for image, where in zip((fixed, moving), shown, strict=True)
    ]
    factors, shrinkage = network.config.factors, network.config.shrinkage
    if memory is None:
        run_pass = whole_pass(network.predict_patch, shrinkage)
    else:
        held = _bytes_held(fixed, images[0].shape, factors)
        room = memory_of_a_tile(memory, held=held)
        run_pass = tiled_pass(network, memory=room, progress=progress)
    return box.restore(run_passes(run_pass, *images, factors=factors))


def _bytes_held(fixed, shape, factors) -> float:
    """Return the bytes of images and fields that are held in addition to a tile.

    These are the two given images, the two that the network takes, the fields of the
    last two passes, and a copy of the field while it is continued.
    """
    *box, channels = shape
    fields = fixed.ndim * sum(factor**-fixed.ndim for factor in factors[-2:])
    fields += (channels - 1) * (fixed.ndim + 1)
    return 4 * (2 * fixed.size + (2 * channels + fields) * math.prod(box))


def _scaled_channels(image, shown) -> np.ndarray:
    """Stack scaled intensities and, where given, ``shown``: ``[*spatial, 1 or 2]``."""
    scaled = np.asarray(scale_hounsfield(jnp.asarray(image, jnp.float32)))
    channels = [scaled] if shown is None else [scaled, np.asarray(shown, np.float32)]
    return np.stack(channels, axis=-1)
