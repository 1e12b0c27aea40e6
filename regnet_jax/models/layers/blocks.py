"""Blocks of the networks: normalised layers, pooling, resizing, cropping, padding."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp

from regnet_jax.models.layers.convolution import Conv

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float


# Of the statistics of batch normalisation. The original's framework has 0.99, by which
# they lag behind the weights in runs of a thousand steps.
MOMENTUM = 0.95


class LayeredNet(nn.Module):
    """Base of the networks of convolution, batch normalisation and activation.

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
        """Apply convolution, batch normalisation and activation.

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
        x = nn.BatchNorm(
            use_running_average=not train,
            momentum=MOMENTUM,
            epsilon=1e-3,
            axis_name=self.axis_name,
        )(x)
        return activation(x)

    def output_sizes(self, image) -> list[int]:
        """Return the number of predictions that a patch has room for, on each axis.

        Args:
            image: ``[batch, *patch, c]``.

        Returns:
            Spatial shape of the predictions.

        Raises:
            ValueError: if there is none, or if the patch is of another dimension
                than the network.
        """
        patch, support = image.shape[1:-1], self.support
        check_dimensions(patch, self.dimensions)
        needed = 2 * support.margin + 1
        if min(patch) < needed:
            raise ValueError(f"a patch of {patch} is smaller than {needed} voxels")
        return [(n - needed) // support.stride + 1 for n in patch]

    def displacement(self, x):
        """Apply the last layer, which is linear and has one tap.

        Args:
            x: ``[batch, *spatial, c]``.

        Returns:
            ``[batch, *spatial, d]`` float32.
        """
        # From zero: random predictions would have to be unlearned first.
        zeros = nn.initializers.zeros
        last = Conv(self.dimensions, (1,) * self.dimensions, kernel_init=zeros)
        return last(x.astype(jnp.float32))


def check_dimensions(shape, dimensions: int) -> None:
    """Refuse images of another dimension than the network.

    Args:
        shape: spatial shape of the images.
        dimensions: of the network.

    Raises:
        ValueError: if they differ.
    """
    if len(shape) != dimensions:
        raise ValueError(f"images of {shape} for a {dimensions}D network")


def box_slices(starts, sizes):
    """Return the index of a box of voxels in ``[batch, *spatial, c]``.

    Args:
        starts: first voxel on each axis.
        sizes: voxels on each axis.

    Returns:
        A tuple of slices.
    """
    boxes = zip(starts, sizes, strict=True)
    return (slice(None), *(slice(start, start + size) for start, size in boxes))


def max_pool(x: Float[Array, "batch *spatial c"]) -> Float[Array, "batch *half c"]:
    """Return the maxima of blocks of two voxels on each axis.

    They are elementwise, as the gradient of a windowed reduction is slow on CPUs.

    Args:
        x: ``[batch, *spatial, c]``; the last voxel of odd sizes is dropped.

    Returns:
        ``[batch, *(spatial // 2), c]``.
    """
    sizes = [n // 2 for n in x.shape[1:-1]]

    def corner(offsets):
        ends = zip(offsets, sizes, strict=True)
        return x[(slice(None), *(slice(o, o + 2 * n - 1, 2) for o, n in ends))]

    offsets = itertools.product((0, 1), repeat=len(sizes))
    return functools.reduce(jnp.maximum, map(corner, offsets))


def resize(
    x: Float[Array, "batch *spatial c"], factor: int
) -> Float[Array, "batch *fine c"]:
    """Interpolate linearly to ``factor`` times the sizes, centres on centres.

    Args:
        x: ``[batch, *spatial, c]``.
        factor: fine voxels in a coarse one, along an axis.

    Returns:
        ``[batch, *(factor * spatial), c]``; the edge continues.
    """
    sizes = [factor * n for n in x.shape[1:-1]]
    return jax.image.resize(x, (x.shape[0], *sizes, x.shape[-1]), "linear")


def upsample_nodes(
    x: Float[Array, "batch *spatial c"],
) -> Float[Array, "batch *fine c"]:
    """Interpolate linearly halfway between voxels, which stay as they are.

    Args:
        x: ``[batch, *spatial, c]``.

    Returns:
        ``[batch, *(2 * spatial - 1), c]``.
    """
    for axis in range(1, x.ndim - 1):
        x = jnp.moveaxis(x, axis, 0)
        between = jnp.stack([x[:-1], (x[:-1] + x[1:]) / 2], axis=1)
        x = jnp.concatenate([between.reshape(-1, *x.shape[1:]), x[-1:]])
        x = jnp.moveaxis(x, 0, axis)
    return x


def upsample_centres(
    x: Float[Array, "batch *spatial c"],
) -> Float[Array, "batch *fine c"]:
    """Interpolate by ``resize`` to twice the sizes, and drop the outermost voxels.

    These would continue the edge.

    Args:
        x: ``[batch, *spatial, c]``.

    Returns:
        ``[batch, *(2 * spatial - 2), c]``.
    """
    sizes = [2 * n - 2 for n in x.shape[1:-1]]
    return crop_centre(resize(x, 2), sizes)


def crop_centre(
    x: Float[Array, "batch *spatial c"], sizes: Sequence[int]
) -> Float[Array, "batch *smaller c"]:
    """Return the middle of a map.

    Args:
        x: ``[batch, *spatial, c]``.
        sizes: of the result, smaller than those of ``x`` by even numbers.

    Returns:
        ``[batch, *sizes, c]``.

    Raises:
        ValueError: if there is no middle of that size.
    """
    rests = [n - size for n, size in zip(x.shape[1:-1], sizes, strict=True)]
    if any(rest < 0 or rest % 2 for rest in rests):
        raise ValueError(f"{x.shape[1:-1]} voxels have no middle of {sizes}")
    return x[box_slices([rest // 2 for rest in rests], sizes)]


def pad_to_multiple(
    image: Float[Array, "batch *spatial c"], multiple: int
) -> Float[Array, "batch *larger c"]:
    """Pad an image by its edge.

    Args:
        image: ``[batch, *spatial, c]``.
        multiple: of which the sizes of the result are.

    Returns:
        ``[batch, *larger, c]``, padded at the far ends.
    """
    pads = [(0, -n % multiple) for n in image.shape[1:-1]]
    return jnp.pad(image, [(0, 0), *pads, (0, 0)], mode="edge")
