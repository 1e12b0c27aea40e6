"""Where the features of two images agree: local correlation volumes.

Source: P. Fischer et al., "FlowNet: learning optical flow with convolutional
networks", ICCV 2015, and the soft reading of a maximum in A. Kendall et al.,
"End-to-end learning of geometry and context for deep stereo regression", ICCV 2017.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np


def offsets(radius: int, dimensions: int) -> np.ndarray:
    """The displacements that a correlation volume compares.

    Args:
        radius: largest component, voxels.
        dimensions: 2 or 3.

    Returns:
        ``[(2 * radius + 1)**dimensions, dimensions]``, the last axis running fastest.
    """
    steps = range(-radius, radius + 1)
    return np.asarray(list(itertools.product(steps, repeat=dimensions)), np.float32)


def normalise(features):
    """Scales the channels of each voxel to unit length.

    Args:
        features: ``[..., c]``.

    Returns:
        An array like it; zeros stay zeros.
    """
    square = jnp.sum(features**2, axis=-1, keepdims=True)
    return features * jax.lax.rsqrt(square + 1e-6)


def local_correlation(fixed, moving, radius: int):
    """Inner products of each fixed voxel with the moving voxels around it.

    Args:
        fixed: ``[batch, *spatial, c]``.
        moving: of the same shape; zero outside.
        radius: of the neighbourhood, voxels.

    Returns:
        ``[batch, *spatial, offsets]`` in the order of ``offsets``: entry ``o`` at
        ``x`` is ``fixed(x) . moving(x + offset_o)``.
    """
    spatial = fixed.shape[1:-1]
    pads = [(0, 0), *[(radius, radius)] * len(spatial), (0, 0)]
    padded = jnp.pad(moving, pads)
    products = []
    for start in itertools.product(range(2 * radius + 1), repeat=len(spatial)):
        cut = [slice(s, s + n) for s, n in zip(start, spatial, strict=True)]
        products.append(jnp.sum(fixed * padded[(slice(None), *cut)], axis=-1))
    return jnp.stack(products, axis=-1)


def expected_offset(scores, radius: int):
    """The mean displacement under a softmax of scores, a maximum with a gradient.

    Args:
        scores: ``[batch, *spatial, offsets]``, in the order of ``offsets``.
        radius: of the neighbourhood, voxels.

    Returns:
        ``[batch, *spatial, d]``, voxels.
    """
    chances = jax.nn.softmax(scores, axis=-1)
    return chances @ jnp.asarray(offsets(radius, scores.ndim - 2))
