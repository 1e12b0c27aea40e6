"""Boxes around the body and the lungs, so that the rest of a grid is not computed.

``CropBox`` crops on the host, for a prediction; ``BlendBox`` crops under ``jit`` and is
blended back, for a refinement. Both have one of a few shapes.
"""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from regnet_jax.geometry import ceil_div, identity_grid, sample
from regnet_jax.hounsfield import TISSUE_THRESHOLD, lung_mask

# A slice belongs to the body above this fraction of tissue; margin around, voxels.
_FRACTION = 0.01
_BODY_MARGIN = 8
# Shapes are rounded up to multiples of this, where the grid is large enough, so that
# programs compiled for one pair serve others.
_STEP = 16


@dataclass(frozen=True)
class CropBox:
    """A box of a grid and the shape that it is padded to.

    Attributes:
        start: first voxel on each axis.
        stop: one past the last.
        grid: shape of the whole grid.
        step: voxels; the padded shape is a multiple of it.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]
    grid: tuple[int, ...]
    step: int = _STEP

    @property
    def padding(self) -> list[tuple[int, int]]:
        """Voxels to add after the box on each axis, to reach a common shape."""
        pairs = zip(self.start, self.stop, strict=True)
        return [(0, -(stop - start) % self.step) for start, stop in pairs]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the box with its padding."""
        sides = zip(self.start, self.stop, self.padding, strict=True)
        return tuple(stop - start + after for start, stop, (_, after) in sides)

    def crop(self, image, fill: float) -> np.ndarray:
        """Crop an array and pad it.

        Args:
            image: ``[*grid, ...]``.
            fill: value of the padding.

        Returns:
            ``[*shape, ...]`` float32.
        """
        box = tuple(slice(*ends) for ends in zip(self.start, self.stop, strict=True))
        crop = np.asarray(image, np.float32)[box]
        channels = [(0, 0)] * (crop.ndim - len(box))
        return np.pad(crop, self.padding + channels, constant_values=fill)

    def restore(self, field) -> np.ndarray:
        """Put a field of the box back into its grid.

        Args:
            field: ``[*shape, d]``, see ``crop``.

        Returns:
            ``[*grid, d]``, with the edge values of the box continued outside of it.
        """
        sizes = [b - a for a, b in zip(self.start, self.stop, strict=True)]
        crop = np.asarray(field)[tuple(slice(n) for n in sizes)]
        ends = zip(self.start, self.stop, self.grid, strict=True)
        return np.pad(crop, [*((a, n - b) for a, b, n in ends), (0, 0)], mode="edge")


def cover_box(shape) -> CropBox:
    """Return the box that covers a whole grid of ``shape``, without padding."""
    return CropBox((0,) * len(shape), tuple(shape), tuple(shape), step=1)


def body_box(image) -> CropBox:
    """Find the box around the body in a CT.

    Args:
        image: ``[*spatial]``, HU.

    Returns:
        The box; the whole grid where no body is found.
    """
    tissue = np.asarray(image) > TISSUE_THRESHOLD
    start, stop = [], []
    for axis, size in enumerate(tissue.shape):
        others = tuple(a for a in range(tissue.ndim) if a != axis)
        slices = np.flatnonzero(tissue.mean(axis=others) > _FRACTION)
        first, last = (slices[0], slices[-1]) if slices.size else (0, size - 1)
        start.append(max(int(first) - _BODY_MARGIN, 0))
        stop.append(min(int(last) + 1 + _BODY_MARGIN, size))
    return CropBox(tuple(start), tuple(stop), tissue.shape)


# Margin around the lungs, and the width over which a crop is blended in it, voxels.
_LUNG_MARGIN = 8
_TAPER = 6


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BlendBox:
    """A box of a grid whose position may be traced.

    Attributes:
        start: ``[d]`` int32, its first voxel.
        shape: of the box; static.
    """

    start: jax.Array
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    def coarsen(self, factor: int) -> "BlendBox":
        """Return the same box on a grid whose voxels are ``factor`` times as wide."""
        shape = tuple(ceil_div(n, factor) for n in self.shape)
        return BlendBox(self.start // factor, shape)


def cover_grid(shape) -> BlendBox:
    """Return the box that covers a whole grid of ``shape``."""
    return BlendBox(jnp.zeros(len(shape), jnp.int32), tuple(shape))


def lung_box(image, spacing: float, *, multiple: int) -> BlendBox:
    """Find a box around the lungs.

    Args:
        image: ``[*spatial]``, HU, canonical orientation.
        spacing: isotropic, mm.
        multiple: the box starts at a multiple of this number of voxels, so that it fits
            coarser grids.

    Returns:
        The box; the whole grid where there are no lungs.
    """
    lungs = lung_mask(image, (spacing,) * image.ndim)
    if not lungs.any():
        return cover_grid(image.shape)
    start, shape = [], []
    for axis, n in enumerate(image.shape):
        others = tuple(a for a in range(image.ndim) if a != axis)
        first, last = np.flatnonzero(lungs.any(axis=others))[[0, -1]]
        wanted = last + 1 - first + 2 * _LUNG_MARGIN + multiple
        wide = min(n, ceil_div(int(wanted), _STEP) * _STEP)
        centre = (first + last + 1) // 2
        low = int(np.clip(centre - wide // 2, 0, n - wide))
        start.append(low // multiple * multiple)
        shape.append(wide)
    return BlendBox(jnp.asarray(start, jnp.int32), tuple(shape))


def crop_box(array, box: BlendBox):
    """Crop ``[*spatial, channel]`` to ``[*box.shape, channel]``."""
    starts = (*box.start, 0)
    return jax.lax.dynamic_slice(array, starts, (*box.shape, array.shape[-1]))


def sample_displaced(array, box: BlendBox, displacement):
    """Sample an array at the displaced voxels of a box, which may lie outside of it.

    Args:
        array: ``[*spatial, channel]``.
        box: of the grid of the array.
        displacement: ``[*box.shape, d]``, voxels.

    Returns:
        ``[*box.shape, channel]``.
    """
    corner = box.start.astype(displacement.dtype)
    corner = corner.reshape((1,) * len(box.shape) + (-1,))
    return sample(array, identity_grid(box.shape) + corner + displacement)


def blend_crop(array, crop, box: BlendBox):
    """Put a crop back, blended at the faces of the box that lie inside the grid.

    Args:
        array: ``[*spatial, channel]``.
        crop: ``[*box.shape, channel]``.
        box: position of the crop.

    Returns:
        ``[*spatial, channel]``.
    """
    weight = jnp.ones((*box.shape, 1))
    for axis, (n, size) in enumerate(zip(array.shape, box.shape, strict=False)):
        index = jnp.arange(size)
        below = jnp.where(box.start[axis] > 0, index, _TAPER)
        above = jnp.where(box.start[axis] + size < n, size - 1 - index, _TAPER)
        ramp = jnp.minimum(jnp.minimum(below, above) / _TAPER, 1.0)
        lead = [1] * weight.ndim
        lead[axis] = size
        weight = weight * ramp.reshape(lead)
    old = crop_box(array, box)
    return jax.lax.dynamic_update_slice(
        array, old + weight * (crop - old), (*box.start, 0)
    )
