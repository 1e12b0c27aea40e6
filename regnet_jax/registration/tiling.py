"""Coarse-to-fine prediction tile by tile, of what does not fit in memory at once."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from regnet_jax.geometry import downsample, identity_grid, sample, upsample_field
from regnet_jax.models.arithmetic import cost, window_of
from regnet_jax.registration.network import Network
from regnet_jax.registration.passes import (
    continue_on_host,
    doubt_of,
    doubted,
    fill_each_other,
)
from regnet_jax.registration.planning import Plan, plan_tiles
from regnet_jax.registration.programs import program

# What a voxel of a window takes beside the network: points, the warped image, fields.
_AROUND = 60.0
# Compilers do not free as early as the count has it, and fast convolutions copy.
_LOOSE = 1.15
# GiB that the process has before it does anything.
_RUNTIME = 0.7
# The part of a cap that is planned for; the allocator keeps the rest of what was freed.
_PLANNED = 0.9
_GIB = 2**30


def bytes_per_voxel(model) -> float:
    """What a voxel of a window takes while a network looks at it.

    Args:
        model: a network of ``models.registry``.

    Returns:
        Bytes, counted on a window of a common size.
    """
    size = window_of(model.support, 48 // model.support.stride)
    window = (size,) * model.dimensions
    return _LOOSE * cost(model, window).live / size**model.dimensions + _AROUND


def memory_of_a_tile(memory: float, *, held: float) -> float:
    """What a cap leaves to a tile.

    Args:
        memory: cap for the process, GiB.
        held: bytes of the images and fields that are held all the time.

    Returns:
        GiB, less than zero if those alone take more.
    """
    return _PLANNED * memory - _RUNTIME - held / _GIB


def tiled_passes(
    network: Network,
    fixed,
    moving,
    factors: Sequence[int],
    *,
    memory: float,
    progress: bool = False,
) -> np.ndarray:
    """Does what ``passes.passes`` does, a tile at a time.

    A tile sees all that its answers depend on, and is warped by the whole field of
    the pass before. So the fields are the same.

    Args:
        network: that answers at every voxel.
        fixed: ``[*spatial, 1]``, scaled as in training; or ``[*spatial, 2]``, see
            ``passes``.
        moving: of the same shape, on the same grid.
        factors: voxel sizes of the passes, in voxels of the images; each a multiple
            of the next.
        memory: for a tile, GiB.
        progress: show a bar.

    Returns:
        ``[*spatial, d]`` float32, voxels.

    Raises:
        InputError: if the cap is too small.
    """
    model, shape = network.model, fixed.shape[:-1]
    room = {"bytes_per_voxel": bytes_per_voxel(model), "memory": memory}
    doubt = np.float32(doubt_of(network))
    field, last = np.zeros((*(1,) * len(shape), len(shape)), np.float32), None
    for factor in factors:
        if factor != last:
            images = [_coarsened(image, factor) for image in (fixed, moving)]
            plan = plan_tiles(model.support, images[0].shape[:-1], **room)
        step = functools.partial(_tile, network.variables, doubt, model=model)
        label = f"predicting, voxel {factor}"
        ratio = (last or factor) // factor
        field = _by_tiles(step, *images, field, ratio, plan, label, progress)
        last = factor
    if last == 1:
        return field
    return np.asarray(upsample_field(jnp.asarray(field), last, shape))


_coarsened = jax.jit(downsample, static_argnums=1)


def _by_tiles(step, fixed, moving, coarse, ratio, plan: Plan, label, progress):
    """The field of a pass after that of the passes before."""
    *shape, channels = fixed.shape
    fixed, coarse = np.asarray(fixed), jnp.asarray(coarse)
    # The field, and in one more channel where both images show something.
    field = np.empty((*shape, len(shape) + channels - 1), np.float32)
    for tile in tqdm(plan.tiles, label, unit="tile", disable=not progress):
        starts = [axis.start for axis in tile]
        window = _cut(fixed, starts, plan.window)
        answer = np.asarray(
            step(
                window, moving, coarse, np.asarray(starts, np.int32), np.float32(ratio)
            )
        )
        taken = tuple(slice(t.skip, t.skip + t.count) for t in tile)
        field[tuple(slice(t.first, t.first + t.count) for t in tile)] = answer[taken]
    if channels == 1:
        return field
    return np.asarray(continue_on_host(field[..., :-1], field[..., -1:] > 0.5))


def _cut(image, starts, window):
    """A window, continued by the edge of the image."""
    part = image[tuple(slice(s, s + n) for s, n in zip(starts, window, strict=True))]
    pads = [(0, n - m) for n, m in zip(window, part.shape[:-1], strict=True)]
    return np.pad(part, [*pads, (0, 0)], mode="edge")


@functools.partial(program, static_argnames=("model",))
def _tile(variables, doubt, window, moving, coarse, start, ratio, *, model):
    """A pass over a window: ``u(x) + v(x + u(x))``, with the field ``v`` so far.

    ``v`` stays on the grid of its own pass: between its voxels it is as linear as it
    is between voxels of a finer grid.
    """
    axes = (1,) * start.size + (-1,)
    last = jnp.asarray(moving.shape[:-1], jnp.float32).reshape(axes) - 1.0
    points = identity_grid(window.shape[:-1]) + start.reshape(axes)
    points = jnp.clip(points, 0.0, last)

    def before(points):
        return ratio * sample(coarse, jnp.clip(points, 0.0, last) / ratio)

    images, shown = (window, sample(moving, points + before(points))), []
    if window.shape[-1] == 2:
        *images, both = fill_each_other(*images)
        shown = [both.astype(jnp.float32)]
    found = model.apply(variables, *(image[None] for image in images), train=False)
    found = doubted(found[0], doubt)
    return jnp.concatenate([found + before(points + found), *shown], axis=-1)
