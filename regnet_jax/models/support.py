"""Which voxels a prediction of a network depends on: static arithmetic.

A network maps a patch of the images to predictions. The first one belongs to the voxel
that is ``margin`` voxels from the edge of the patch, and the next ones follow at a
distance of ``stride`` voxels. A prediction depends on the voxels within ``reach``.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Support:
    """How the predictions of a network lie in a patch, the same along every axis.

    Attributes:
        reach: voxels to either side of its own that a prediction depends on, at most.
        period: images that are shifted by this number of voxels have their
            predictions shifted with them, away from the border.
        margin: voxels from the edge of a patch to the first prediction. Networks of
            margin 0 predict at every voxel and continue the images beyond the border
            themselves; those with a margin depend on voxels of the patch alone.
        stride: voxels from one prediction to the next.
    """

    reach: int
    period: int
    margin: int = 0
    stride: int = 1

    @property
    def receptive_field(self) -> int:
        """Voxels that a prediction depends on along each axis, at most."""
        return 2 * self.reach + 1

    def patch_size(self, predictions: int) -> int:
        """Return the voxels of a patch along an axis that has room for predictions."""
        return 2 * self.margin + self.stride * (predictions - 1) + 1


# A step of a network, as a function that returns the range of its inputs that the
# outputs from ``low`` to ``high`` depend on, in voxels of either grid.
Step = Callable[[int, int], tuple[int, int]]


def convolution(radius: int) -> Step:
    """Return the step of a convolution, or a correlation.

    Args:
        radius: voxels to either side.
    """
    return lambda low, high: (low - radius, high + radius)


def pooling(factor: int) -> Step:
    """Return the step of pooling, or of a strided convolution, of blocks.

    Args:
        factor: voxels of a block along an axis.
    """
    return lambda low, high: (factor * low, factor * high + factor - 1)


def subsampling(factor: int) -> Step:
    """Return the step that keeps every ``factor``-th voxel.

    Args:
        factor: voxels from one that is kept to the next.
    """
    return lambda low, high: (factor * low, factor * high)


def upsampling_centres(factor: int) -> Step:
    """Return the step of ``layers.blocks.resize``.

    The interpolation is linear, with the centres of fine voxels between coarse centres.

    Args:
        factor: fine voxels in a coarse one, along an axis.
    """

    def inputs(low, high):
        # Fine voxel i lies at (i + 1/2) / factor - 1/2 among the coarse ones.
        first = (2 * low + 1 - factor) // (2 * factor)
        last = (2 * high + 1 - factor) // (2 * factor) + 1
        return first, last

    return inputs


def upsampling_nodes(factor: int) -> Step:
    """Return the step of linear interpolation between voxels that stay in place.

    Args:
        factor: every ``factor``-th fine voxel is a coarse one.
    """
    return lambda low, high: (low // factor, -(-high // factor))


def path_reach(path: Sequence[Step], period: int) -> int:
    """Return how far from its voxel a prediction depends on the images.

    Args:
        path: the steps from the images to the prediction, along the way that reaches
            furthest.
        period: number of voxels after which the steps repeat themselves.

    Returns:
        Voxels to either side, the most over all places of a prediction.
    """

    def inputs(place):
        ends = (place, place)
        return functools.reduce(lambda ends, step: step(*ends), reversed(path), ends)

    ends = [(place, *inputs(place)) for place in range(period)]
    return max(max(place - low, high - place) for place, low, high in ends)
