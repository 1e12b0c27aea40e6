"""RegNet 2017: displacement from patches of two images at two resolutions.

Source: Sokooti et al., "Nonrigid image registration using multi-scale 3D
convolutional neural networks", MICCAI 2017. The network of the paper takes one patch
and predicts the displacement of its centre. Here it is fully convolutional, so a
larger patch gives the displacements of all centres that it has room for.
"""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from regnet_jax.models.layers.blocks import LayeredNet, box_slices, max_pool
from regnet_jax.models.support import Support

# Voxels along each axis that a prediction takes at full resolution, and in all.
_FULL_FIELD, _WIDE_FIELD = 29, 53
# Every second voxel is predicted, as the low resolution is sampled.
_STRIDE = 2

_EARLY = (16, 16, 16)
_FULL = (25, 30)
_LOW = (25, 25, 25, 30, 30, 30)
_MERGED = (60, 70, 75, 150)
_LAST = 150


def _support(field: int) -> Support:
    """Return the support of a network whose predictions depend on ``field`` voxels."""
    reach = field // 2
    return Support(reach=reach, period=_STRIDE, margin=reach, stride=_STRIDE)


class RegNet(LayeredNet):
    """The network of 2017, in 3D or 2D.

    With ``use_bias`` the 3D network has the 903,044 convolution weights of the paper.
    """

    support = _support(_WIDE_FIELD)
    # Whether the wider, sampled patch is taken as input too; not an attribute.
    multiscale: ClassVar[bool] = True
    # The numbers of features are those of the paper divided by this, rounded down.
    divisor: ClassVar[int] = 1

    @nn.compact
    def __call__(self, fixed, moving, *, train: bool):
        """Predict displacements, voxels, fixed to moving, array-axis order.

        Args:
            fixed: ``[batch, *patch, 1]``, scaled by ``scale_hounsfield``; at least
                53 voxels on each axis.
            moving: of the same shape.
            train: normalise by the batch and update ``batch_stats``.

        Returns:
            ``[batch, *outputs, d]``, at every second voxel from voxel 26 on;
            ``(patch - 53) // 2 + 1`` outputs on each axis.

        Raises:
            ValueError: if the patch is smaller than the receptive field, or of
                another dimension than the network.
        """
        sizes = self.output_sizes(fixed)
        features = [self._full(fixed, moving, sizes, train)]
        if self.multiscale:
            features.append(self._low(fixed, moving, sizes, train))
        merged = self._layers(jnp.concatenate(features, -1), _MERGED, train)
        merged = self._layers(merged, (_LAST,), train, taps=1)
        return self.displacement(merged)

    def _full(self, fixed, moving, sizes, train):
        """Return features at full resolution: of the middle of the patch, pooled."""
        start = self.support.margin - _FULL_FIELD // 2
        box = box_slices(
            [start] * len(sizes), [_FULL_FIELD + _STRIDE * (n - 1) for n in sizes]
        )
        both = self._both(fixed[box], moving[box], train)
        return max_pool(self._layers(both, _FULL, train))

    def _low(self, fixed, moving, sizes, train):
        """Return features at half resolution, of every second voxel of the patch."""
        ends = [_WIDE_FIELD + _STRIDE * (n - 1) for n in sizes]
        sampled = (slice(None), *(slice(0, end, _STRIDE) for end in ends))
        both = self._both(fixed[sampled], moving[sampled], train)
        return self._layers(both, _LOW, train)

    def _both(self, fixed, moving, train):
        """Return features of each image on its own, side by side."""
        images = (self._layers(image, _EARLY, train) for image in (fixed, moving))
        return jnp.concatenate(list(images), -1)

    def _layers(self, x, features, train, taps=3):
        """Apply convolution, batch normalisation and ReLU, once for each count."""
        for count in features:
            x = self.layer(x, count // self.divisor, train=train, taps=taps)
        return x


class SingleScaleRegNet(RegNet):
    """The network of 2017 without its low resolution, which the paper compares with."""

    support = _support(_FULL_FIELD)
    multiscale: ClassVar[bool] = False


class HalfRegNet(RegNet):
    """The network of 2017 with half of the features, in 2D a half of a 3D one.

    ``registry.inflate_planes`` makes a 3D network of two of them.
    """

    divisor: ClassVar[int] = 2


class HalfSingleScaleRegNet(SingleScaleRegNet):
    """The same of the network without low resolution."""

    divisor: ClassVar[int] = 2
