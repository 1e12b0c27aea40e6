"""How a convolution without padding is computed, platform by platform.

XLA's CPU backend runs 3D convolutions at a tenth of the machine's matrix product, and
the weight gradient of any convolution no faster, but 2D convolutions well. So, on
CPUs: strides and dilations become channels and batches, a 3D convolution becomes a 2D
one of all planes, and the weight gradient becomes matrix products.
"""

import itertools
import math

import jax
import jax.numpy as jnp
from jax import lax

from regnet_jax.models.phases import (
    batch_to_space,
    fit,
    space_to_batch,
    space_to_channel,
)

# Voxels whose taps the weight gradient spreads out at a time: they fit in a cache.
_BLOCK = 4096


def convolve_by_xla(x, kernel, *, stride=1, dilation=1):
    """What XLA offers; arguments as in ``convolution.convolve``, without padding.

    Sums of numbers of half the precision are kept in float32, and rounded once.
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
    """The type in which to add: CPUs and tensor cores have none below float32."""
    return jnp.promote_types(x.dtype, jnp.float32)


def convolve_on_cpu(x, kernel, *, stride, dilation):
    """Rearranges every case into one without steps, which costs little.

    Arguments as in ``convolution.convolve``, without padding. Numbers of half the
    precision are computed with in float32, for which CPUs are made.
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
        y = _stepless(space_to_batch(x, dilation), kernel)
        return batch_to_space(y, dilation, outputs)[every]
    if stride > 1:
        return _stepless(*_blocks(x, kernel, stride))
    return _stepless(x, kernel)


def _blocks(x, kernel, stride):
    """Image and kernel in blocks as wide as the stride, which then is one block."""
    taps = [math.ceil(n / stride) for n in kernel.shape[:-2]]
    outputs = [
        (size - n) // stride + 1
        for size, n in zip(x.shape[1:-1], kernel.shape[:-2], strict=True)
    ]
    sizes = [stride * (n + m - 1) for n, m in zip(outputs, taps, strict=True)]
    x = fit(x, [x.shape[0], *sizes, x.shape[-1]])
    kernel = jnp.moveaxis(kernel, -1, 0)
    kernel = jnp.moveaxis(space_to_channel(kernel, stride), 0, -1)
    return space_to_channel(x, stride), kernel


@jax.custom_vjp
def _stepless(x, kernel):
    """Stride and dilation 1, for CPUs."""
    return convolve_by_xla(x, kernel) if x.ndim == 4 else _convolve_planes(x, kernel)


def _convolve_planes(x, kernel):
    """3D convolution as one 2D convolution of all planes.

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


def _stepless_forward(x, kernel):
    return _stepless(x, kernel), (x, kernel)


def _stepless_backward(residuals, cotangent):
    x, kernel = residuals
    axes = range(kernel.ndim - 2)
    pads = [(0, 0), *((kernel.shape[i] - 1,) * 2 for i in axes), (0, 0)]
    flipped = jnp.flip(kernel, axes).swapaxes(-1, -2)
    if x.ndim == 4:  # images in a row are a volume, with one tap along it
        volumes, taps = (x[None], cotangent[None]), (1, *kernel.shape[:-2])
    else:
        volumes, taps = (x, cotangent), kernel.shape[:-2]
    gradient = _kernel_gradient(*volumes, taps).reshape(kernel.shape)
    return _stepless(jnp.pad(cotangent, pads), flipped), gradient


_stepless.defvjp(_stepless_forward, _stepless_backward)


def _kernel_gradient(x, cotangent, taps):
    """``sum x[voxel + tap] cotangent[voxel]^T`` for all taps, slab by slab.

    A matrix product, channels by voxels by channels, of shifted copies. The shifts
    along z are given to the cotangent: a third as many copies as all to the image,
    and a less narrow product. Voxels are the last axis, as the product is fastest so.
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
