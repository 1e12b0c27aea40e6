"""Models of how two scans of the same anatomy differ in intensity.

Each is a function ``model(key, image, *, spacing) -> image`` on ``[*spatial, 1]`` in
Hounsfield units; ``random_chain`` applies several with a probability. The sponge needs
the deformation as well and stands apart.

Sources: sponge, noise and occlusions from Sokooti et al., arXiv 1908.10235, 2019; the
sponge after Staring et al., "Pulmonary image registration with elastix using a
standard intensity-based algorithm", MICCAI EMPIRE10 workshop, 2010.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from regnet_jax.geometry import gaussian_smooth, identity_grid, jacobian_determinant
from regnet_jax.geometry.smoothing import apply_separable, gaussian_matrix
from regnet_jax.hounsfield import AIR
from regnet_jax.synthesis.mr_scanners import MR_MODELS
from regnet_jax.synthesis.random import gaussian_noise, uniform
from regnet_jax.synthesis.surroundings import arms, table
from regnet_jax.synthesis.volumes.shapes import smooth_noise

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float

_OCCLUSIONS = 10
# Lungs breathe out to less than half of their volume; beyond these factors of density a
# field is not that of a lung.
_COMPRESSION = (0.5, 2.5)
# HU below which tissue is compressible, and above which it is not.
_COMPRESSIBLE = (-700.0, -300.0)
# Noise in air as a fraction of that in water, and the distance over which it follows
# the density around it, mm.
_NOISE_IN_AIR, _NOISE_REACH = 0.4, 15.0


def sponge(
    key, image: Float[Array, "*spatial 1"], displacement: Float[Array, "*spatial d"]
) -> Float[Array, "*spatial 1"]:
    """Conserve the mass of the lungs: make them denser where they are compressed.

    The density, the difference from air, is multiplied by the number of voxels of the
    moving image in a voxel of the fixed one, which is the Jacobian determinant of the
    field, clipped to [0.5, 2.5]; and by a random number of 0.9 to 1.1, the blood that
    comes and goes. Soft tissue cannot be compressed and keeps its density: the factor
    counts fully below -700 HU and not at all above -300 HU.

    Args:
        key: random key.
        image: ``[*spatial, 1]`` HU, the deformed image.
        displacement: ``[*spatial, d]``, voxels, that deformed it, from its grid.

    Returns:
        An image like ``image``; air stays air.
    """
    change = jnp.clip(jacobian_determinant(displacement), *_COMPRESSION)[..., None]
    change *= uniform(key, 0.9, 1.1)
    lowest, highest = _COMPRESSIBLE
    lung = jnp.clip((highest - image) / (highest - lowest), 0.0, 1.0)
    return AIR + (image - AIR) * (1.0 + lung * (change - 1.0))


def noise(
    key, image: Float[Array, "*spatial 1"], *, spacing: float
) -> Float[Array, "*spatial 1"]:
    """Add Gaussian noise of 10 HU with a random mean of up to 10 HU.

    Args:
        key: random key.
        image: ``[*spatial, 1]`` HU.
        spacing: unused; all models take it.

    Returns:
        An image like ``image``.
    """
    mean_key, noise_key = jax.random.split(key)
    mean = uniform(mean_key, -10.0, 10.0)
    return image + mean + 10.0 * gaussian_noise(noise_key, image.shape)


def quantum_noise(
    key, image: Float[Array, "*spatial 1"], *, spacing: float
) -> Float[Array, "*spatial 1"]:
    """Add the noise of another scanner: correlated, and stronger in dense surroundings.

    In soft tissue its standard deviation is up to 40 HU. It is correlated over up to
    1.2 mm, and falls to less than half towards air, as fewer photons are absorbed.

    Args:
        key: random key.
        image: ``[*spatial, 1]`` HU.
        spacing: isotropic voxel size, mm.

    Returns:
        An image like ``image``.
    """
    level_key, size_key, noise_key = jax.random.split(key, 3)
    *shape, _ = image.shape
    size = uniform(size_key, 0.0, 1.2 / spacing)
    kernels = [gaussian_matrix(n, size) for n in shape]
    # Rows whose squares sum to one keep the variance of white noise.
    kernels = [k / jnp.linalg.norm(k, axis=1, keepdims=True) for k in kernels]
    grains = apply_separable(gaussian_noise(noise_key, image.shape), kernels)
    density = jnp.clip((image - AIR) / 1000.0, 0.0, 1.5)
    density = gaussian_smooth(density, [_NOISE_REACH / spacing] * len(shape))
    level = uniform(level_key, 0.0, 40.0)
    return image + level * (_NOISE_IN_AIR + (1.0 - _NOISE_IN_AIR) * density) * grains


def thick_slices(
    key, image: Float[Array, "*spatial 1"], *, spacing: float
) -> Float[Array, "*spatial 1"]:
    """Reconstruct a volume in axial slices of 1 to 5 mm, and interpolate them linearly.

    Slices are averages over their thickness. They lie at a random offset, at distances
    of half their thickness to their thickness, as reconstructions overlap, but at least
    a voxel apart.

    Args:
        key: random key.
        image: ``[*spatial, 1]`` HU; the first axis of a volume runs along the body.
        spacing: isotropic voxel size, mm.

    Returns:
        An image like ``image``; 2D images as they are.
    """
    if image.ndim == 3:
        return image
    keys = jax.random.split(key, 3)
    thickness = uniform(keys[0], 1.0, 5.0) / spacing
    distance = jnp.maximum(thickness * uniform(keys[1], 0.5, 1.0), 1.0)
    offset = distance * uniform(keys[2], -1.0, 0.0)
    return apply_separable(
        image, [slice_matrix(image.shape[0], thickness, distance, offset)]
    )


def slice_matrix(size: int, thickness, distance, offset) -> Float[Array, "n n"]:
    """Return the matrix that averages voxels to slices and interpolates them linearly.

    Args:
        size: number of voxels along the axis.
        thickness: of a slice, voxels; may be traced.
        distance: from one slice to the next, at least one voxel; may be traced.
        offset: position of the first slice, voxels, in ``[-distance, 0]``.

    Returns:
        ``[size, size]`` with rows that sum to one.
    """
    voxels = jnp.arange(size, dtype=jnp.float32)[None, :]
    # At a distance of one voxel this many slices reach beyond the last voxel.
    places = offset + distance * jnp.arange(size + 2)
    # Slices beyond the ends show what the last voxels show.
    shown = jnp.clip(places, 0.0, size - 1.0)[:, None]
    ends = (shown + sign * 0.5 * thickness - voxels for sign in (-1.0, 1.0))
    low, high = (jnp.clip(end, -1.0, 1.0) for end in ends)
    # Between voxels values are linear: the integral of their tents up to the ends.
    average = high - low - 0.5 * (high * jnp.abs(high) - low * jnp.abs(low))
    average /= jnp.sum(average, axis=1, keepdims=True)
    near = jnp.abs(voxels.T - places[None, :]) / distance
    return jnp.maximum(1.0 - near, 0.0) @ average


def occlusions(
    key, image: Float[Array, "*spatial 1"], *, spacing: float
) -> Float[Array, "*spatial 1"]:
    """Paint up to ten ellipsoids of another density, with soft edges.

    Args:
        key: random key.
        image: ``[*spatial, 1]`` HU.
        spacing: isotropic voxel size, mm.

    Returns:
        An image like ``image``.
    """
    keys = jax.random.split(key, 4)
    *shape, _ = image.shape
    d = len(shape)
    number = jax.random.randint(keys[0], (), 0, _OCCLUSIONS + 1)
    centres = jax.random.uniform(keys[1], (_OCCLUSIONS, d)) * jnp.asarray(shape)[None]
    radii = uniform(keys[2], 5.0, 30.0, (_OCCLUSIONS, d)) / spacing
    densities = uniform(keys[3], -950.0, 150.0, (_OCCLUSIONS,))
    grid = jnp.moveaxis(identity_grid(shape), -1, 0)

    def paint(i, image):
        squares = [((g - centres[i, a]) / radii[i, a]) ** 2 for a, g in enumerate(grid)]
        radius = jnp.sqrt(sum(squares) + 1e-6)
        # Over a fifth of the radius from the inside to the outside.
        inside = jax.nn.sigmoid((1.0 - radius) / 0.05)[..., None]
        return jnp.where(i < number, image + (densities[i] - image) * inside, image)

    return jax.lax.fori_loop(0, _OCCLUSIONS, paint, image)


def contrast(
    key, image: Float[Array, "*spatial 1"], *, spacing: float
) -> Float[Array, "*spatial 1"]:
    """Change the contrast and apply a gamma curve, between air and 1000 HU.

    Args:
        key: random key.
        image: ``[*spatial, 1]`` HU.
        spacing: unused; all models take it.

    Returns:
        An image like ``image``; values outside that range are only scaled.
    """
    gain_key, gamma_key = jax.random.split(key)
    fraction = (image - AIR) / 2000.0
    inside = jnp.clip(fraction, 1e-4, 1.0)
    curved = inside ** jnp.exp(uniform(gamma_key, -0.25, 0.25)) + (fraction - inside)
    return AIR + 2000.0 * curved * uniform(gain_key, 0.9, 1.1)


def bias_field(
    key, image: Float[Array, "*spatial 1"], *, spacing: float
) -> Float[Array, "*spatial 1"]:
    """Multiply by a smooth drift of up to a few percent, of 100 mm and more.

    Args:
        key: random key.
        image: ``[*spatial, 1]`` HU.
        spacing: isotropic voxel size, mm.

    Returns:
        An image like ``image``; air stays air.
    """
    *shape, _ = image.shape
    drift = smooth_noise(key, shape, {"drift": (100.0 / spacing, 1)})["drift"]
    return AIR + (image - AIR) * jnp.exp(0.03 * drift)


def blur(
    key, image: Float[Array, "*spatial 1"], *, spacing: float
) -> Float[Array, "*spatial 1"]:
    """Apply the point spread of another scanner: up to 1.5 mm, different on each axis.

    Args:
        key: random key.
        image: ``[*spatial, 1]`` HU.
        spacing: isotropic voxel size, mm.

    Returns:
        An image like ``image``.
    """
    d = image.ndim - 1
    return gaussian_smooth(image, uniform(key, 0.0, 1.5 / spacing, (d,)))


INTENSITY_MODELS = {
    "noise": noise,
    "occlusions": occlusions,
    "contrast": contrast,
    "bias_field": bias_field,
    "blur": blur,
    "quantum_noise": quantum_noise,
    "thick_slices": thick_slices,
    "table": table,
    "arms": arms,
    **MR_MODELS,
}
# Those whose physics, or whose thresholds, are of CT.
CT_MODELS = ("quantum_noise", "table", "arms")


def random_chain(models: Sequence[Callable], *, probability: float = 0.5) -> Callable:
    """Return a model that applies each of several with a probability, in their order.

    Args:
        models: each ``model(key, image, *, spacing) -> image``.
        probability: that each is applied.

    Returns:
        A model; outside ``vmap``, models that are not applied are not computed either.
    """

    def chain(key, image, *, spacing: float):
        for index, model in enumerate(models):
            coin_key, model_key = jax.random.split(jax.random.fold_in(key, index))
            image = jax.lax.cond(
                jax.random.bernoulli(coin_key, probability),
                lambda key, image, model=model: model(key, image, spacing=spacing),
                lambda key, image: image,
                model_key,
                image,
            )
        return image

    return chain
