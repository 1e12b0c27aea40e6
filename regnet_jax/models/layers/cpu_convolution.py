"""Convolution for CPUs: every case is rearranged into one that XLA is fast at.

Strides become channels and dilations become batches, so that each convolution has
neither; one in 3D then becomes 2D convolutions of planes.

A phase is the set of voxels that a step visits from one start: with a step of two, the
even or the odd ones along each axis.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import lax

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float


def crop_or_pad(x, shape):
    """Crop or pad with zeros the far end of every axis.

    Args:
        x: any array.
        shape: as many sizes as ``x`` has axes.

    Returns:
        An array of that shape.
    """
    x = x[tuple(slice(size) for size in shape)]
    return jnp.pad(x, [(0, n - m) for n, m in zip(shape, x.shape, strict=True)])


def _split(x, step):
    """Split axes into blocks of whole steps.

    Returns:
        ``[batch, blocks, step, ..., channel]``, the axes of the blocks, and the axes
        within them.
    """
    blocks = [-(-n // step) for n in x.shape[1:-1]]
    x = crop_or_pad(x, [x.shape[0], *(step * n for n in blocks), x.shape[-1]])
    split = [size for n in blocks for size in (n, step)]
    axes = range(1, 1 + len(split))
    return x.reshape(x.shape[0], *split, x.shape[-1]), axes[::2], axes[1::2]


def space_to_channel(
    x: Float[Array, "batch *spatial c"], step: int
) -> Float[Array, "batch *blocks c_blocks"]:
    """Move blocks of voxels into the channels, with zeros after the far end.

    Args:
        x: ``[batch, *spatial, c]``.
        step: voxels of a block along each axis.

    Returns:
        ``[batch, *ceil(spatial / step), step**d * c]``.
    """
    x, blocks, within = _split(x, step)
    x = x.transpose(0, *blocks, *within, x.ndim - 1)
    return x.reshape(*x.shape[: 1 + len(blocks)], -1)


def space_to_batch(
    x: Float[Array, "batch *spatial c"], step: int
) -> Float[Array, "batch_phases *blocks c"]:
    """Move the phases into the batch, with zeros after the far end.

    Args:
        x: ``[batch, *spatial, c]``.
        step: number of phases along each axis.

    Returns:
        ``[step**d * batch, *ceil(spatial / step), c]``, the batch running fastest.
    """
    x, blocks, within = _split(x, step)
    x = x.transpose(*within, 0, *blocks, x.ndim - 1)
    return x.reshape(-1, *x.shape[1 + len(within) :])


def batch_to_space(
    x: Float[Array, "batch_phases *blocks c"], step: int, spatial: Sequence[int]
) -> Float[Array, "batch *spatial c"]:
    """Undo ``space_to_batch``.

    Args:
        x: ``[step**d * batch, *blocks, c]``.
        step: number of phases along each axis.
        spatial: sizes of the result; the far end is cropped to them.

    Returns:
        ``[batch, *spatial, c]``.
    """
    rank = x.ndim - 2
    sizes = [step * n for n in x.shape[1:-1]]
    x = x.reshape(*(step,) * rank, -1, *x.shape[1:])
    pairs = [(rank + 1 + axis, axis) for axis in range(rank)]
    x = x.transpose(rank, *(axis for pair in pairs for axis in pair), x.ndim - 1)
    return crop_or_pad(
        x.reshape(x.shape[0], *sizes, -1), [x.shape[0], *spatial, x.shape[-1]]
    )


# Voxels whose taps the gradient of the kernel gathers at a time: they fit in a cache.
_BLOCK = 4096


def convolve_by_xla(x, kernel, *, stride=1, dilation=1):
    """Convolve by XLA's own operation.

    Sums of numbers of half the precision are kept in float32, and rounded once.

    Args:
        x: ``[batch, *spatial, c_in]``.
        kernel: ``[*taps, c_in, c_out]``.
        stride: as in ``convolution.convolve``.
        dilation: as in ``convolution.convolve``.

    Returns:
        ``[batch, *outputs, c_out]``, without padding.
    """
    rank = x.ndim - 2
    spatial = "DHW"[-rank:]
    y = lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride,) * rank,
        padding="VALID",
        rhs_dilation=(dilation,) * rank,
        dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
        preferred_element_type=_exact(x),
    )
    return y.astype(x.dtype)


def _exact(x):
    """Return the type of sums: neither CPUs nor tensor cores add below float32."""
    return jnp.promote_types(x.dtype, jnp.float32)


def convolve_on_cpu(x, kernel, *, stride, dilation):
    """Convolve by rearranging every case into one without steps, which costs little.

    Numbers of half the precision are computed with in float32, for which CPUs are made.

    Args:
        x: ``[batch, *spatial, c_in]``.
        kernel: ``[*taps, c_in, c_out]``.
        stride: as in ``convolution.convolve``.
        dilation: as in ``convolution.convolve``.

    Returns:
        ``[batch, *outputs, c_out]``, without padding.
    """
    if x.dtype != _exact(x):
        exact = (a.astype(_exact(x)) for a in (x, kernel))
        y = convolve_on_cpu(*exact, stride=stride, dilation=dilation)
        return y.astype(x.dtype)
    taps = kernel.shape[:-2]
    every = (slice(None), *(slice(None, None, stride) for _ in taps))
    if math.prod(taps) == 1:
        return jnp.tensordot(x[every], kernel.reshape(kernel.shape[-2:]), 1)
    if dilation > 1:
        outputs = [
            size - dilation * (n - 1)
            for size, n in zip(x.shape[1:-1], taps, strict=True)
        ]
        y = _convolve_without_steps(space_to_batch(x, dilation), kernel)
        return batch_to_space(y, dilation, outputs)[every]
    if stride > 1:
        return _convolve_without_steps(*_stride_to_channels(x, kernel, stride))
    return _convolve_without_steps(x, kernel)


def _stride_to_channels(x, kernel, stride):
    """Return image and kernel in blocks as wide as the stride, which then is one."""
    taps = [math.ceil(n / stride) for n in kernel.shape[:-2]]
    outputs = [
        (size - n) // stride + 1
        for size, n in zip(x.shape[1:-1], kernel.shape[:-2], strict=True)
    ]
    sizes = [stride * (n + m - 1) for n, m in zip(outputs, taps, strict=True)]
    x = crop_or_pad(x, [x.shape[0], *sizes, x.shape[-1]])
    kernel = jnp.moveaxis(kernel, -1, 0)
    kernel = jnp.moveaxis(space_to_channel(kernel, stride), 0, -1)
    return space_to_channel(x, stride), kernel


@jax.custom_vjp
def _convolve_without_steps(x, kernel):
    """Convolve with stride and dilation 1."""
    return convolve_by_xla(x, kernel) if x.ndim == 4 else _convolve_planes(x, kernel)


def _convolve_planes(x, kernel):
    """Convolve in 3D by one 2D convolution of all planes.

    The taps along z become channels, of the input or of the output: whichever are
    fewer, as they have to be copied.
    """
    batch, depth = x.shape[:2]
    along_z, *in_plane, c_in, c_out = kernel.shape
    outputs = depth - along_z + 1
    if c_in <= c_out:
        x = jnp.concatenate([x[:, i : i + outputs] for i in range(along_z)], -1)
        kernel = jnp.moveaxis(kernel, 0, -3).reshape(*in_plane, -1, c_out)
        y = convolve_by_xla(x.reshape(-1, *x.shape[2:]), kernel)
        return y.reshape(batch, outputs, *y.shape[1:])
    kernel = jnp.moveaxis(kernel, 0, -2).reshape(*in_plane, c_in, -1)
    y = convolve_by_xla(x.reshape(-1, *x.shape[2:]), kernel)
    y = y.reshape(batch, depth, *y.shape[1:-1], along_z, c_out)
    return sum(y[:, i : i + outputs, ..., i, :] for i in range(along_z))


def _forward(x, kernel):
    return _convolve_without_steps(x, kernel), (x, kernel)


def _backward(residuals, cotangent):
    x, kernel = residuals
    axes = range(kernel.ndim - 2)
    pads = [(0, 0), *((kernel.shape[i] - 1,) * 2 for i in axes), (0, 0)]
    flipped = jnp.flip(kernel, axes).swapaxes(-1, -2)
    if x.ndim == 4:  # images in a row are a volume, with one tap along it
        volumes, taps = (x[None], cotangent[None]), (1, *kernel.shape[:-2])
    else:
        volumes, taps = (x, cotangent), kernel.shape[:-2]
    gradient = _kernel_gradient(*volumes, taps).reshape(kernel.shape)
    return _convolve_without_steps(jnp.pad(cotangent, pads), flipped), gradient


_convolve_without_steps.defvjp(_forward, _backward)


def _kernel_gradient(x, cotangent, taps):
    """Return ``sum x[voxel + tap] cotangent[voxel]^T`` for all taps, slab by slab.

    It is a matrix product, channels by voxels by channels, of shifted copies. The
    cotangent is shifted along z and the image in the plane: this takes a third of the
    copies that shifts of the image alone would, and makes the product less narrow.
    Voxels are the last axis, where the product is fastest.
    """
    x, g = jnp.moveaxis(x, -1, 1), jnp.moveaxis(cotangent, -1, 1)
    (batch, c_in, depth, *_), (c_out, _, height, width) = x.shape, g.shape[1:]
    z = taps[0] - 1
    g = jnp.pad(g, [(0, 0), (0, 0), (z, z), (0, 0), (0, 0)])
    fitting = min(depth, max(1, _BLOCK // (height * width)))
    planes = max(n for n in range(1, fitting + 1) if depth % n == 0)
    slabs = depth // planes
    in_plane = list(itertools.product(range(taps[1]), range(taps[2])))

    def add(i, total):
        start = (i // slabs, 0, i % slabs * planes, 0, 0)
        image = lax.dynamic_slice(x, start, (1, c_in, planes, *x.shape[3:]))[0]
        shape = (1, c_out, planes + z, height, width)
        slab = lax.dynamic_slice(g, start, shape)[0]
        left = [image[..., j : j + height, k : k + width] for j, k in in_plane]
        right = [slab[:, z - j : z - j + planes] for j in range(taps[0])]
        left = jnp.stack(left).reshape(len(left) * c_in, -1)
        right = jnp.stack(right).reshape(len(right) * c_out, -1)
        return total + lax.dot_general(left, right, (((1,), (1,)), ((), ())))

    total = jnp.zeros_like(x, shape=(len(in_plane) * c_in, taps[0] * c_out))
    total = lax.fori_loop(0, batch * slabs, add, total)
    return jnp.moveaxis(total.reshape(*taps[1:], c_in, taps[0], c_out), -2, 0)
