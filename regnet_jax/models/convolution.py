"""Convolution that is fast on CPUs as well as on accelerators.

XLA's CPU backend runs 3D convolutions, and the weight gradient of any convolution,
at a small fraction of the machine's matrix product. There ``convolve`` is made of 2D
convolutions and matrix products instead; on accelerators it is what XLA offers.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
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


def convolve(x, kernel, *, stride: int = 1, dilation: int = 1, padding: str = "VALID"):
    """Convolves in 2D or 3D, as networks do: the kernel is not flipped.

    Reverse-mode differentiable any number of times, by both arguments.

    Args:
        x: ``[batch, *spatial, c_in]``, two or three spatial axes.
        kernel: ``[*taps, c_in, c_out]``.
        stride: voxels from one output to the next, along each axis.
        dilation: voxels from one tap to the next, along each axis.
        padding: ``VALID`` for none, or ``SAME`` for zeros around ``x`` such that there
            are ``ceil(spatial / stride)`` outputs.

    Returns:
        ``[batch, *outputs, c_out]``; without padding, ``(spatial - dilation * (taps -
        1) - 1) // stride + 1`` outputs on each axis.

    Raises:
        ValueError: if ranks or channels do not match, an axis is shorter than the
            reach of the kernel, or the padding is unknown.
    """
    if x.ndim not in (4, 5) or kernel.ndim != x.ndim:
        raise ValueError(f"{x.shape} and {kernel.shape} are not both 2D or both 3D")
    if x.shape[-1] != kernel.shape[-2]:
        raise ValueError(f"{x.shape} and {kernel.shape} differ in channels")
    reach = [dilation * (taps - 1) + 1 for taps in kernel.shape[:-2]]
    if padding == "SAME":
        pads = lax.padtype_to_pads(x.shape[1:-1], reach, [stride] * len(reach), "SAME")
        x = jnp.pad(x, [(0, 0), *pads, (0, 0)])
    elif padding != "VALID":
        raise ValueError(f"padding {padding!r} is neither VALID nor SAME")
    if any(size < n for size, n in zip(x.shape[1:-1], reach, strict=True)):
        raise ValueError(f"{x.shape} is smaller than the reach {reach} of the kernel")
    # Where devices share a kernel but not the images, its gradient is a sum over the
    # devices. A custom derivative has to say so: this cast is transposed to that sum.
    varying = jax.typeof(x).mat.varying - jax.typeof(kernel).mat.varying
    if varying:
        kernel = lax.pcast(kernel, tuple(varying), to="varying")
    return _convolve(x, kernel, stride, dilation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x, kernel, stride, dilation):
    steps = {"stride": stride, "dilation": dilation}
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_convolve_on_cpu, **steps),
        default=functools.partial(_convolve_by_xla, **steps),
    )


def _forward(x, kernel, stride, dilation):
    return _convolve(x, kernel, stride, dilation), (x, kernel)


def _backward(stride, dilation, residuals, cotangent):
    """Each platform's own derivative. Left to itself, JAX would differentiate the
    choice and carry the residuals of both platforms.
    """

    def gradients(function):
        function = functools.partial(function, stride=stride, dilation=dilation)
        return lambda x, kernel, cotangent: jax.vjp(function, x, kernel)[1](cotangent)

    return lax.platform_dependent(
        *residuals,
        cotangent,
        cpu=gradients(_convolve_on_cpu),
        default=gradients(_convolve_by_xla),
    )


_convolve.defvjp(_forward, _backward)


def _convolve_by_xla(x, kernel, *, stride=1, dilation=1):
    rank = x.ndim - 2
    spatial = "DHW"[-rank:]
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride,) * rank,
        padding="VALID",
        rhs_dilation=(dilation,) * rank,
        dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
    )


def _convolve_on_cpu(x, kernel, *, stride, dilation):
    """Rearranges every case into one without steps, which costs little."""
    taps = kernel.shape[:-2]
    every = (slice(None), *(slice(None, None, stride) for _ in taps))
    if math.prod(taps) == 1:
        return jnp.matmul(x[every], kernel.reshape(1, *kernel.shape[-2:]))
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
    return _convolve_by_xla(x, kernel) if x.ndim == 4 else _convolve_planes(x, kernel)


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
        y = _convolve_by_xla(x.reshape(-1, *x.shape[2:]), kernel)
        return y.reshape(batch, outputs, *y.shape[1:])
    kernel = jnp.moveaxis(kernel, 0, -2).reshape(*in_plane, c_in, -1)
    y = _convolve_by_xla(x.reshape(-1, *x.shape[2:]), kernel)
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


class Conv(nn.Module):
    """A convolution layer. Parameters: ``kernel`` (He) and ``bias`` (zero).

    Attributes:
        features: channels of the output.
        kernel_size: taps along each axis, two or three axes.
        stride: as in ``convolve``.
        dilation: as in ``convolve``.
        padding: as in ``convolve``.
        use_bias: whether to add a bias.
        dtype: to compute in; the parameters stay float32.
        kernel_init: initialiser of the kernel.
    """

    features: int
    kernel_size: Sequence[int]
    stride: int = 1
    dilation: int = 1
    padding: str = "VALID"
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    kernel_init: Callable = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x):
        """Maps ``[batch, *spatial, c]`` to ``[batch, *outputs, features]``."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        y = convolve(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            stride=self.stride,
            dilation=self.dilation,
            padding=self.padding,
        )
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return y + bias.astype(self.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
