"""Whole artificial pairs from any volume."""

from typing import NamedTuple

import jax

from regnet_jax.geometry import warp
from regnet_jax.synthesis.peaks import PeakFamily, peak_field


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
    key, volume, family: PeakFamily, *, spacing: float, noise: float = 5.0
) -> ArtificialPair:
    """Deforms a volume by a random field of a family, as RegNet 2017 does.

    Args:
        key: random key.
        volume: ``[*spatial, 1]``, the moving image, HU, real or procedural.
        family: of the field; its entries may be traced.
        spacing: isotropic voxel size, mm.
        noise: sigma of the noise on the deformed image, HU.

    Returns:
        The pair.
    """
    field_key, noise_key = jax.random.split(key)
    shape = volume.shape[:-1]
    displacement, area = peak_field(field_key, shape, family, spacing=spacing)
    # The interpolation reads each voxel many times: it must be there, not be made
    # anew at every reading.
    volume = jax.lax.optimization_barrier(volume)
    fixed = add_noise(noise_key, warp(volume, displacement), noise)
    return ArtificialPair(fixed, volume, displacement, area)
