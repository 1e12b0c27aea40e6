"""The part of a grid that is worth computing on, in one of a few shapes."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from regnet_jax.geometry import identity_grid, sample
from regnet_jax.hounsfield import TISSUE_THRESHOLD, lung_mask

# Fraction of a slice that must be tissue, and margin around it, voxels.
_PART = 0.01
_BODY_MARGIN = 8
# Shapes are rounded up to multiples of this, so that programs compiled for one pair
# serve others.
_BODY_STEP = 32


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
        return [(0, -(stop - start) % _BODY_STEP) for start, stop in pairs]

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
    tissue = np.asarray(image) > TISSUE_THRESHOLD
    start, stop = [], []
    for axis, size in enumerate(tissue.shape):
        others = tuple(a for a in range(tissue.ndim) if a != axis)
        slices = np.flatnonzero(tissue.mean(axis=others) > _PART)
        first, last = (slices[0], slices[-1]) if slices.size else (0, size - 1)
        start.append(max(int(first) - _BODY_MARGIN, 0))
        stop.append(min(int(last) + 1 + _BODY_MARGIN, size))
    return Region(tuple(start), tuple(stop), tissue.shape)


# Voxels around the lungs, and of these the ones over which a window is blended.
_MARGIN = 8
_TAPER = 6
# Shapes are multiples of this wherever the grid is large enough.
_STEP = 64


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Window:
    """A box in a grid.

    Attributes:
        start: ``[d]`` int32, its first voxel; may be traced.
        shape: of the box; static.
    """

    start: jax.Array
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    def coarser(self, factor: int) -> "Window":
        """The window on a grid with voxels ``factor`` times as wide."""
        return Window(self.start // factor, tuple(-(-n // factor) for n in self.shape))


def whole(shape) -> Window:
    """The window that is all of a grid."""
    return Window(jnp.zeros(len(shape), jnp.int32), tuple(shape))


def lung_window(image, spacing: float, *, multiple: int) -> Window:
    """A box with the lungs in it; all of the grid where there are none.

    Args:
        image: ``[*spatial]``, HU, canonical orientation.
        spacing: isotropic, mm.
        multiple: of voxels that starts are rounded to, for coarser grids.

    Returns:
        The window.
    """
    lungs = lung_mask(image, (spacing,) * image.ndim)
    if not lungs.any():
        return whole(image.shape)
    start, shape = [], []
    for axis, n in enumerate(image.shape):
        others = tuple(a for a in range(image.ndim) if a != axis)
        first, *_, last = np.flatnonzero(lungs.any(axis=others))
        wanted = last + 1 - first + 2 * _MARGIN + multiple
        wide = min(n, int(-(-wanted // _STEP)) * _STEP)
        centre = (first + last + 1) // 2
        low = int(np.clip(centre - wide // 2, 0, n - wide))
        start.append(low // multiple * multiple)
        shape.append(wide)
    return Window(jnp.asarray(start, jnp.int32), tuple(shape))


def cut(array, window: Window):
    """The part ``[*window.shape, channel]`` of ``[*spatial, channel]``."""
    starts = (*window.start, 0)
    return jax.lax.dynamic_slice(array, starts, (*window.shape, array.shape[-1]))


def look(array, window: Window, displacement):
    """What a displaced window shows of an array, also from outside of the window.

    Args:
        array: ``[*spatial, channel]``.
        window: in its grid.
        displacement: ``[*window.shape, d]``, voxels.

    Returns:
        ``[*window.shape, channel]``.
    """
    corner = window.start.astype(displacement.dtype)
    corner = corner.reshape((1,) * len(window.shape) + (-1,))
    return sample(array, identity_grid(window.shape) + corner + displacement)


def paste(array, part, window: Window):
    """Puts a part back and blends it at the faces that lie inside the grid.

    Args:
        array: ``[*spatial, channel]``.
        part: ``[*window.shape, channel]``.
        window: where the part belongs.

    Returns:
        An array like the first.
    """
    share = jnp.ones((*window.shape, 1))
    for axis, (n, size) in enumerate(zip(array.shape, window.shape, strict=False)):
        index = jnp.arange(size)
        below = jnp.where(window.start[axis] > 0, index, _TAPER)
        above = jnp.where(window.start[axis] + size < n, size - 1 - index, _TAPER)
        ramp = jnp.minimum(jnp.minimum(below, above) / _TAPER, 1.0)
        lead = [1] * share.ndim
        lead[axis] = size
        share = share * ramp.reshape(lead)
    old = cut(array, window)
    return jax.lax.dynamic_update_slice(
        array, old + share * (part - old), (*window.start, 0)
    )
