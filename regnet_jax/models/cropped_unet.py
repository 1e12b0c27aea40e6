"""The cropped U-Net: coarse levels take a wide patch, fine ones its middle.

Source: Sokooti et al., arXiv 1908.10235 (2019). Only the first layer runs over the
whole patch at full resolution, and the second at half of it; the later layers are
cropped to the voxels that predictions depend on, so that wide context costs little.
"""

import flax.linen as nn
import jax.numpy as jnp

from regnet_jax.models.layers.blocks import (
    box_slices,
    crop_centre,
    max_pool,
    upsample_centres,
)
from regnet_jax.models.multiview import (
    AROUND_HALF,
    AROUND_MERGED,
    PERIOD,
    ThreeViews,
    reach_from_quarter,
)
from regnet_jax.models.support import Support, convolution, pooling, upsampling_centres

_FEATURES = (16, 30, 40)
# Voxels from the edge of a patch of 4 k + 2 voxels to its first prediction.
_EDGE = 43
_BEFORE = (*(convolution(1), pooling(2)) * 2, convolution(1))


class CroppedUNet(ThreeViews):
    """The cropped U-Net of 2019, in 3D or 2D."""

    support = Support(
        reach=reach_from_quarter(_BEFORE, upsampling_centres),
        period=PERIOD,
        margin=_EDGE + PERIOD - 1,
    )

    @nn.compact
    def __call__(self, fixed, moving, *, train: bool):
        """Predict displacements, voxels, fixed to moving, array-axis order.

        Args:
            fixed: ``[batch, *patch, 1]``, scaled by ``scale_hounsfield``; at least 93
                voxels on each axis.
            moving: of the same shape.
            train: normalise by the batch and update ``batch_stats``.

        Returns:
            ``[batch, *(patch - 92), d]``, at every voxel from 46 on.

        Raises:
            ValueError: if the patch is smaller, or of another dimension than the
                network.
        """
        outputs = self.output_sizes(fixed)
        images = jnp.concatenate([fixed, moving], -1)
        # Levels meet in patches of 4 k + 2 voxels.
        sizes = [n - (n - 2 * _EDGE) % PERIOD for n in images.shape[1:-1]]
        x = images[box_slices([0] * len(sizes), sizes)]
        full, half, quarter = (
            x := self.layer(max_pool(x) if level else x, features, train=train)
            for level, features in enumerate(_FEATURES)
        )
        needed = [(n - 2 * _EDGE + AROUND_MERGED) // 2 + 2 + AROUND_HALF for n in sizes]
        half = crop_centre(half, needed)
        return self.merged(full, half, quarter, upsample_centres, outputs, train=train)
