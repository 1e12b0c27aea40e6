"""Whole artificial pairs from any volume."""

from typing import NamedTuple

import jax

from regnet_jax.geometry import warp
from regnet_jax.synthesis.fields.deformation import limit_folding
from regnet_jax.synthesis.fields.families import Family, sample_field
from regnet_jax.synthesis.fields.splines import SplineFamily, single_frequency
from regnet_jax.synthesis.random import gaussian_noise
from regnet_jax.synthesis.scanners import (
    blur,
    quantum_noise,
    random_chain,
    sponge,
    thick_slices,
)
from regnet_jax.synthesis.surroundings import arms, table

# Another patient differs by slow deformations, mm, that leave their organs intact.
_MILD = SplineFamily(8.0, finest=40.0, held_border=0.0)
_LEAST_JACOBIAN = 0.5


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
    """Add Gaussian noise, as the 2017 recipe does to the deformed image.

    Args:
        key: random key.
        image: any shape, HU.
        sigma: standard deviation, HU; 0 leaves the image and costs nothing.

    Returns:
        An array like the image.
    """
    return image + sigma * gaussian_noise(key, image.shape) if sigma else image


def another_patient(key, volume, *, spacing: float):
    """Deform a volume mildly: one scan gives many patients, as in 2019.

    Source: Sokooti et al., arXiv 1908.10235, 2019, who multiply their scans in this way
    before they make pairs of them.

    Args:
        key: random key.
        volume: ``[*spatial, 1]``, HU.
        spacing: isotropic voxel size, mm.

    Returns:
        An array like the volume, which does not fold anywhere.
    """
    shape = volume.shape[:-1]
    field, _ = single_frequency(key, shape, _MILD, spacing=spacing)
    return warp(volume, limit_folding(field, _LEAST_JACOBIAN))


def artificial_pair(
    key,
    volume,
    family: Family,
    *,
    spacing: float,
    noise: float = 5.0,
    least_jacobian: float | None = None,
) -> ArtificialPair:
    """Deform a volume by a random field of a family, as RegNet does.

    Args:
        key: random key.
        volume: ``[*spatial, 1]``, the moving image, HU, real or procedural.
        family: of the field; its numbers may be traced.
        spacing: isotropic voxel size, mm.
        noise: sigma of the noise on the deformed image, HU.
        least_jacobian: see ``sample_field``.

    Returns:
        The pair.
    """
    field_key, noise_key = jax.random.split(key)
    displacement, area = sample_field(
        field_key, volume, family, spacing=spacing, least_jacobian=least_jacobian
    )
    # The interpolation reads each voxel and each displacement many times: they must
    # be there, not be made anew at every reading.
    volume, displacement = jax.lax.optimization_barrier((volume, displacement))
    fixed = add_noise(noise_key, warp(volume, displacement), noise)
    return ArtificialPair(fixed, volume, displacement, area)


# Arms first: they lie beside the trunk, and not beside the table.
_SCANNER = random_chain([arms, table, blur, thick_slices])


def two_scans(key, pair: ArtificialPair, *, spacing: float) -> ArtificialPair:
    """Take both images of a pair with scanners of their own.

    The lungs of the fixed image get denser where they are compressed. Then each image
    gets its own noise and, with a probability of one half each, table, arms, point
    spread and slices. Noise that both images share, which a scan brings along when it
    is warped, would let a registration match noise instead of anatomy.

    Args:
        key: random key.
        pair: of images without noise of their own; see ``volumes.anatomy`` for scans.
        spacing: isotropic voxel size, mm.

    Returns:
        The pair with other images and the same displacement.
    """
    sponge_key, fixed_key, moving_key = jax.random.split(key, 3)
    fixed = sponge(sponge_key, pair.fixed, pair.displacement)
    return pair._replace(
        fixed=_scan(fixed_key, fixed, spacing=spacing),
        moving=_scan(moving_key, pair.moving, spacing=spacing),
    )


def _scan(key, image, *, spacing: float):
    chain_key, noise_key = jax.random.split(key)
    image = _SCANNER(chain_key, image, spacing=spacing)
    return quantum_noise(noise_key, image, spacing=spacing)
