"""Whole artificial pairs from any volume."""

from typing import NamedTuple

import jax

from regnet_jax.geometry import warp
from regnet_jax.synthesis.families import Family, draw_field


class ArtificialPair(NamedTuple):
    """Two images and the field between them, known exactly.

    Attributes:
        fixed: ``[*spatial, 1]``: ``fixed(x) = moving(x + displacement(x)) + noise``.
        moving: ``[*spatial, 1]``.
        displacement: ``[*spatial, d]``, voxels, fixed to moving.
        area: ``[*spatial]``, true where the family trains.
    """

    fixed: jax.Array
    moving: jax.Array
    displacement: jax.Array
    area: jax.Array


def add_noise(key, image, sigma: float):
    """Gaussian noise, as the 2017 recipe puts on the deformed image.

    Args:
        key: random key.
        image: any shape, HU.
        sigma: standard deviation, HU; 0 leaves the image and costs nothing.

    Returns:
        An array like the image.
    """
    return image + sigma * jax.random.normal(key, image.shape) if sigma else image


def artificial_pair(
    key, volume, family: Family, *, spacing: float, noise: float = 5.0
) -> ArtificialPair:
    """Deforms a volume by a random field of a family, as RegNet does.

    Args:
        key: random key.
        volume: ``[*spatial, 1]``, the moving image, HU, real or procedural.
        family: of the field; its numbers may be traced.
        spacing: isotropic voxel size, mm.
        noise: sigma of the noise on the deformed image, HU.

    Returns:
        The pair.
    """
    field_key, noise_key = jax.random.split(key)
    displacement, area = draw_field(field_key, volume, family, spacing=spacing)
    # The interpolation reads each voxel many times: it must be there, not be made
    # anew at every reading.
    volume = jax.lax.optimization_barrier(volume)
    fixed = add_noise(noise_key, warp(volume, displacement), noise)
    return ArtificialPair(fixed, volume, displacement, area)
