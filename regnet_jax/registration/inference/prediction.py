"""The displacement field of two images of any size, by any network."""

import math

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from regnet_jax.geometry import upsample
from regnet_jax.hounsfield import AIR, scale_hounsfield
from regnet_jax.registration.inference.boxes import body_region
from regnet_jax.registration.inference.network import Network
from regnet_jax.registration.inference.passes import (
    continue_on_host,
    fill_each_other,
    pass_factors,
    predict_in_passes,
    with_shown,
)
from regnet_jax.registration.inference.tiles import (
    bytes_per_voxel,
    memory_of_a_tile,
    plan_equal,
    plan_tiles,
    tiled_passes,
)

# Without a cap, answers of a tile on each axis, for 2D and 3D: one compiled program
# then serves every image, the halo costs little, and a tile fits in 2 GiB.
_TILE = {2: 128, 3: 32}


def predict(
    network: Network,
    fixed,
    moving,
    *,
    shown=(None, None),
    memory: float | None = None,
    progress: bool = False,
):
    """Predicts the displacement field of two images.

    Args:
        network: from ``load_network``.
        fixed: ``[*spatial]``, HU, at the finest voxel size of the network.
        moving: ``[*spatial]``, on the same grid.
        shown: bool ``[*spatial]`` of both images, where they show something. Elsewhere
            the field is continued smoothly. None for both if that is everywhere.
        memory: the most that the process should hold, GiB, images and interpreter
            included; what does not fit at once is computed tile by tile, and all of
            the body with the finest voxels. None takes what it takes.
        progress: show a bar where there is something to wait for.

    Returns:
        ``[*spatial, d]`` float32, voxels, fixed to moving.

    Raises:
        InputError: if not even the smallest tiles fit.
    """
    options = {"memory": memory, "progress": progress}
    if not network.dense:
        return _predict_at_once(network, fixed, moving, shown, options)
    if memory is None:
        return predict_in_passes(network, fixed, moving, shown)
    return predict_by_tiles(network, fixed, moving, shown, **options)


def _predict_at_once(network: Network, fixed, moving, shown, options):
    """A single pass; where an image shows nothing it gets the other's values."""
    if shown[0] is None:
        return predict_displacement(network, fixed, moving, **options)
    pairs = zip((fixed, moving), shown, strict=True)
    *images, both = fill_each_other(*(with_shown(*pair) for pair in pairs))
    images = (np.asarray(image[..., 0]) for image in images)
    field = predict_displacement(network, *images, **options)
    return np.asarray(continue_on_host(field, both))


def predict_by_tiles(
    network: Network, fixed, moving, shown, *, memory: float, progress: bool
):
    """Predicts with a network that answers at every voxel, coarse to fine, by tiles.

    Args:
        network: from ``load_network``.
        fixed: ``[*spatial]``, HU, at the finest voxel size of the network.
        moving: ``[*spatial]``, on the same grid.
        shown: as for ``predict``.
        memory: cap for the process, GiB.
        progress: show a bar.

    Returns:
        ``[*spatial, d]`` float32, voxels, fixed to moving.
    """
    region = body_region(fixed)
    images = [
        _channels(region, image, where)
        for image, where in zip((fixed, moving), shown, strict=True)
    ]
    factors = pass_factors(network)
    # Two images as given, two as seen, and the fields of the last two passes; another
    # field while it is continued.
    *box, channels = images[0].shape
    fields = fixed.ndim * sum(factor**-fixed.ndim for factor in factors[-2:])
    fields += (channels - 1) * (fixed.ndim + 1)
    held = 4 * (2 * fixed.size + (2 * channels + fields) * math.prod(box))
    field = tiled_passes(
        network,
        *images,
        factors,
        memory=memory_of_a_tile(memory, held=held),
        progress=progress,
    )
    return region.restore(field)


def predict_displacement(
    network: Network,
    fixed,
    moving,
    *,
    memory: float | None = None,
    progress: bool = False,
):
    """Predicts the field in one shot, tile by tile, by a network without padding.

    The network gives a vector at every voxel, or at every second one, between which
    it is interpolated linearly. Tiles overlap by the whole receptive field and start
    at whole periods of the network, so there are no seams.

    Args:
        network: from ``load_network``.
        fixed: ``[*spatial]``, HU, at the voxel size of the network.
        moving: ``[*spatial]``, on the same grid.
        memory: cap for the process, GiB; None for tiles of a common size.
        progress: show a bar.

    Returns:
        ``[*spatial, d]`` float32, voxels, fixed to moving.
    """
    support, shape = network.model.support, fixed.shape
    # One point beyond the last voxel where none lies on it: nothing is extrapolated.
    points = [-(-(n - 1) // support.stride) + 1 for n in shape]
    plan = _plan(network.model, shape, points, memory)
    pads = [
        (support.margin, max(end - n - support.margin, 0))
        for n, end in zip(shape, plan.extent, strict=True)
    ]
    images = [_padded(image, pads) for image in (fixed, moving)]
    lattice = np.empty((*points, len(shape)), np.float32)
    for tile in tqdm(plan.tiles, "predicting", unit="tile", disable=not progress):
        starts = zip(tile, plan.window, strict=True)
        cut = tuple(slice(axis.start, axis.start + size) for axis, size in starts)
        windows = (image[cut][None, ..., None] for image in images)
        field = np.asarray(network.apply(network.variables, *windows))[0]
        taken = tuple(slice(t.skip, t.skip + t.count) for t in tile)
        lattice[tuple(slice(t.first, t.first + t.count) for t in tile)] = field[taken]
    return np.asarray(upsample(jnp.asarray(lattice), support.stride, shape))


def _plan(model, shape, points, memory):
    if memory is None:
        return plan_equal(model.support, points, _TILE[len(shape)])
    # Two images as given, two as seen, and the answers twice.
    held = 4 * (4 * math.prod(shape) + 2 * len(shape) * math.prod(points))
    room = memory_of_a_tile(memory, held=held)
    size = bytes_per_voxel(model)
    return plan_tiles(model.support, points, bytes_per_voxel=size, memory=room)


def _channels(region, image, shown) -> np.ndarray:
    """What ``with_shown`` gives of the region, on the host."""
    channels = [_scaled(region.cut(image, AIR))]
    channels += [] if shown is None else [region.cut(shown, 0.0)]
    return np.stack(channels, axis=-1)


def _scaled(image):
    """Intensities as the networks take them, on the host."""
    return np.asarray(scale_hounsfield(np.asarray(image, np.float32)))


def _padded(image, pads):
    """Scaled intensities, continued by the edge to whole tiles."""
    return np.pad(_scaled(image), pads, mode="edge")
