"""The cropped U-Net: coarse levels see a wide window, fine ones its middle.

Source: Sokooti et al., arXiv 1908.10235 (2019). Only the first layer runs over the
whole window at full resolution, and the second at half of it; what follows is cropped
to what the answers need, so that wide context costs little.
"""

import flax.linen as nn
import jax.numpy as jnp

from regnet_jax.models.layers.blocks import (
    central,
    inside,
    max_pool,
    refine_centres,
)
from regnet_jax.models.multiview import (
    AROUND_HALF,
    AROUND_MERGED,
    PERIOD,
    ThreeViews,
    reach_from_quarter,
)
from regnet_jax.models.support import Support, between_centres, blocks, taps

_FEATURES = (16, 30, 40)
# Voxels from the edge of a window of 4 k + 2 voxels to its first answer.
_EDGE = 43
_BEFORE = (*(taps(1), blocks(2)) * 2, taps(1))


class CroppedUNet(ThreeViews):
    """The cropped U-Net of 2019, in 3D or 2D."""

    support = Support(
        reach=reach_from_quarter(_BEFORE, between_centres),
        period=PERIOD,
        margin=_EDGE + PERIOD - 1,
    )

    @nn.compact
    def __call__(self, fixed, moving, *, train: bool):
        """Predicts displacements, voxels, fixed to moving, array-axis order.

        Args:
            fixed: ``[batch, *window, 1]``, scaled by ``scale_hounsfield``; at least 93
                voxels on each axis.
            moving: of the same shape.
            train: normalise by the batch and update ``batch_stats``.

        Returns:
            ``[batch, *(window - 92), d]``, at every voxel from 46 on.

        Raises:
            ValueError: if the window is smaller, or of another dimension than the
                network.
        """
        answers = self.answers(fixed)
        images = jnp.concatenate([fixed, moving], -1)
        # Levels meet in windows of 4 k + 2 voxels.
        sizes = [n - (n - 2 * _EDGE) % PERIOD for n in images.shape[1:-1]]
        x = images[inside([0] * len(sizes), sizes)]
        full, half, quarter = (
            x := self.layer(max_pool(x, 2) if level else x, features, train=train)
            for level, features in enumerate(_FEATURES)
        )
        needed = [(n - 2 * _EDGE + AROUND_MERGED) // 2 + 2 + AROUND_HALF for n in sizes]
        half = central(half, needed)
        return self.merged(full, half, quarter, refine_centres, answers, train=train)
