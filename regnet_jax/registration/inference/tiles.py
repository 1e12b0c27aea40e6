"""Where the tiles of a prediction lie, so that they fit in memory and cost least."""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from regnet_jax.errors import InputError
from regnet_jax.geometry import downsample, identity_grid, sample, upsample_field
from regnet_jax.models.cost import cost, window_of
from regnet_jax.models.support import Support
from regnet_jax.registration.inference.network import Network, program
from regnet_jax.registration.inference.passes import (
    continue_on_host,
    doubt_of,
    doubted,
    fill_each_other,
)

# Windows of an axis that are tried.
_MOST = 40
_GIB = 2**30


@dataclass(frozen=True)
class Tile:
    """A window on an axis and the answers that are taken from it.

    Attributes:
        start: first voxel of the window, of the images with the network's margin
            before their first voxel.
        skip: answers of the window before the first that is taken.
        first: its place among all answers.
        count: answers that are taken.
    """

    start: int
    skip: int
    first: int
    count: int


@dataclass(frozen=True)
class Plan:
    """The windows of a prediction, all of one shape.

    Attributes:
        window: shape, voxels.
        axes: the tiles of each axis; a tile of the prediction is one of each.
    """

    window: tuple[int, ...]
    axes: tuple[tuple[Tile, ...], ...]

    @property
    def extent(self) -> list[int]:
        """Voxels that the windows reach over, on each axis."""
        ends = zip(self.axes, self.window, strict=True)
        return [axis[-1].start + size for axis, size in ends]

    @property
    def tiles(self) -> list[tuple[Tile, ...]]:
        """All tiles: of each, its part on every axis."""
        return list(itertools.product(*self.axes))


def plan_tiles(
    support: Support, answers: Sequence[int], *, bytes_per_voxel: float, memory: float
) -> Plan:
    """The windows that compute the fewest voxels within a cap of memory.

    Tiles see all that their answers depend on, start at multiples of the network's
    period, and meet the border of the images where the images themselves do. So the
    answers are those of a single window.

    Args:
        support: of the network.
        answers: that are wanted, on each axis.
        bytes_per_voxel: what a voxel of a window takes while it is computed.
        memory: for a window, GiB.

    Returns:
        The plan; a single tile where all fits.

    Raises:
        InputError: if not even the smallest windows fit.
    """
    voxels = memory * _GIB / bytes_per_voxel
    choices = [_choices(support, n) for n in answers]
    fitting = (c for c in itertools.product(*choices) if _volume(c) <= voxels)
    best = min(fitting, key=lambda c: _volume(c) * _count(c), default=None)
    if best is None:
        least = min(map(_volume, itertools.product(*choices)))
        needed = least * bytes_per_voxel / _GIB + 0.05
        raise InputError(
            f"{max(memory, 0):.1f} GiB of memory for a tile: the smallest of this"
            f" network takes {needed:.1f}; allow more or coarser voxels"
        )
    axes = (_tiles(support, n, w) for n, (_, w) in zip(answers, best, strict=True))
    return Plan(tuple(window for _, window in best), tuple(axes))


def plan_equal(support: Support, answers: Sequence[int], tile: int) -> Plan:
    """Windows of a given number of answers on every axis.

    Args:
        support: of a network with a margin.
        answers: that are wanted, on each axis.
        tile: answers of a window, whole periods of the network.

    Returns:
        The plan.
    """
    window = window_of(support, tile)
    return Plan(
        (window,) * len(answers), tuple(_tiles(support, n, window) for n in answers)
    )


def _volume(choice) -> int:
    return math.prod(window for _, window in choice)


def _count(choice) -> int:
    return math.prod(count for count, _ in choice)


def _halo(support: Support) -> int:
    """Voxels within a window whose answers its border reaches; whole periods."""
    return 0 if support.margin else support.period * -(-support.reach // support.period)


def _choices(support: Support, answers: int) -> list[tuple[int, int]]:
    """Numbers of windows and the smallest windows that then do, each size once."""
    smallest = {}
    for count in range(_MOST, 0, -1):
        # The windows share the answers; each but the outermost loses a halo twice.
        share = -(-(answers + 2 * _halo(support) * (count - 1)) // count)
        step = support.period // math.gcd(support.period, support.stride)
        window = window_of(support, step * -(-share // step))
        if count == 1 or window > 2 * _halo(support):
            smallest[window] = count
    return [(count, window) for window, count in smallest.items()]


def _tiles(support: Support, answers: int, window: int) -> tuple[Tile, ...]:
    halo = _halo(support)
    given = (window - 2 * support.margin - 1) // support.stride + 1
    step = support.period // math.gcd(support.period, support.stride)
    last = step * -(-max(answers - given, 0) // step)
    tiles, done = [], 0
    while done < answers:
        # As far on as lets the halo lie before what is not done yet.
        start = min(last, max(0, (done - halo) // step * step))
        end = start + given - halo if start < last else answers
        count = min(end, answers) - done
        tiles.append(Tile(start * support.stride, done - start, done, count))
        done += count
    return tuple(tiles)


# What a voxel of a window takes beside the network: points, the warped image, fields.
_AROUND = 60.0
# Compilers do not free as early as the count has it, and fast convolutions copy.
_LOOSE = 1.15
# GiB that the process has before it does anything.
_RUNTIME = 0.7
# The part of a cap that is planned for; the allocator keeps the rest of what was freed.
_PLANNED = 0.9


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
