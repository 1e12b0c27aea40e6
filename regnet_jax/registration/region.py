"""The part of a grid that is worth computing on, in one of a few shapes."""

from dataclasses import dataclass

import numpy as np

# Part of a slice that must be tissue, HU from which on it is, and margin, voxels.
_PART = 0.01
_TISSUE = -500.0
_MARGIN = 8
# Shapes are rounded up to multiples of this, so that programs compiled for one pair
# serve others.
_STEP = 32


@dataclass(frozen=True)
class Region:
    """A box of a grid and the shape that it is padded to.

    Attributes:
        start: first voxel on each axis.
        stop: one past the last.
        grid: shape of the whole grid.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]
    grid: tuple[int, ...]

    @property
    def padding(self) -> list[tuple[int, int]]:
        """Voxels after the box on each axis, to a shape that many boxes share."""
        pairs = zip(self.start, self.stop, strict=True)
        return [(0, -(stop - start) % _STEP) for start, stop in pairs]

    def cut(self, image, fill: float) -> np.ndarray:
        """The part of ``[*grid, ...]``, padded: ``[*shape, ...]`` float32."""
        box = tuple(slice(*ends) for ends in zip(self.start, self.stop, strict=True))
        part = np.asarray(image, np.float32)[box]
        channels = [(0, 0)] * (part.ndim - len(box))
        return np.pad(part, self.padding + channels, constant_values=fill)

    def restore(self, field) -> np.ndarray:
        """Puts ``[*shape, d]`` back: ``[*grid, d]``, continued by its edge."""
        sizes = [b - a for a, b in zip(self.start, self.stop, strict=True)]
        part = np.asarray(field)[tuple(slice(n) for n in sizes)]
        ends = zip(self.start, self.stop, self.grid, strict=True)
        return np.pad(part, [*((a, n - b) for a, b, n in ends), (0, 0)], mode="edge")


def body_region(image) -> Region:
    """The box around the body in a CT.

    Args:
        image: ``[*spatial]``, HU.

    Returns:
        The region; all of the grid where no body is found.
    """
    tissue = np.asarray(image) > _TISSUE
    start, stop = [], []
    for axis, size in enumerate(tissue.shape):
        others = tuple(a for a in range(tissue.ndim) if a != axis)
        slices = np.flatnonzero(tissue.mean(axis=others) > _PART)
        first, last = (slices[0], slices[-1]) if slices.size else (0, size - 1)
        start.append(max(int(first) - _MARGIN, 0))
        stop.append(min(int(last) + 1 + _MARGIN, size))
    return Region(tuple(start), tuple(stop), tissue.shape)
