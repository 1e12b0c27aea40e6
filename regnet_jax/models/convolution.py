"""Convolution that is fast on the CPU as well as on accelerators.

XLA's CPU backend runs 3D convolutions, and the weight gradient of any
convolution, at a small fraction of the machine's matrix product. `convolve`
computes the same thing from 2D convolutions and matrix products there, and
leaves accelerators to ``lax.conv_general_dilated`` (cuDNN and its like).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

# Rows of one im2col block of the weight gradient: small enough for the cache.
_BLOCK_ROWS = 4096


def convolve(x, kernel, *, stride=1, dilation=1, padding="VALID"):
    """Convolve in 2D or 3D, as networks do (no flip of the kernel).

    Args:
      x: ``[batch, *spatial, c_in]`` with two or three spatial axes.
      kernel: ``[*taps, c_in, c_out]``.
      stride: step between outputs, one integer for all axes.
      dilation: step between taps, one integer for all axes.
      padding: ``"VALID"``, or ``"SAME"`` for zeros around ``x`` such that
        the output has ``ceil(size / stride)`` points along each axis.

    Returns:
      ``[batch, *spatial_out, c_out]``; without padding, ``spatial_out`` is
      ``(size - dilation * (taps - 1) - 1) // stride + 1``.

    Raises:
      ValueError: the ranks or channels of ``x`` and ``kernel`` disagree, an
        axis is shorter than the kernel, or the padding is unknown.
    """
    if x.ndim not in (4, 5) or kernel.ndim != x.ndim:
        raise ValueError(f"need 2D or 3D arrays, got {x.shape} and {kernel.shape}")
    if x.shape[-1] != kernel.shape[-2]:
        raise ValueError(f"channels differ: {x.shape} and {kernel.shape}")
    reach = [dilation * (taps - 1) + 1 for taps in kernel.shape[:-2]]
    if padding == "SAME":
        pads = lax.padtype_to_pads(x.shape[1:-1], reach, (stride,) * len(reach), "SAME")
        x = jnp.pad(x, [(0, 0), *pads, (0, 0)])
    elif padding != "VALID":
        raise ValueError(f"padding is 'VALID' or 'SAME', not {padding!r}")
    if any(size < taps for size, taps in zip(x.shape[1:-1], reach, strict=True)):
        raise ValueError(f"{x.shape} is smaller than the kernel's reach {reach}")
    # Inside shard_map the kernel is often replicated and the batch is not.
    # Making it vary here turns into a sum over devices in its gradient.
    varying = jax.typeof(x).mat.varying - jax.typeof(kernel).mat.varying
    if varying:
        kernel = lax.pcast(kernel, tuple(varying), to="varying")
    return _convolve(x, kernel, stride, dilation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x, kernel, stride, dilation):
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_convolve_cpu, stride=stride, dilation=dilation),
        default=functools.partial(_convolve_xla, stride=stride, dilation=dilation),
    )


def _forward(x, kernel, stride, dilation):
    return _convolve(x, kernel, stride, dilation), (x, kernel)


def _backward(stride, dilation, residuals, cotangent):
    def gradients(function):
        function = functools.partial(function, stride=stride, dilation=dilation)
        return lambda x, kernel, g: jax.vjp(function, x, kernel)[1](g)

    return lax.platform_dependent(
        *residuals,
        cotangent,
        cpu=gradients(_convolve_cpu),
        default=gradients(_convolve_xla),
    )


_convolve.defvjp(_forward, _backward)


def _convolve_xla(x, kernel, *, stride=1, dilation=1):
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


def _convolve_cpu(x, kernel, *, stride, dilation):
    """Reduce every case to the dense one by moving axes, which is cheap."""
    if dilation > 1:
        outputs = [
            size - dilation * (taps - 1)
            for size, taps in zip(x.shape[1:-1], kernel.shape[:-2], strict=True)
        ]
        y = _dense(space_to_batch(x, dilation), kernel)
        y = batch_to_space(y, dilation, outputs)
        return y[(slice(None), *[slice(None, None, stride)] * len(outputs))]
    if stride > 1:
        return _strided(x, kernel, stride)
    return _dense(x, kernel)


def _strided(x, kernel, stride):
    """Trade the stride for channels: every output then has its own block."""
    outputs = [
        (size - taps) // stride + 1
        for size, taps in zip(x.shape[1:-1], kernel.shape[:-2], strict=True)
    ]
    blocks = [math.ceil(taps / stride) for taps in kernel.shape[:-2]]
    needed = [
        stride * (out + block - 1) for out, block in zip(outputs, blocks, strict=True)
    ]
    x = _fit(x, [x.shape[0], *needed, x.shape[-1]])
    kernel = _fit(kernel, [*(stride * block for block in blocks), *kernel.shape[-2:]])
    kernel = jnp.moveaxis(kernel, -1, 0)
    kernel = jnp.moveaxis(space_to_channel(kernel, stride), 0, -1)
    return _dense(space_to_channel(x, stride), kernel)


def _fit(x, shape):
    """Crop or zero-pad the far end of every axis to ``shape``."""
    x = x[tuple(slice(size) for size in shape)]
    return jnp.pad(x, [(0, n - m) for n, m in zip(shape, x.shape, strict=True)])


@jax.custom_vjp
def _dense(x, kernel):
    """CPU only: stride 1, no dilation, 2D or 3D."""
    if math.prod(kernel.shape[:-2]) == 1:
        return lax.dot_general(
            x, kernel.reshape(kernel.shape[-2:]), (((x.ndim - 1,), (0,)), ((), ()))
        )
    if x.ndim == 4:
        return _convolve_xla(x, kernel)
    return _fold_depth(x, kernel)


def _fold_depth(x, kernel):
    """3D convolution as one 2D convolution of all planes.

    The taps along z become channels, of the input or of the output, whichever
    is the less to move.
    """
    batch, depth = x.shape[:2]
    taps, c_in, c_out = kernel.shape[0], *kernel.shape[-2:]
    outputs = depth - taps + 1
    if c_in <= c_out:
        x = jnp.concatenate([x[:, i : i + outputs] for i in range(taps)], -1)
        kernel = jnp.moveaxis(kernel, 0, 2).reshape(*kernel.shape[1:3], -1, c_out)
        y = _convolve_xla(x.reshape(-1, *x.shape[2:]), kernel)
        return y.reshape(batch, outputs, *y.shape[1:])
    kernel = jnp.moveaxis(kernel, 0, 3).reshape(*kernel.shape[1:4], -1)
    y = _convolve_xla(x.reshape(-1, *x.shape[2:]), kernel)
    y = y.reshape(batch, depth, *y.shape[1:3], taps, c_out)
    return sum(y[:, i : i + outputs, ..., i, :] for i in range(taps))


def _dense_forward(x, kernel):
    return _dense(x, kernel), (x, kernel)


def _dense_backward(residuals, cotangent):
    x, kernel = residuals
    axes = tuple(range(kernel.ndim - 2))
    pads = [(0, 0), *((taps - 1, taps - 1) for taps in kernel.shape[:-2]), (0, 0)]
    flipped = jnp.flip(kernel, axes).swapaxes(-1, -2)
    return _dense(jnp.pad(cotangent, pads), flipped), _kernel_gradient(
        x, cotangent, kernel.shape
    )


_dense.defvjp(_dense_forward, _dense_backward)


def _kernel_gradient(x, cotangent, shape):
    """Sum over blocks of planes of (taps in the plane)^T (taps along z)."""
    if len(shape) == 4:  # planes of one volume whose kernel has one tap along z
        gradient = _kernel_gradient(x[None], cotangent[None], (1, *shape))
        return gradient.reshape(shape)
    depth, (height, width) = x.shape[1], cotangent.shape[2:4]
    along_z, along_y, along_x, c_in, c_out = shape
    # Shift the cotangent, not the image, along z: it leaves the plane's im2col
    # to be done once for all taps along z, and makes the product less narrow.
    z = along_z - 1
    g = jnp.pad(cotangent, ((0, 0), (z, z), (0, 0), (0, 0), (0, 0)))
    g = jnp.concatenate([g[:, z - i : z - i + depth] for i in range(along_z)], -1)
    planes = x.shape[0] * depth
    fitting = max(1, _BLOCK_ROWS // (height * width))
    block = max(n for n in range(1, fitting + 1) if planes % n == 0)
    x = x.reshape(planes // block, block, *x.shape[2:])
    g = g.reshape(planes // block, block * height * width, along_z * c_out)

    def add(total, pair):
        plane, g = pair
        columns = jnp.concatenate(
            [
                plane[:, i : i + height, j : j + width]
                for i in range(along_y)
                for j in range(along_x)
            ],
            -1,
        )
        return total + columns.reshape(g.shape[0], -1).T @ g, None

    start = jnp.zeros_like(x, shape=(along_y * along_x * c_in, along_z * c_out))
    total, _ = lax.scan(add, start, (x, g))
    total = total.reshape(along_y, along_x, c_in, along_z, c_out)
    return jnp.moveaxis(total, 3, 0)


def _phases(x, factor):
    """Split every spatial axis: ``[batch, n, factor, ..., channel]``."""
    x = _fit(
        x, [x.shape[0], *(-(-n // factor) * factor for n in x.shape[1:-1]), x.shape[-1]]
    )
    split = [part for n in x.shape[1:-1] for part in (n // factor, factor)]
    return x.reshape(x.shape[0], *split, x.shape[-1])


def space_to_channel(x, factor):
    """Move blocks of ``factor`` per axis into channels, zero-padding the end.

    ``[batch, *spatial, c]`` becomes ``[batch, *ceil(spatial / factor),
    factor**rank * c]``.
    """
    rank = x.ndim - 2
    x = _phases(x, factor)
    coarse, fine = range(1, 2 * rank, 2), range(2, 2 * rank + 1, 2)
    x = x.transpose(0, *coarse, *fine, 2 * rank + 1)
    return x.reshape(*x.shape[: rank + 1], -1)


def space_to_batch(x, factor):
    """Move the phases of every axis into the batch, zero-padding the end.

    ``[batch, *spatial, c]`` becomes ``[factor**rank * batch,
    *ceil(spatial / factor), c]``.
    """
    rank = x.ndim - 2
    x = _phases(x, factor)
    coarse, fine = range(1, 2 * rank, 2), range(2, 2 * rank + 1, 2)
    x = x.transpose(*fine, 0, *coarse, 2 * rank + 1)
    return x.reshape(-1, *x.shape[rank + 1 :])


def batch_to_space(x, factor, spatial):
    """Undo `space_to_batch`, cropped to the sizes in ``spatial``."""
    rank = x.ndim - 2
    x = x.reshape(*(factor,) * rank, -1, *x.shape[1:])
    order = [rank]
    for axis in range(rank):
        order += [rank + 1 + axis, axis]
    x = x.transpose(*order, 2 * rank + 1)
    sizes = [n * factor for n in x.shape[1:-1:2]]
    x = x.reshape(x.shape[0], *sizes, x.shape[-1])
    return x[(slice(None), *(slice(n) for n in spatial))]


class Conv(nn.Module):
    """A layer over `convolve`; kernel ``[*taps, c_in, features]``, valid padding.

    Attributes:
      features: channels of the output.
      kernel_size: taps along each axis, as many as there are axes.
      use_bias: whether to add a bias, which begins at zero.
      dtype: type to compute in; parameters stay float32.
      kernel_init: He's initialiser, meant for a ReLU behind the layer.
    """

    features: int
    kernel_size: Sequence[int]
    stride: int = 1
    dilation: int = 1
    padding: str = "VALID"
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: Callable = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x):
        """Map ``[batch, *spatial, c_in]`` to ``[batch, *spatial_out, features]``."""
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
