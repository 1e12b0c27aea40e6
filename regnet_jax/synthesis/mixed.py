"""Mixed-frequency displacement fields: smooth motion in patches along edges.

Source: Sokooti et al., "3D convolutional neural networks image registration based on
efficient supervised learning from artificial deformations", arXiv 1908.10235, 2019.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from regnet_jax.geometry import gaussian_smooth
from regnet_jax.synthesis.deformation import Deformation, everywhere, rescale
from regnet_jax.synthesis.splines import FINEST, draw_part, draw_spline

# An edge: HU per mm, in an image smoothed by so many mm.
_SLOPE = 30.0
_EDGE_SIGMA = 2.0
# Edge voxels that are kept, on average, and the width of the block each becomes, mm.
_KEPT = 40.0
_BLOCK = 25.0


class MixedFamily(NamedTuple):
    """What sets one family apart; lengths in millimetres.

    Attributes:
        amplitude: largest component of any displacement.
        least: the largest component is drawn from this part of the amplitude up.
        finest: smallest distance of control points of the field in the blocks.
        coarsest: largest distance of them.
        sharpest: smallest sigma of the smoothing.
        smoothest: largest sigma of the smoothing.
    """

    amplitude: float
    least: float = 0.2
    finest: float = FINEST
    coarsest: float = 80.0
    sharpest: float = 5.0
    smoothest: float = 15.0


def edges(volume, *, spacing: float):
    """Where an image is steep.

    Args:
        volume: ``[*spatial, 1]``, HU.
        spacing: isotropic voxel size, mm.

    Returns:
        ``[*spatial]`` bool.
    """
    dimensions = volume.ndim - 1
    smooth = gaussian_smooth(volume, [_EDGE_SIGMA / spacing] * dimensions)[..., 0]
    slopes = jnp.gradient(smooth, spacing)
    return sum(s**2 for s in slopes) > _SLOPE**2


def dilate(mask, width: int):
    """Turns each true voxel into a block.

    Args:
        mask: ``[*spatial]`` bool.
        width: of the block in voxels, odd.

    Returns:
        ``[*spatial]`` bool.
    """
    values = mask.astype(jnp.float32)
    for axis in range(mask.ndim):
        window = [width if a == axis else 1 for a in range(mask.ndim)]
        values = lax.reduce_window(
            values, 0.0, lax.max, window, (1,) * mask.ndim, "SAME"
        )
    return values > 0


def mixed_frequency(key, volume, family: MixedFamily, *, spacing: float) -> Deformation:
    """Draws a field that moves in blocks along edges and rests elsewhere.

    Args:
        key: random key.
        volume: ``[*spatial, 1]``, HU.
        family: its entries may be traced.
        spacing: isotropic voxel size, mm.

    Returns:
        A ``Deformation``; zero where the image has no edge.
    """
    keys = jax.random.split(key, 4)
    shape = volume.shape[:-1]
    steep = edges(volume, spacing=spacing)
    chance = _KEPT / jnp.maximum(jnp.sum(steep), _KEPT)
    kept = steep & jax.random.bernoulli(keys[0], chance, shape)
    blocks = dilate(kept, 2 * round(_BLOCK / spacing / 2) + 1)
    field = draw_spline(keys[1], shape, family, 0.0, spacing=spacing)
    sigma = jax.random.uniform(keys[2], minval=family.sharpest, maxval=family.smoothest)
    field = jnp.where(blocks[..., None], field, 0.0)
    field = gaussian_smooth(field, [sigma / spacing] * len(shape))
    largest = family.amplitude * draw_part(keys[3], family.least)
    return everywhere(rescale(field, largest / spacing))
