"""RegNet 2017: displacement from patches of two images at two resolutions.

Source: Sokooti et al., "Nonrigid image registration using multi-scale 3D
convolutional neural networks", MICCAI 2017. The network of the paper looks at one
patch and gives the displacement of its centre; here it is fully convolutional, so a
window gives the displacements of all centres it has room for.
"""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from regnet_jax.models.layers.blocks import LayeredNet, inside, max_pool
from regnet_jax.models.layers.cpu_convolution import (
    batch_to_space,
    space_to_batch,
)
from regnet_jax.models.support import Support

# Voxels that a displacement depends on along each axis, and the one it belongs to.
RECEPTIVE_FIELD = 53
CENTRE = 26
# The lattice of displacements: every second voxel, as the low resolution is sampled.
STRIDE = 2

_FULL_SUPPORT = 29
_EARLY = (16, 16, 16)
_FULL = (25, 30)
_LOW = (25, 25, 25, 30, 30, 30)
_MERGED = (60, 70, 75, 150)
_LAST = 150


def window_size(points: int) -> int:
    """Voxels of a window that gives a number of lattice points, on each axis."""
    return RECEPTIVE_FIELD + STRIDE * (points - 1)


class RegNet(LayeredNet):
    """The network of 2017, in 3D or 2D.

    With ``use_bias`` the 3D network has the 903,044 convolution weights of the paper.
    """

    support = Support(reach=CENTRE, period=STRIDE, margin=CENTRE, stride=STRIDE)
    # Whether every second voxel of a wider window is seen too; not an attribute.
    multiscale: ClassVar[bool] = True

    @nn.compact
    def __call__(self, fixed, moving, *, train: bool, dense: bool = False):
        """Predicts displacements, voxels, fixed to moving, array-axis order.

        Args:
            fixed: ``[batch, *window, 1]``, scaled by ``scale_hounsfield``; at least
                53 voxels on each axis.
            moving: of the same shape.
            train: normalise by the batch and update ``batch_stats``.
            dense: a displacement at every voxel instead of every second one. Not
                for training: phases are padded by zeros.

        Returns:
            ``[batch, *points, d]``, the first at voxel 26; ``(window - 53) // 2 +
            1`` points on each axis, or ``window - 52`` if dense.

        Raises:
            ValueError: if the window is smaller than the receptive field, or of
                another dimension than the network, or if both train and dense.
        """
        if train and dense:
            raise ValueError("train without dense: padding would enter the statistics")
        points = self.answers(fixed)
        if dense:
            points = [n - 2 * self.support.margin for n in fixed.shape[1:-1]]
        full = self._full(fixed, moving, points, 1 if dense else STRIDE, train)
        views = [space_to_batch(full, STRIDE) if dense else full]
        if self.multiscale:
            views.append(self._low(fixed, moving, points, dense, train))
        merged = self._layers(jnp.concatenate(views, -1), _MERGED, train)
        merged = self._layers(merged, (_LAST,), train, taps=1)
        field = self.displacement(merged)
        return batch_to_space(field, STRIDE, points) if dense else field

    def _full(self, fixed, moving, points, step, train):
        """Full resolution: the middle of the window, pooled."""
        start = self.support.margin - _FULL_SUPPORT // 2
        sizes = [_FULL_SUPPORT + step * (n - 1) for n in points]
        middle = inside([start] * len(sizes), sizes)
        both = self._both(fixed[middle], moving[middle], train)
        pooled = max_pool(self._layers(both, _FULL, train), step)
        # Of 19 voxels in a row the last has no partner and the pool of 2017 drops
        # it. Pooling at every voxel has to drop it by hand.
        kept = [n if step == STRIDE else n - 1 for n in pooled.shape[1:-1]]
        return pooled[inside([0] * len(kept), kept)]

    def _low(self, fixed, moving, points, dense, train):
        """Half resolution: every second voxel of the window, or each phase of it."""
        if dense:
            fixed, moving = (space_to_batch(i, STRIDE) for i in (fixed, moving))
        else:
            sizes = [slice(0, window_size(n), STRIDE) for n in points]
            fixed, moving = (i[(slice(None), *sizes)] for i in (fixed, moving))
        return self._layers(self._both(fixed, moving, train), _LOW, train)

    def _both(self, fixed, moving, train):
        """Features of each image on its own, side by side."""
        images = (self._layers(image, _EARLY, train) for image in (fixed, moving))
        return jnp.concatenate(list(images), -1)

    def _layers(self, x, features, train, taps=3):
        """Convolution, batch normalisation and ReLU, several times."""
        for count in features:
            x = self.layer(x, count, train=train, taps=taps)
        return x


class SingleScaleRegNet(RegNet):
    """The network of 2017 without its low resolution: what the paper compares with."""

    support = Support(
        reach=_FULL_SUPPORT // 2,
        period=STRIDE,
        margin=_FULL_SUPPORT // 2,
        stride=STRIDE,
    )
    multiscale: ClassVar[bool] = False
