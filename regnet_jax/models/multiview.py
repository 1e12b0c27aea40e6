"""The multi-view network: three resolutions of the images, merged at the finest.

Source: Sokooti et al., arXiv 1908.10235 (2019). The images are seen as they are, and
smoothed by a cubic B-spline and decimated by 2 and by 4, with dilated convolutions on
the coarser ones.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from regnet_jax.models.layers import central, inside, refine_nodes
from regnet_jax.models.support import Support, between_nodes, every, taps
from regnet_jax.models.views import (
    AROUND_FIRST,
    AROUND_HALF,
    PERIOD,
    ThreeViews,
    reach_from_quarter,
)

_FEATURES = (16, 20, 30)
# Voxels from the edge of a window of 4 k + 3 voxels to its first answer.
_EDGE = 44
_BEFORE = (taps(2 * PERIOD - 1), every(PERIOD), taps(1))


class MultiView(ThreeViews):
    """The multi-view network of 2019, in 3D or 2D."""

    support = Support(
        reach=reach_from_quarter(_BEFORE, between_nodes),
        period=PERIOD,
        margin=_EDGE + PERIOD - 1,
    )

    @nn.compact
    def __call__(self, fixed, moving, *, train: bool):
        """Predicts displacements, voxels, fixed to moving, array-axis order.

        Args:
            fixed: ``[batch, *window, 1]``, scaled by ``scale_hounsfield``; at least 95
                voxels on each axis.
            moving: of the same shape.
            train: normalise by the batch and update ``batch_stats``.

        Returns:
            ``[batch, *(window - 94), d]``, at every voxel from 47 on.

        Raises:
            ValueError: if the window is smaller, or of another dimension than the
                network.
        """
        answers = self.answers(fixed)
        images = jnp.concatenate([fixed, moving], -1)
        # Resolutions meet in windows of 4 k + 3 voxels.
        sizes = [n - (n - 2 * _EDGE - 3) % PERIOD for n in images.shape[1:-1]]
        images = images[inside([0] * len(sizes), sizes)]
        fine = [n - 2 * _EDGE for n in sizes]
        views = (
            central(images, [n + AROUND_FIRST + 2 for n in fine]),
            central(
                decimated(images, 2), [(n + 7) // 2 + AROUND_HALF + 2 for n in fine]
            ),
            decimated(images, PERIOD),
        )
        first = [
            self.layer(view, features, train=train)
            for view, features in zip(views, _FEATURES, strict=True)
        ]
        return self.merged(*first, refine_nodes, answers, train=train)


def decimated(images, factor: int):
    """Smooths by a cubic B-spline and keeps every so manyth voxel.

    Args:
        images: ``[batch, *spatial, c]``.
        factor: whole number; a coarse voxel in fine ones.

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
        images = sum(
            weight * images[start : start + factor * (count - 1) + 1 : factor]
            for start, weight in enumerate(weights)
        )
        images = jnp.moveaxis(images, 0, axis)
    return images
