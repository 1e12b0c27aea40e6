"""The multi-view network: three resolutions of the images, merged at the finest.

Source: Sokooti et al., arXiv 1908.10235 (2019). The images are taken at
full resolution, and smoothed by a cubic B-spline and decimated by 2 and by 4, with
dilated convolutions on the coarser ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from regnet_jax.models.layers.blocks import (
    LayeredNet,
    box_slices,
    crop_centre,
    upsample_nodes,
)
from regnet_jax.models.support import (
    Step,
    Support,
    convolution,
    path_reach,
    subsampling,
    upsampling_nodes,
)

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float

# Features, and dilations of the coarser levels, after the first layer of each.
_FINE = (20, 24, 28, 32, 32, 32)
_HALF = ((30, 1), (32, 2), (34, 2), (36, 2), (38, 2))
_QUARTER = ((40, 1), (42, 2), (44, 2), (46, 2))
_QUARTER_UP = 46
_BRANCH = 40
_MERGED = (120, 50)

# Voxels that convolutions without padding take from an axis: at full resolution from
# the first layer on, and from the merged features on; and at half the resolution.
AROUND_FIRST = 2 * (len(_FINE) + len(_MERGED))
AROUND_MERGED = 2 * len(_MERGED)
AROUND_HALF = 2 * sum(dilation for _, dilation in _HALF)
# Resolutions meet in patches of a multiple of this, plus a number of each network.
PERIOD = 4


def reach_from_quarter(before: tuple[Step, ...], up: Callable[[int], Step]) -> int:
    """Return the reach along the way that reaches furthest, by a quarter of the voxels.

    Args:
        before: steps from the images to the first features at a quarter.
        up: step to a finer grid, by its factor.

    Returns:
        As of ``support.path_reach``.
    """
    layers = [convolution(dilation) for _, dilation in _QUARTER]
    after = [*(up(2), convolution(1)) * 2, *[convolution(1)] * len(_MERGED)]
    return path_reach([*before, *layers, *after], PERIOD)


class ThreeViews(LayeredNet):
    """Layers at full, half and a quarter of the resolution, merged at the finest."""

    def merged(self, first, half, quarter, upsample: Callable, outputs, *, train: bool):
        """Merge features of the three resolutions to a displacement.

        Args:
            first: features of the first layer at full resolution; at least
                ``AROUND_FIRST`` voxels more than outputs.
            half: the same at half the resolution, as many as needed.
            quarter: the same at a quarter.
            upsample: brings features to a grid twice as fine, without its border.
            outputs: predictions to return, on each axis; up to three voxels before
                them, and others after, are dropped.
            train: normalise by the batch and update ``batch_stats``.

        Returns:
            ``[batch, *outputs, d]``, voxels.
        """
        maps = [half]
        for features, dilation in _HALF:
            maps.append(self.layer(maps[-1], features, dilation=dilation, train=train))
        for features, dilation in _QUARTER:
            quarter = self.layer(quarter, features, dilation=dilation, train=train)
        quarter = _beside(upsample(quarter), maps[-2])
        quarter = self.layer(quarter, _QUARTER_UP, train=train)
        branches = [_beside(upsample(x), first) for x in (maps[-1], quarter)]
        branches = [self.layer(x, _BRANCH, train=train) for x in branches]
        sizes = branches[0].shape[1:-1]
        fine = crop_centre(first, [n + 2 * len(_FINE) for n in sizes])
        for features in _FINE:
            fine = self.layer(fine, features, train=train)
        x = jnp.concatenate([fine, *branches], -1)
        for features in _MERGED:
            x = self.layer(x, features, train=train, activation=nn.elu)
        return self.displacement(x)[box_slices([PERIOD - 1] * len(outputs), outputs)]


def _beside(x, other):
    """Return ``x`` with the middle of a larger map as further channels."""
    return jnp.concatenate([x, crop_centre(other, x.shape[1:-1])], -1)


_FEATURES = (16, 20, 30)
# Voxels from the edge of a patch of 4 k + 3 voxels to its first prediction.
_EDGE = 44
_BEFORE = (convolution(2 * PERIOD - 1), subsampling(PERIOD), convolution(1))


class MultiView(ThreeViews):
    """The multi-view network of 2019, in 3D or 2D."""

    support = Support(
        reach=reach_from_quarter(_BEFORE, upsampling_nodes),
        period=PERIOD,
        margin=_EDGE + PERIOD - 1,
    )

    @nn.compact
    def __call__(self, fixed, moving, *, train: bool):
        """Predict displacements, voxels, fixed to moving, array-axis order.

        Args:
            fixed: ``[batch, *patch, 1]``, scaled by ``scale_hounsfield``; at least 95
                voxels on each axis.
            moving: of the same shape.
            train: normalise by the batch and update ``batch_stats``.

        Returns:
            ``[batch, *(patch - 94), d]``, at every voxel from 47 on.

        Raises:
            ValueError: if the patch is smaller, or of another dimension than the
                network.
        """
        outputs = self.output_sizes(fixed)
        images = jnp.concatenate([fixed, moving], -1)
        # Resolutions meet in patches of 4 k + 3 voxels.
        sizes = [n - (n - 2 * _EDGE - 3) % PERIOD for n in images.shape[1:-1]]
        images = images[box_slices([0] * len(sizes), sizes)]
        fine = [n - 2 * _EDGE for n in sizes]
        views = (
            crop_centre(images, [n + AROUND_FIRST + 2 for n in fine]),
            crop_centre(
                decimate(images, 2), [(n + 7) // 2 + AROUND_HALF + 2 for n in fine]
            ),
            decimate(images, PERIOD),
        )
        first = [
            self.layer(view, features, train=train)
            for view, features in zip(views, _FEATURES, strict=True)
        ]
        return self.merged(
            *first, upsample=upsample_nodes, outputs=outputs, train=train
        )


def decimate(
    images: Float[Array, "batch *spatial c"], factor: int
) -> Float[Array, "batch *coarse c"]:
    """Smooth by a cubic B-spline and keep every ``factor``-th voxel.

    Args:
        images: ``[batch, *spatial, c]``.
        factor: fine voxels in a coarse one, along an axis.

    Returns:
        ``[batch, *((spatial - 4 * factor + 1) // factor + 1), c]``, those whose spline
        lies within the images; the first at voxel ``2 * factor - 1``.
    """
    steps = np.abs(np.arange(1 - 2 * factor, 2 * factor)) / factor
    spline = np.where(steps < 1, 2 / 3 - steps**2 + steps**3 / 2, (2 - steps) ** 3 / 6)
    weights = (spline / spline.sum()).astype(np.float32)
    for axis in range(1, images.ndim - 1):
        count = (images.shape[axis] - len(weights)) // factor + 1
        images = jnp.moveaxis(images, axis, 0)
        total = sum(
            weight * images[start : start + factor * (count - 1) + 1 : factor]
            for start, weight in enumerate(weights)
        )
        images = cast("Array", total)
        images = jnp.moveaxis(images, 0, axis)
    return images
