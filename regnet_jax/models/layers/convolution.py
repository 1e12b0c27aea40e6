"""The convolution of all networks: fast on CPUs as well as on accelerators.

XLA's CPU backend is slow at 3D convolutions, so there they are rearranged (see
``cpu_convolution``); on accelerators they are XLA's own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from regnet_jax.models.layers.cpu_convolution import (
    convolve_by_xla,
    convolve_on_cpu,
)

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float


def convolve(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*taps c_in c_out"],
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: str = "VALID",
) -> Float[Array, "batch *outputs c_out"]:
    """Convolve in 2D or 3D, as networks do: the kernel is not flipped.

    Reverse-mode differentiable any number of times, by both arguments. With
    bfloat16 arguments, sums over taps and channels are float32, rounded at the end.

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
    # devices. Custom derivatives must state it: the transpose of this cast is that sum.
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
        cpu=functools.partial(convolve_on_cpu, **steps),
        default=functools.partial(convolve_by_xla, **steps),
    )


def _forward(x, kernel, stride, dilation):
    return _convolve(x, kernel, stride, dilation), (x, kernel)


def _backward(stride, dilation, residuals, cotangent):
    """Apply each platform's own derivative.

    Left to itself, JAX would differentiate the choice and carry the residuals of both
    platforms.
    """

    def gradients(function):
        function = functools.partial(function, stride=stride, dilation=dilation)
        return lambda x, kernel, cotangent: jax.vjp(function, x, kernel)[1](cotangent)

    return lax.platform_dependent(
        *residuals,
        cotangent,
        cpu=gradients(convolve_on_cpu),
        default=gradients(convolve_by_xla),
    )


_convolve.defvjp(_forward, _backward)


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
        """Map ``[batch, *spatial, c]`` to ``[batch, *outputs, features]``."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        y = convolve(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            stride=self.stride,
            dilation=self.dilation,
            padding=self.padding,
        )
        if not self.use_bias:
            return y
        zeros = nn.initializers.zeros
        bias = self.param("bias", zeros, (self.features,), jnp.float32)
        return y + bias.astype(self.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
