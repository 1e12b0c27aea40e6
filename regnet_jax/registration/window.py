"""The part of a grid where precision is wanted: the lungs, or all of it.

What is found in a window is blended into the field around it, so nothing tears at its
faces. Windows have few shapes and a traced place: a program that was compiled for one
pair serves others.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from regnet_jax.evaluation import lung_mask
from regnet_jax.geometry import identity_grid, sample

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
