"""The layout of the tiles of a prediction that fits in memory and costs least."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from regnet_jax.errors import InputError
from regnet_jax.geometry import ceil_div
from regnet_jax.models.cost import cost
from regnet_jax.models.support import Support

# Largest number of patches along an axis that is tried.
_MOST = 40
GIB = 2**30


@dataclass(frozen=True)
class Tile:
    """A patch along one axis and the predictions that are used from it.

    Attributes:
        start: first voxel of the patch, counted in the images with the network's margin
            before them.
        skip: number of the patch's predictions before the first that is used.
        first: index of the first used prediction among all predictions.
        count: number of predictions that are used.
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
        axes: the tiles along each axis; their product is the tiles of the prediction.
    """

    patch: tuple[int, ...]
    axes: tuple[tuple[Tile, ...], ...]

    @property
    def extent(self) -> list[int]:
        """Number of voxels that the patches cover along each axis."""
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
    """Choose the patches that compute the fewest voxels within a memory limit.

    Patches hold all voxels that the used predictions depend on, start at multiples of
    the network's period, and end at the border of the images only where it is theirs.
    So the predictions equal those of a single patch.

    Args:
        support: of the network.
        predictions: number along each axis.
        bytes_per_voxel: memory for each voxel of a patch while it is computed.
        memory: for a patch, GiB.

    Returns:
        The plan; a single tile if the whole image fits.

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
        more = math.ceil(10 * (needed - memory) / _PLANNED) / 10
        raise InputError(
            f"memory: leaves {max(memory, 0):.1f} GiB for a tile, and the smallest of"
            f" this network takes {needed:.1f}; allow {more:.1f} GiB more, or coarser"
            " voxels"
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
        predictions: number along each axis.
        tile: predictions of a patch along each axis; a multiple of the period.

    Returns:
        The plan.
    """
    size = support.patch_size(tile)
    axes = tuple(_tiles_of_axis(support, n, size) for n in predictions)
    return Plan((size,) * len(predictions), axes)


def _volume(choice) -> int:
    return math.prod(size for _, size in choice)


def _count(choice) -> int:
    return math.prod(count for count, _ in choice)


def _halo(support: Support) -> int:
    """Return the number of voxels at a patch's border with unusable predictions."""
    if support.margin:
        return 0
    return support.period * ceil_div(support.reach, support.period)


def _choices(support: Support, predictions: int) -> list[tuple[int, int]]:
    """Return the sizes to try along an axis, as (number of patches, patch size).

    Each number has the smallest size that is enough, and each size occurs once.
    """
    smallest = {}
    for count in range(_MOST, 0, -1):
        # The patches share the predictions; where two meet, each loses a halo.
        share = ceil_div(predictions + 2 * _halo(support) * (count - 1), count)
        step = support.period // math.gcd(support.period, support.stride)
        size = support.patch_size(step * ceil_div(share, step))
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


# Bytes for each voxel of a patch that the network does not hold: points, the warped
# image, fields.
_AROUND = 80.0
# Safety factor: buffers are freed later than estimated, and fast convolutions copy.
_LOOSE = 1.15
# Factor for a prediction in both orders, as XLA counts the memory of both programs.
_BOTH_ORDERS = 1.45
# Memory of the process before it loads an image, GiB.
_RUNTIME = 0.7
# Fraction of the limit that is planned for; the rest is memory that the allocator does
# not return.
_PLANNED = 0.85


def bytes_per_voxel(model, *, both_orders: bool = False) -> float:
    """Estimate the memory for each voxel of a patch while a network predicts.

    Args:
        model: a network of ``models.registry``.
        both_orders: whether one program predicts in both orders.

    Returns:
        Bytes, estimated for a patch of typical size.
    """
    size = model.support.patch_size(48 // model.support.stride)
    patch = (size,) * model.dimensions
    loose = _LOOSE * (_BOTH_ORDERS if both_orders else 1.0)
    return loose * cost(model, patch).live / size**model.dimensions + _AROUND


def memory_of_a_tile(memory: float, *, held: float) -> float:
    """Return the memory that a limit leaves for a tile.

    Args:
        memory: limit of the process, GiB.
        held: bytes of the images and fields that are held throughout.

    Returns:
        GiB, negative if these alone exceed the limit.
    """
    return _PLANNED * memory - _RUNTIME - held / GIB
