"""Models of how two MR scans of the same anatomy differ in intensity.

Each is an intensity model like those of ``scanners``, for images whose percentiles are
mapped to ``MAPPED_RANGE`` (see ``regnet_jax.intensity``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from regnet_jax.intensity import MAPPED_RANGE
from regnet_jax.synthesis.random import gaussian_noise, uniform
from regnet_jax.synthesis.volumes.shapes import smooth_noise

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float

_DARK, _BRIGHT = MAPPED_RANGE
# Largest standard deviation of the noise, as a fraction of the range.
_NOISE = 0.05
# Distance over which the sensitivity of a coil changes in a human chest, mm, and the
# largest standard deviation of its logarithm.
_COIL_REACH, _COIL = 150.0, 0.2
# Pieces of the curve of contrast, and the range of their slopes before the curve is
# scaled to the whole range.
_PIECES, _SLOPES = 6, (0.4, 1.6)


def rician_noise(
    key, image: Float[Array, "*spatial 1"], *, spacing: float
) -> Float[Array, "*spatial 1"]:
    """Add the noise of a magnitude image, of up to 5 % of the range.

    Real and imaginary part have Gaussian noise. The magnitude of both is nearly
    Gaussian where there is signal, and positive on average in the background.

    Source: Gudbjartsson and Patz, "The Rician distribution of noisy MRI data", Magnetic
    Resonance in Medicine 34(6), 1995.

    Args:
        key: random key.
        image: ``[*spatial, 1]``, mapped to ``MAPPED_RANGE``.
        spacing: unused; all models take it.

    Returns:
        An image like ``image``, nowhere darker than the range.
    """
    level_key, *keys = jax.random.split(key, 3)
    sigma = uniform(level_key, 0.0, _NOISE) * (_BRIGHT - _DARK)
    real, imaginary = (sigma * gaussian_noise(each, image.shape) for each in keys)
    signal = jnp.maximum(image - _DARK, 0.0)
    return _DARK + jnp.hypot(signal + real, imaginary)


def coil_field(
    key, image: Float[Array, "*spatial 1"], *, spacing: float
) -> Float[Array, "*spatial 1"]:
    """Multiply the signal by the sensitivity of a receive coil, which varies slowly.

    Its logarithm has a standard deviation of up to 0.2, so that most factors lie
    between 0.7 and 1.5.

    Args:
        key: random key.
        image: ``[*spatial, 1]``, mapped to ``MAPPED_RANGE``.
        spacing: isotropic voxel size, mm.

    Returns:
        An image like ``image``; its darkest value stays.
    """
    level_key, field_key = jax.random.split(key)
    scales = {"coil": (_COIL_REACH / spacing, 1)}
    field = smooth_noise(field_key, image.shape[:-1], scales)["coil"]
    gain = jnp.exp(uniform(level_key, 0.0, _COIL) * field)
    return _DARK + (image - _DARK) * gain


def tissue_contrast(
    key, image: Float[Array, "*spatial 1"], *, spacing: float
) -> Float[Array, "*spatial 1"]:
    """Change the contrast of tissues by an increasing curve of straight pieces.

    Other echo and repetition times change the contrast of some tissues more than that
    of others. Their order stays: this is for two scans of one sequence.

    Args:
        key: random key.
        image: ``[*spatial, 1]``, mapped to ``MAPPED_RANGE``.
        spacing: unused; all models take it.

    Returns:
        An image like ``image``; both ends of the range stay where they are.
    """
    slopes = uniform(key, *_SLOPES, (_PIECES,))
    slopes *= _PIECES / jnp.sum(slopes)
    position = _PIECES * (image - _DARK) / (_BRIGHT - _DARK)
    # How far each value reaches into each piece; the outer pieces go on.
    first = jnp.arange(_PIECES, dtype=image.dtype).reshape((1,) * image.ndim + (-1,))
    low = jnp.where(first > 0, 0.0, -jnp.inf)
    high = jnp.where(first < _PIECES - 1, 1.0, jnp.inf)
    reach = jnp.clip(position[..., None] - first, low, high)
    return _DARK + (_BRIGHT - _DARK) / _PIECES * (reach @ slopes)


MR_MODELS = {
    "rician_noise": rician_noise,
    "coil_field": coil_field,
    "tissue_contrast": tissue_contrast,
}
