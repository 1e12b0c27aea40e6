"""What the networks are built of: normalised layers, pooling, resizing, padding."""

import functools
import itertools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from regnet_jax.models.convolution import Conv


class LayeredNet(nn.Module):
    """What the networks of convolution, batch normalisation and activation share.

    Attributes:
        dimensions: 3, or 2 for the same network with 2D kernels.
        axis_name: of the mapped devices over which batch statistics are shared.
        use_bias: adds the biases that batch normalisation makes redundant.
        dtype: to convolve in; parameters, statistics and sums stay float32.
    """

    dimensions: int = 3
    axis_name: str | None = None
    use_bias: bool = False
    dtype: jnp.dtype = jnp.float32

    def layer(
        self,
        x,
        features: int,
        *,
        train: bool,
        taps: int = 3,
        dilation: int = 1,
        padding: str = "VALID",
        activation: Callable = nn.relu,
    ):
        """Convolution, batch normalisation and activation.

        Args:
            x: ``[batch, *spatial, c]``.
            features: channels of the result.
            train: normalise by the batch and update ``batch_stats``.
            taps: of the kernel along each axis.
            dilation: as in ``convolve``.
            padding: as in ``convolve``.
            activation: elementwise.

        Returns:
            ``[batch, *outputs, features]``.
        """
        x = Conv(
            features,
            (taps,) * self.dimensions,
            dilation=dilation,
            padding=padding,
            use_bias=self.use_bias,
            dtype=self.dtype,
        )(x)
        # The original's framework averages statistics with 0.99, which lags
        # behind the weights in runs of a thousand steps.
        x = nn.BatchNorm(
            use_running_average=not train,
            momentum=0.95,
            epsilon=1e-3,
            axis_name=self.axis_name,
        )(x)
        return activation(x)

    def displacement(self, x):
        """The last layer, linear, with one tap.

        Args:
            x: ``[batch, *spatial, c]``.

        Returns:
            ``[batch, *spatial, d]`` float32.
        """
        # From zero: a random answer would first have to be unlearned.
        zeros = nn.initializers.zeros
        last = Conv(self.dimensions, (1,) * self.dimensions, kernel_init=zeros)
        return last(x.astype(jnp.float32))


def check_dimensions(window, dimensions: int) -> None:
    """Refuses images of another dimension than the network.

    Args:
        window: spatial shape of the images.
        dimensions: of the network.

    Raises:
        ValueError: if they differ.
    """
    if len(window) != dimensions:
        raise ValueError(f"images of {window} for a {dimensions}D network")


def inside(starts, sizes):
    """Index of a box of voxels in ``[batch, *spatial, c]``.

    Args:
        starts: first voxel on each axis.
        sizes: voxels on each axis.

    Returns:
        A tuple of slices.
    """
    boxes = zip(starts, sizes, strict=True)
    return (slice(None), *(slice(start, start + size) for start, size in boxes))


def max_pool(x, step: int):
    """Maximum over two voxels on each axis.

    Elementwise maxima: the gradient of a windowed reduction is slow on CPUs.

    Args:
        x: ``[batch, *spatial, c]``.
        step: 1 at every voxel, 2 at every second one.

    Returns:
        ``[batch, *((spatial - 2) // step + 1), c]``.
    """
    sizes = [(n - 2) // step + 1 for n in x.shape[1:-1]]

    def corner(offsets):
        cut = zip(offsets, sizes, strict=True)
        return x[
            (slice(None), *(slice(o, o + step * (n - 1) + 1, step) for o, n in cut))
        ]

    offsets = itertools.product((0, 1), repeat=len(sizes))
    return functools.reduce(jnp.maximum, map(corner, offsets))


def resize(x, factor: int):
    """Linear interpolation to ``factor`` times the sizes, centres on centres.

    Args:
        x: ``[batch, *spatial, c]``.
        factor: whole number.

    Returns:
        ``[batch, *(factor * spatial), c]``; the edge continues.
    """
    sizes = [factor * n for n in x.shape[1:-1]]
    return jax.image.resize(x, (x.shape[0], *sizes, x.shape[-1]), "linear")


def pad_to_multiple(image, multiple: int):
    """Continues an image by its edge.

    Args:
        image: ``[batch, *spatial, c]``.
        multiple: of which the sizes shall be.

    Returns:
        ``[batch, *larger, c]``; what is added stands after the far ends.
    """
    pads = [(0, -n % multiple) for n in image.shape[1:-1]]
    return jnp.pad(image, [(0, 0), *pads, (0, 0)], mode="edge")
