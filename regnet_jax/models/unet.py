"""A U-Net: displacement at every voxel, from three coarser levels and back.

Source: Sokooti et al., "3D convolutional neural networks image registration based on
efficient supervised learning from artificial deformations", arXiv 1908.10235, whose
U-Net has one convolution a level, of 12, 24 and 28 features down, 32, 40 and 44 at an
eighth of the resolution, 32, 18 and 12 up. There levels are cropped by a voxel and
padded by zeros; here all keep their size, so that images of any size can be predicted.
"""

import flax.linen as nn
import jax.numpy as jnp

from regnet_jax.models.layers.blocks import (
    LayeredNet,
    box_slices,
    check_dimensions,
    max_pool,
    pad_to_multiple,
    resize,
)
from regnet_jax.models.support import (
    Support,
    convolution,
    path_reach,
    pooling,
    upsampling_centres,
)

_DOWN = (12, 24, 28)
_BOTTOM = (32, 40, 44)
_UP = (32, 18)
_LAST = 12
# Voxels of the coarsest level in one axis of the image.
_MULTIPLE = 2 ** len(_DOWN)
_PATH = (
    *(convolution(1), pooling(2)) * len(_DOWN),
    *[convolution(1)] * len(_BOTTOM),
    *(upsampling_centres(2), convolution(1)) * len(_DOWN),
)


class UNet(LayeredNet):
    """The U-Net of 2019, in 3D or 2D, for images of any size."""

    support = Support(reach=path_reach(_PATH, _MULTIPLE), period=_MULTIPLE)

    @nn.compact
    def __call__(self, fixed, moving, *, train: bool):
        """Predict the displacement at every voxel.

        Args:
            fixed: ``[batch, *spatial, 1]``, scaled by ``scale_hounsfield``; continued
                by the edge to multiples of 8 voxels.
            moving: of the same shape.
            train: normalise by the batch and update ``batch_stats``.

        Returns:
            ``[batch, *spatial, d]``, voxels, fixed to moving, array-axis order.

        Raises:
            ValueError: if the images are of another dimension than the network.
        """
        spatial = fixed.shape[1:-1]
        check_dimensions(spatial, self.dimensions)
        x = pad_to_multiple(jnp.concatenate([fixed, moving], -1), _MULTIPLE)
        options = {"train": train, "padding": "SAME"}
        levels = []
        for features in _DOWN:
            levels.append(self.layer(x, features, **options))
            x = max_pool(levels[-1])
        for features in _BOTTOM:
            x = self.layer(x, features, **options)
        for features in _UP:
            x = jnp.concatenate([resize(x, 2), levels.pop()], -1)
            x = self.layer(x, features, **options)
        x = jnp.concatenate([resize(x, 2), levels.pop()], -1)
        x = self.layer(x, _LAST, activation=nn.elu, **options)
        return self.displacement(x)[box_slices([0] * len(spatial), spatial)]
