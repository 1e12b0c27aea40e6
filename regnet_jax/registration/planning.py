"""Where the tiles of a prediction lie, so that they fit in memory and cost least."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from regnet_jax.errors import InputError
from regnet_jax.models.arithmetic import window_of
from regnet_jax.models.support import Support

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
