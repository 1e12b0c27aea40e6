"""Local correlation volumes: where the features of two images agree.

Source: P. Fischer et al., "FlowNet: learning optical flow with convolutional
networks", ICCV 2015, and the soft maximum of A. Kendall et al.,
"End-to-end learning of geometry and context for deep stereo regression", ICCV 2017.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float


def offsets(radius: int, dimensions: int) -> np.ndarray:
    """Return the displacements that a correlation volume compares.

    Args:
        radius: largest component, voxels.
        dimensions: 2 or 3.

    Returns:
        ``[(2 * radius + 1)**dimensions, dimensions]``, the last axis running fastest.
    """
    steps = range(-radius, radius + 1)
    return np.asarray(list(itertools.product(steps, repeat=dimensions)), np.float32)


def normalise(features: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
    """Scale the channels of each voxel to unit length.

    Args:
        features: ``[..., c]``.

    Returns:
        An array like it; zeros stay zeros.
    """
    square = jnp.sum(features**2, axis=-1, keepdims=True)
    return features * jax.lax.rsqrt(square + 1e-6)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def local_correlation(
    fixed: Float[Array, "batch *spatial c"],
    moving: Float[Array, "batch *spatial c"],
    radius: int,
) -> Float[Array, "batch *spatial offsets"]:
    """Return the inner products of each fixed voxel with the moving voxels around it.

    Differentiable in reverse mode.

    Args:
        fixed: ``[batch, *spatial, c]``.
        moving: of the same shape; zero outside.
        radius: of the neighbourhood, voxels.

    Returns:
        ``[batch, *spatial, offsets]`` in the order of ``offsets``: entry ``o`` at
        ``x`` is ``fixed(x) . moving(x + offset_o)``.
    """
    width, rank = 2 * radius + 1, fixed.ndim - 2
    padded = _padded(moving, radius)
    sizes = list(fixed.shape)
    sizes[-2] += 2 * radius

    def along_the_last_axis(start):
        row = jax.lax.dynamic_slice(padded, (0, *start, 0, 0), sizes)
        return _products(fixed, row, itertools.product(range(width)))

    # A loop compiles in a tenth of the time of its 125 products one after the other.
    starts = jnp.asarray(list(itertools.product(range(width), repeat=rank - 1)))
    rows = jax.lax.map(along_the_last_axis, starts)
    return jnp.moveaxis(rows, 0, -2).reshape(*fixed.shape[:-1], -1)


def _padded(moving, radius):
    spatial = moving.ndim - 2
    return jnp.pad(moving, [(0, 0), *[(radius, radius)] * spatial, (0, 0)])


def _products(fixed, padded, starts):
    """Return inner products with the crops that begin at ``starts``."""
    products = []
    for start in starts:
        sizes = fixed.shape[-1 - len(start) : -1]
        cut = [slice(s, s + n) for s, n in zip(start, sizes, strict=True)]
        products.append(jnp.sum(fixed * padded[(..., *cut, slice(None))], axis=-1))
    return jnp.stack(products, axis=-1)


def _forward(fixed, moving, radius):
    return local_correlation(fixed, moving, radius), (fixed, moving)


def _backward(radius, images, cotangent):
    """Differentiate the products one by one.

    The derivative of the loop itself takes twice as long to run.
    """

    def one_by_one(fixed, moving):
        starts = itertools.product(range(2 * radius + 1), repeat=fixed.ndim - 2)
        return _products(fixed, _padded(moving, radius), starts)

    return jax.vjp(one_by_one, *images)[1](cotangent)


local_correlation.defvjp(_forward, _backward)


def expected_offset(
    scores: Float[Array, "batch *spatial offsets"], radius: int
) -> Float[Array, "batch *spatial d"]:
    """Return the mean displacement under a softmax: a maximum with a gradient.

    Args:
        scores: ``[batch, *spatial, offsets]``, in the order of ``offsets``.
        radius: of the neighbourhood, voxels.

    Returns:
        ``[batch, *spatial, d]``, voxels.
    """
    probabilities = jax.nn.softmax(scores, axis=-1)
    return probabilities @ jnp.asarray(offsets(radius, scores.ndim - 2))
