"""Prediction tile by tile, which gives the same fields as whole images.

For networks that predict at every voxel ``tiled_pass`` is a pass for
``passes.run_passes``. Networks with a margin always predict by tiles:
``predict_lattice`` is the prediction of whole images for ``passes.whole_pass``.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax
from tqdm import tqdm

from regnet_jax.geometry import ceil_div, identity_grid, sample, upsample
from regnet_jax.registration.inference.network import (
    Network,
    apply_model,
    estimates_errors,
)
from regnet_jax.registration.inference.passes import (
    bring_to,
    compose_whole,
    continue_whole,
    fill_each_other,
    join_orders,
    mirror,
    settle,
    settle_whole,
)
from regnet_jax.registration.inference.programs import KeptProgram
from regnet_jax.registration.inference.tile_plan import (
    Plan,
    bytes_per_voxel,
    plan_equal,
    plan_tiles,
)


def tiled_pass(
    network: Network,
    shrinkage: float = 0.0,
    *,
    memory: float,
    pooled: bool = False,
    both_orders: bool = False,
    progress: bool = False,
) -> Callable:
    """Build a pass by tiles, for ``run_passes``.

    A tile holds all voxels that its predictions depend on, and is warped by the whole
    field of the earlier passes. So the fields equal those of ``whole_pass``.

    Args:
        network: one that predicts at every voxel.
        shrinkage: see ``passes.settle``.
        memory: for a tile, GiB.
        pooled: see ``passes.settle``.
        both_orders: see ``passes.in_both_orders``; the last axis must then be a
            multiple of the network's period, so that mirrored tiles are aligned.
        progress: show a progress bar for each pass.

    Returns:
        ``run_pass``; it raises InputError if the memory is not enough.
    """
    model = network.model
    size = bytes_per_voxel(model, both_orders=both_orders)
    room = {"bytes_per_voxel": size, "memory": memory}
    # Surroundings reach beyond a tile, so that the whole prediction is pooled.
    later = pooled and estimates_errors(model)
    half = np.float32(shrinkage)
    options = {"model": model, "settled": not later, "both_orders": both_orders}
    predict_tile = functools.partial(_predict_tile, network.variables, half, **options)

    def run_pass(fixed, moving, field, ratio):
        *shape, channels = fixed.shape
        d = len(shape)
        plan = plan_tiles(model.support, shape, **room)
        fixed = np.asarray(fixed)
        coarse = jnp.zeros((*(1,) * d, d)) if field is None else jnp.asarray(field)
        # Displacements; their errors for later; where both images show something.
        ends = d, d + 2 * later
        found = np.empty((*shape, ends[1] + channels - 1), np.float32)
        for tile in tqdm(plan.tiles, "predicting", unit="tile", disable=not progress):
            starts = np.asarray([axis.start for axis in tile], np.int32)
            patch = crop_patch(fixed, starts, plan.patch)
            values = predict_tile(patch, moving, coarse, starts, np.float32(ratio))
            store_tile(found, np.asarray(values), tile)
        total, errors, shown = np.split(found, ends, axis=-1)
        if later:
            total = settle_whole(total, errors, half, pooled=True)
            total = compose_whole(total, bring_to(field, ratio, shape))
        if channels == 2:
            total = continue_whole(total, shown > 0.5)
        return np.asarray(total)

    return run_pass


@functools.partial(KeptProgram, static_argnames=("model", "settled", "both_orders"))
def _predict_tile(
    variables,
    shrinkage,
    fixed,
    moving,
    coarse,
    start,
    ratio,
    *,
    model,
    settled: bool,
    both_orders: bool,
):
    """Return ``u(x) + v(x + u(x))`` on a patch, with the field ``v`` so far.

    Not ``settled``, it is ``u(x)`` and its errors as they are predicted.

    ``v`` is sampled on the grid of its own pass: upsampling it to the finer grid is
    linear as well and would give the same values.
    """
    axes = (1,) * start.size + (-1,)
    last = jnp.asarray(moving.shape[:-1], jnp.float32).reshape(axes) - 1.0
    points = identity_grid(fixed.shape[:-1]) + start.reshape(axes)
    points = jnp.clip(points, 0.0, last)

    def field_so_far(points):
        return ratio * sample(coarse, jnp.clip(points, 0.0, last) / ratio)

    # One channel after the other, and before the network: XLA would hold the neighbours
    # of all points in both channels while it computes.
    places = lax.optimization_barrier(points + field_so_far(points))
    warped = lax.map(
        lambda channel: sample(channel[..., None], places)[..., 0],
        jnp.moveaxis(moving, -1, 0),
    )
    images, shown = (fixed, jnp.moveaxis(warped, 0, -1)), []
    if fixed.shape[-1] == 2:
        *images, both = fill_each_other(*images)
        shown = [both.astype(jnp.float32)]
    found, errors = apply_model(variables, *images, model=model)
    if both_orders:
        exchanged = (mirror(image) for image in reversed(images))
        back = apply_model(variables, *exchanged, model=model)
        found, errors = join_orders(found, errors, *back)
    if not settled:
        return jnp.concatenate([found, errors, *shown], axis=-1)
    found = settle(found, errors, shrinkage, pooled=False)
    total = found + field_so_far(points + found)
    return jnp.concatenate([total, *shown], axis=-1)


def crop_patch(image, starts, shape) -> np.ndarray:
    """Crop a patch, with the image continued by its edge values."""
    box = tuple(slice(s, s + n) for s, n in zip(starts, shape, strict=True))
    crop = image[box]
    pads = [(0, n - m) for n, m in zip(shape, crop.shape[:-1], strict=True)]
    return np.pad(crop, [*pads, (0, 0)], mode="edge")


def store_tile(field: np.ndarray, values: np.ndarray, tile) -> None:
    """Write the predictions that are used from a patch into the field."""
    taken = tuple(slice(t.skip, t.skip + t.count) for t in tile)
    field[tuple(slice(t.first, t.first + t.count) for t in tile)] = values[taken]


def predict_lattice(
    network: Network,
    fixed,
    moving,
    *,
    memory: float | None = None,
    progress: bool = False,
    plan: Plan | None = None,
) -> tuple[np.ndarray, None]:
    """Predict a field in one pass, by a network without padding.

    The network predicts a vector at every voxel, or at every second one with linear
    interpolation between. Patches overlap by the whole receptive field and start at
    multiples of the network's period, so there are no seams.

    Args:
        network: with a margin.
        fixed: ``[*spatial, 1]``, scaled to [0, 1], at the voxel size of the network.
        moving: of the same shape, on the same grid.
        memory: for a tile, GiB; None takes the tile of ``network.config``.
        progress: show a progress bar.
        plan: of the tiles; None chooses it.

    Returns:
        ``[*spatial, d]`` float32, voxels, fixed to moving; and None, as such networks
        estimate no errors.
    """
    support, shape = network.model.support, fixed.shape[:-1]
    # One point beyond the last voxel unless one lies on it, so none is extrapolated.
    points = [ceil_div(n - 1, support.stride) + 1 for n in shape]
    plan = plan or _plan_lattice(network, points, memory)
    pads = [
        (support.margin, max(end - n - support.margin, 0))
        for n, end in zip(shape, plan.extent, strict=True)
    ]
    images = [np.pad(image, [*pads, (0, 0)], mode="edge") for image in (fixed, moving)]
    lattice = np.empty((*points, len(shape)), np.float32)
    for tile in tqdm(plan.tiles, "predicting", unit="tile", disable=not progress):
        starts = [axis.start for axis in tile]
        patches = (crop_patch(image, starts, plan.patch) for image in images)
        store_tile(lattice, np.asarray(network.predict_patch(*patches)[0]), tile)
    return np.asarray(upsample(jnp.asarray(lattice), support.stride, shape)), None


def _plan_lattice(network: Network, points, memory: float | None) -> Plan:
    support = network.model.support
    if memory is None:
        return plan_equal(support, points, network.config.tile)
    size = bytes_per_voxel(network.model)
    return plan_tiles(support, points, bytes_per_voxel=size, memory=memory)
