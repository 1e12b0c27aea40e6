"""Where the tiles of a prediction lie, so that they fit in memory and cost least."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from regnet_jax.errors import InputError
from regnet_jax.geometry import ceil_div
from regnet_jax.models.cost import cost, window_of
from regnet_jax.models.support import Support

# Numbers of patches along an axis that are tried, at most.
_MOST = 40
GIB = 2**30


@dataclass(frozen=True)
class Tile:
    """A patch along one axis and the predictions that are taken from it.

    Attributes:
        start: first voxel of the patch, of the images with the network's margin
            before their first voxel.
        skip: predictions of the patch before the first that is taken.
        first: place of that one among all predictions.
        count: predictions that are taken.
    """

    start: int
    skip: int
    first: int
    count: int


@dataclass(frozen=True)
class Plan:
    """The patches of a prediction, all of one shape.

    Attributes:
        patch: shape, voxels.
        axes: the tiles of each axis; a tile of the prediction is one of each.
    """

    patch: tuple[int, ...]
    axes: tuple[tuple[Tile, ...], ...]

    @property
    def extent(self) -> list[int]:
        """Voxels that the patches reach over, on each axis."""
        ends = zip(self.axes, self.patch, strict=True)
        return [axis[-1].start + size for axis, size in ends]

    @property
    def tiles(self) -> list[tuple[Tile, ...]]:
        """All tiles, each as its ``Tile`` on every axis."""
        return list(itertools.product(*self.axes))


def plan_tiles(
    support: Support,
    predictions: Sequence[int],
    *,
    bytes_per_voxel: float,
    memory: float,
) -> Plan:
    """Choose the patches that compute the fewest voxels within a cap of memory.

    Patches hold all voxels that their predictions depend on, start at multiples of the
    network's period, and meet the border of the images where the images themselves do.
    So the predictions are those of a single patch.

    Args:
        support: of the network.
        predictions: wanted on each axis.
        bytes_per_voxel: memory for a voxel of a patch while it is computed.
        memory: for a patch, GiB.

    Returns:
        The plan; a single tile where all fits.

    Raises:
        InputError: if not even the smallest patches fit.
    """
    voxels = memory * GIB / bytes_per_voxel
    choices = [_choices(support, n) for n in predictions]
    fitting = (c for c in itertools.product(*choices) if _volume(c) <= voxels)
    best = min(fitting, key=lambda c: _volume(c) * _count(c), default=None)
    if best is None:
        least = min(map(_volume, itertools.product(*choices)))
        needed = least * bytes_per_voxel / GIB + 0.05
        raise InputError(
            f"{max(memory, 0):.1f} GiB of memory for a tile: the smallest of this"
            f" network takes {needed:.1f}; allow more or coarser voxels"
        )
    axes = (
        _tiles_of_axis(support, n, size)
        for n, (_, size) in zip(predictions, best, strict=True)
    )
    return Plan(tuple(size for _, size in best), tuple(axes))


def plan_equal(support: Support, predictions: Sequence[int], tile: int) -> Plan:
    """Choose patches of a given number of predictions on every axis.

    Args:
        support: of a network with a margin.
        predictions: wanted on each axis.
        tile: predictions of a patch, whole periods of the network.

    Returns:
        The plan.
    """
    size = window_of(support, tile)
    axes = tuple(_tiles_of_axis(support, n, size) for n in predictions)
    return Plan((size,) * len(predictions), axes)


def _volume(choice) -> int:
    return math.prod(size for _, size in choice)


def _count(choice) -> int:
    return math.prod(count for count, _ in choice)


def _halo(support: Support) -> int:
    """Return the voxels at a patch's border whose predictions the border changes."""
    if support.margin:
        return 0
    return support.period * ceil_div(support.reach, support.period)


def _choices(support: Support, predictions: int) -> list[tuple[int, int]]:
    """Return numbers of patches with the smallest size that does, each size once."""
    smallest = {}
    for count in range(_MOST, 0, -1):
        # The patches share the predictions; each but the outermost loses a halo twice.
        share = ceil_div(predictions + 2 * _halo(support) * (count - 1), count)
        step = support.period // math.gcd(support.period, support.stride)
        size = window_of(support, step * ceil_div(share, step))
        if count == 1 or size > 2 * _halo(support):
            smallest[size] = count
    return [(count, size) for size, count in smallest.items()]


def _tiles_of_axis(support: Support, predictions: int, size: int) -> tuple[Tile, ...]:
    halo = _halo(support)
    given = (size - 2 * support.margin - 1) // support.stride + 1
    step = support.period // math.gcd(support.period, support.stride)
    last = step * ceil_div(max(predictions - given, 0), step)
    tiles, done = [], 0
    while done < predictions:
        # Advance as far as the halo allows without skipping a prediction.
        start = min(last, max(0, (done - halo) // step * step))
        end = start + given - halo if start < last else predictions
        count = min(end, predictions) - done
        tiles.append(Tile(start * support.stride, done - start, done, count))
        done += count
    return tuple(tiles)


# Bytes for a voxel of a patch beside the network: points, the warped image, fields.
_AROUND = 60.0
# Safety factor: buffers are freed later than estimated, and fast convolutions copy.
_LOOSE = 1.15
# GiB that the process has before it does anything.
_RUNTIME = 0.7
# The fraction of a cap that is planned for; the allocator keeps the rest of what was
# freed.
_PLANNED = 0.9


def bytes_per_voxel(model) -> float:
    """Estimate the memory for a voxel of a patch while a network predicts.

    Args:
        model: a network of ``models.registry``.

    Returns:
        Bytes, counted on a patch of a common size.
    """
    size = window_of(model.support, 48 // model.support.stride)
    patch = (size,) * model.dimensions
    return _LOOSE * cost(model, patch).live / size**model.dimensions + _AROUND


def memory_of_a_tile(memory: float, *, held: float) -> float:
    """Return what a cap leaves to a tile.

    Args:
        memory: cap for the process, GiB.
        held: bytes of the images and fields that are held all the time.

    Returns:
        GiB, less than zero if those alone take more.
    """
    return _PLANNED * memory - _RUNTIME - held / GIB
