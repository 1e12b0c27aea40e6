"""CorrNet: matches learned features, coarse to fine, and predicts a dense field.

Both images pass one encoder. At a quarter of the resolution the features of each
fixed voxel are compared with those of the moving voxels around it, and the mean of
the matches is a first displacement, which convolutions correct with the context. At
half the resolution the moving features are warped by it, compared once more, and the
residual is predicted. The elements are those of PWC-Net (D. Sun et al., "PWC-Net: CNNs
for optical flow using pyramid, warping, and cost volume", CVPR 2018), in 2D and 3D.
"""

from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from regnet_jax.geometry import warp
from regnet_jax.models.layers.blocks import (
    box_slices,
    check_dimensions,
    pad_to_multiple,
    resize,
)
from regnet_jax.models.layers.convolution import Conv
from regnet_jax.models.layers.correlation import (
    expected_offset,
    local_correlation,
    normalise,
    offsets,
)
from regnet_jax.models.layers.cpu_convolution import space_to_channel
from regnet_jax.models.support import (
    Support,
    convolution,
    path_reach,
    pooling,
    upsampling_centres,
)

# Ranges of scaled intensities that become channels: from air to soft tissue, soft
# tissue, and bone. On one scale alone, lung would be nearly black.
INTENSITY_WINDOWS = ((0.0, 0.2), (0.2, 0.32), (0.3, 0.6))
# Sizes are padded to whole voxels of the coarsest features.
_MULTIPLE = 8
# Displacements that are compared: 8 voxels around at a quarter of the resolution, and
# 2 around the coarse displacement at half of it.
_WIDE, _NARROW = 2, 1
# The layers that estimate errors, which older weights lack, and their channels.
ERROR_LAYERS = ("errors_0", "errors_1", "errors_2")
_ERROR_FEATURES = 16
# Bounds of the logarithm of the width of their distribution, for stable steps.
LOG_WIDTHS = (-3.0, 2.0)
# The way that reaches furthest: through the coarsest features, and through a coarse
# displacement and the features warped by it to the finest. The distance of a match adds
# nothing, as long as it is shorter than the reach of that way.
_TWO = (convolution(1), convolution(1))
_PATH = (
    *(pooling(2), *_TWO, pooling(2), *_TWO),
    *(convolution(_WIDE), *_TWO, pooling(2), *_TWO, upsampling_centres(2)),
    *(*_TWO, upsampling_centres(2), convolution(_NARROW), *_TWO, convolution(1)),
)
_LAST = upsampling_centres(2)


class CorrNet(nn.Module):
    """A network of feature matching for images of any size.

    Attributes:
        dimensions: 3, or 2 for slices.
        axis_name: taken as by all networks, and without effect: nothing is normalised
            over a batch.
        features: channels of the encoder at a half and a quarter of the resolution.
        decoder: channels of the decoder at a half, a quarter and an eighth.
        estimates_errors: whether it estimates the error of its prediction, too.
        dtype: of the layers; matches and displacements are computed in float32.
    """

    support = Support(reach=path_reach((*_PATH, _LAST), _MULTIPLE), period=_MULTIPLE)

    dimensions: int = 3
    axis_name: str | None = None
    features: tuple[int, ...] = (24, 32)
    decoder: tuple[int, ...] = (32, 48, 64)
    estimates_errors: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, fixed, moving, *, train: bool):
        """Predict the displacement at every voxel.

        The displacements before the last correction are sown as ``heads``, for deep
        supervision. Where the network estimates errors, the distribution of the
        length of the error at every voxel is sown as ``errors``,
        ``[batch, *spatial, 2]``: mean and logarithm of the standard deviation of its
        logarithm, in voxels. No gradient of these reaches the layers of the prediction.

        Args:
            fixed: ``[batch, *spatial, 1]``, scaled by ``scale_hounsfield``.
            moving: of the same shape.
            train: taken as by all networks, and without effect.

        Returns:
            ``[batch, *spatial, d]``, voxels, fixed to moving, array-axis order.

        Raises:
            ValueError: if the images are of another dimension than the network.
        """
        spatial = fixed.shape[1:-1]
        check_dimensions(spatial, self.dimensions)
        both = jnp.concatenate([pad_to_multiple(i, _MULTIPLE) for i in (fixed, moving)])
        half, quarter = (jnp.split(x, 2) for x in self._encode(both))
        first, coarse, context = self._match(*quarter)
        coarse_twice, context = 2.0 * resize(coarse, 2), resize(context, 2)
        fine, seen = self._correct(*half, displacement=coarse_twice, context=context)
        box = box_slices([0] * len(spatial), spatial)
        if self.estimates_errors:
            errors = self._errors(jax.lax.stop_gradient(seen.astype(jnp.float32)))
            self._sow("errors", "logarithm", resize(errors, 2)[box])
        self._sow("heads", "matched", 4.0 * resize(first, 4)[box])
        self._sow("heads", "coarse", 4.0 * resize(coarse, 4)[box])
        return 2.0 * resize(fine, 2)[box]

    def _sow(self, collection, name, value):
        """Sow a value, which is no variable of the network."""
        if not self.is_initializing():
            self.sow(collection, name, value)

    def _encode(self, images):
        """Return features at a half and a quarter of the resolution."""
        windows = [
            jnp.clip((images - low) / (high - low), 0.0, 1.0)
            for low, high in INTENSITY_WINDOWS
        ]
        x = space_to_channel(jnp.concatenate(windows, -1), 2)
        half = self._layers(x, self.features[:1] * 2)
        x = self._layers(half, self.features[1:], taps=2, stride=2)
        return half, self._layers(x, self.features[1:] * 2)

    def _match(self, fixed, moving):
        """Return displacements at a quarter of the resolution, and their context.

        Returns:
            The matched displacement, the corrected one, and the features by which it
            was corrected.
        """
        scores = self._scores(fixed, moving, _WIDE)
        # A prior for small displacements: uninformative features then match at zero.
        prior = self.param("prior", nn.initializers.zeros, ())
        steps = jnp.sum(offsets(_WIDE, self.dimensions) ** 2, axis=-1)
        steps = steps.reshape((1,) * (scores.ndim - 1) + (-1,))
        matched = expected_offset(scores - jnp.exp(prior) * steps, _WIDE)
        x = jnp.concatenate([scores, fixed, matched], -1)
        _, quarter, eighth = self.decoder
        x = self._layers(x, (quarter, quarter))
        wide = self._layers(x, (eighth,), taps=2, stride=2)
        wide = resize(self._layers(wide, (eighth, eighth)), 2)
        x = self._layers(jnp.concatenate([x, wide], -1), (quarter,))
        return matched, matched + self._displacement(x), x

    def _correct(self, fixed, moving, displacement, context):
        """Return the displacement at half the resolution, given a coarse one.

        Returns:
            The displacement, and what it was found by: features, matches and the
            displacement itself.
        """
        moving = jax.vmap(warp)(moving, displacement)
        scores = self._scores(fixed, moving, _NARROW)
        context = self._layers(context, (self.decoder[0] // 2,), taps=1)
        x = jnp.concatenate([scores, fixed, context, displacement], -1)
        x = self._layers(x, self.decoder[:1] * 2)
        change = self._displacement(x)
        total = displacement + change
        return total, jnp.concatenate([x, scores, change, total], -1)

    def _errors(self, x):
        """Return the distribution of errors, that of one voxel before training."""
        kernel = (3,) * self.dimensions
        for name in ERROR_LAYERS[:-1]:
            x = Conv(_ERROR_FEATURES, kernel, padding="SAME", name=name)(x)
            x = nn.leaky_relu(x, 0.1)
        one, zeros = (1,) * self.dimensions, nn.initializers.zeros
        return Conv(2, one, kernel_init=zeros, name=ERROR_LAYERS[-1])(x)

    def _scores(self, fixed, moving, radius):
        """Return the similarity of features around each voxel, of learned sharpness."""
        # Without an activation, so that two features may be opposite.
        project = Conv(fixed.shape[-1], (1,) * self.dimensions)
        images = (x.astype(jnp.float32) for x in (fixed, moving))
        fixed, moving = (normalise(project(x)) for x in images)
        similarity = cast(jax.Array, local_correlation(fixed, moving, radius))
        sharpness = self.param(f"sharpness_{radius}", nn.initializers.constant(2.0), ())
        return jnp.exp(sharpness) * similarity

    def _displacement(self, x):
        """Return a displacement that is zero before training."""
        kernel = (3,) * self.dimensions
        zeros = nn.initializers.zeros
        last = Conv(self.dimensions, kernel, padding="SAME", kernel_init=zeros)
        return last(x.astype(jnp.float32))

    def _layers(self, x, features, taps=3, stride=1):
        """Apply convolution and leaky ReLU, once for each count of features."""
        for count in features:
            kernel = (taps,) * self.dimensions
            options = {"stride": stride, "padding": "SAME", "dtype": self.dtype}
            x = Conv(count, kernel, **options)(x)
            x = nn.leaky_relu(x, 0.1)
        return x


class ConfidentCorrNet(CorrNet):
    """CorrNet that estimates the error of its prediction, too."""

    # The errors follow from the displacement before the last layer of resizing.
    support = Support(
        reach=path_reach((*_PATH, *_TWO, _LAST), _MULTIPLE), period=_MULTIPLE
    )

    estimates_errors: bool = True
