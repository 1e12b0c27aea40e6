"""The displacement field of two images of any size, by any network."""

import itertools

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from regnet_jax.geometry import upsample
from regnet_jax.models.preprocessing import scale_hounsfield
from regnet_jax.registration.network import Network
from regnet_jax.registration.passes import predict_in_passes

# Lattice points of a tile on each axis, for 2D and 3D: one compiled program then
# serves every image, the halo costs little, and a tile fits in 2 GiB.
_TILE = {2: 129, 3: 33}


def _tiles(points: int, tile: int) -> range:
    """Starts of tiles that cover a number of lattice points."""
    return range(0, points, tile)


def predict(network: Network, fixed, moving, *, progress: bool = False):
    """Predicts the displacement field of two images.

    Args:
        network: from ``load_network``.
        fixed: ``[*spatial]``, HU, at the finest voxel size of the network.
        moving: ``[*spatial]``, on the same grid.
        progress: show a bar where there is something to wait for.

    Returns:
        ``[*spatial, d]`` float32, voxels, fixed to moving.
    """
    if network.dense:
        return predict_in_passes(network, fixed, moving)
    return predict_displacement(network, fixed, moving, progress=progress)


def predict_displacement(network: Network, fixed, moving, *, progress: bool = False):
    """Predicts the field in one shot, tile by tile.

    The network gives a vector at every second voxel, which is interpolated
    linearly. Tiles overlap by the whole receptive field, so there are no seams.

    Args:
        network: from ``load_network``.
        fixed: ``[*spatial]``, HU, at the voxel size of the network.
        moving: ``[*spatial]``, on the same grid.
        progress: show a bar.

    Returns:
        ``[*spatial, d]`` float32, voxels, fixed to moving.
    """
    data, shape = network.config.data, fixed.shape
    tile = _TILE[len(shape)]
    window = 2 * data.margin + data.stride * (tile - 1) + 1
    # One point beyond the last voxel, so that none is extrapolated.
    points = [n // data.stride + 1 for n in shape]
    pads = [
        (data.margin, data.stride * _tiles(n, tile)[-1] + window - size - data.margin)
        for n, size in zip(points, shape, strict=True)
    ]
    images = [_padded(image, pads) for image in (fixed, moving)]
    lattice = np.zeros((*points, len(shape)), np.float32)
    starts = list(itertools.product(*(_tiles(n, tile) for n in points)))
    for start in tqdm(starts, "predicting", unit="tile", disable=not progress):
        cut = tuple(slice(data.stride * s, data.stride * s + window) for s in start)
        field = network.apply(
            network.variables, *(image[cut][None, ..., None] for image in images)
        )
        target = lattice[tuple(slice(s, s + tile) for s in start)]
        target[...] = np.asarray(field)[0][tuple(slice(n) for n in target.shape[:-1])]
    return np.asarray(upsample(jnp.asarray(lattice), data.stride, shape))


def _padded(image, pads):
    """Scaled intensities, continued by the edge to whole tiles."""
    image = np.asarray(scale_hounsfield(np.asarray(image, np.float32)))
    return np.pad(image, pads, mode="edge")
