"""What part of the images an answer of a network depends on: static arithmetic."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Support:
    """How the answers of a network lie in a window, the same along every axis.

    Attributes:
        reach: voxels to either side of its own that an answer depends on, at most.
        period: images shifted by so many voxels have their answers shifted with them,
            away from the border.
        margin: voxels from the edge of a window to the first answer. Networks of
            margin 0 answer at every voxel and meet the border with a continuation of
            their own; those with a margin see only voxels of the window.
        stride: voxels from one answer to the next.
    """

    reach: int
    period: int
    margin: int = 0
    stride: int = 1

    @property
    def receptive_field(self) -> int:
        """Voxels that an answer depends on along each axis, at most."""
        return 2 * self.reach + 1


# Each of these tells, for a step of a network, which of its inputs the outputs from
# ``low`` to ``high`` need, in voxels of either grid.
Step = Callable[[int, int], tuple[int, int]]


def taps(radius: int) -> Step:
    """A convolution, or a correlation, of so many voxels to either side."""
    return lambda low, high: (low - radius, high + radius)


def blocks(factor: int) -> Step:
    """Pooling, or a strided convolution, of blocks."""
    return lambda low, high: (factor * low, factor * high + factor - 1)


def every(factor: int) -> Step:
    """Every so manyth voxel."""
    return lambda low, high: (factor * low, factor * high)


def between_centres(factor: int) -> Step:
    """``layers.resize``: linear, the centres of fine voxels between coarse centres."""

    def needs(low, high):
        # Fine voxel i lies at (i + 1/2) / factor - 1/2 among the coarse ones.
        first = (2 * low + 1 - factor) // (2 * factor)
        last = (2 * high + 1 - factor) // (2 * factor) + 1
        return first, last

    return needs


def between_nodes(factor: int) -> Step:
    """Linear interpolation where every so manyth fine voxel is a coarse one."""
    return lambda low, high: (low // factor, -(-high // factor))


def reach(path: Sequence[Step], period: int) -> int:
    """How far an answer looks along a path of steps.

    Args:
        path: the steps from the images to the answer; those that look furthest.
        period: number of voxels after which the steps repeat themselves.

    Returns:
        Voxels to either side, the most over all places of an answer.
    """

    def needs(place):
        ends = (place, place)
        return functools.reduce(lambda ends, step: step(*ends), reversed(path), ends)

    ends = [(place, *needs(place)) for place in range(period)]
    return max(max(place - low, high - place) for place, low, high in ends)
