"""Volumes of random regions: anatomies that are not a chest, of any contrast.

The idea of learning from random shapes of random intensity is that of Hoffmann et al.,
"SynthMorph: learning contrast-invariant registration without acquired images", IEEE
TMI 41(3), 2022. Here regions have soft borders, texture and vessels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from regnet_jax.hounsfield import AIR
from regnet_jax.synthesis.volumes.shapes import smooth_noise, tubes

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float

REGIONS = 8
# Distance of the control points of each kind of noise, mm.
_SCALES = {"coarse": 36.0, "fine": 16.0, "grain": 5.0, "tubes": 20.0, "wobble": 40.0}
# Densities of regions, and amplitudes of texture and tubes around them, HU.
_DENSITIES = (-900.0, 700.0)
_TEXTURE = 60.0
_CONTRAST = 400.0
# Sharpness of the borders of regions, in differences of unit noise.
_SHARPNESS = 12.0
# Probability that air surrounds the regions, and the range of its distance from the
# centre, as a fraction of the half axes.
_SURROUNDED = 0.7
_INSIDE = (0.75, 1.1)


def _outside(key, shape, wobble):
    """Return the membership of the air around a wobbly ellipsoid, or zero."""
    coin_key, radius_key = jax.random.split(key)
    radii = jax.random.uniform(
        radius_key, (len(shape),), minval=_INSIDE[0], maxval=_INSIDE[1]
    )
    lines = [jnp.linspace(-1.0, 1.0, n) for n in shape]
    mesh = jnp.meshgrid(*lines, indexing="ij")
    square = sum((m / r) ** 2 for m, r in zip(mesh, radii, strict=True))
    edge = jnp.sqrt(square + 1e-6) + 0.15 * wobble - 1.0
    there = jax.random.bernoulli(coin_key, _SURROUNDED)
    return jnp.where(there, jax.nn.sigmoid(edge / 0.02), 0.0)


def random_regions(
    key, shape: Sequence[int], *, spacing: float, brightest: float = _DENSITIES[1]
) -> Float[Array, "*spatial 1"]:
    """Sample a volume of regions with random shapes, densities, textures and vessels.

    Args:
        key: random key.
        shape: spatial shape, 2D or 3D.
        spacing: isotropic voxel size, mm; regions are some centimetres wide.
        brightest: largest density of a region, HU, without texture and vessels.

    Returns:
        ``[*shape, 1]``, within Hounsfield units, without noise.
    """
    keys = jax.random.split(key, 4)
    scales = {name: max(mm / spacing, 1.5) for name, mm in _SCALES.items()}
    counts = {"coarse": REGIONS, "fine": REGIONS, "grain": 1, "tubes": 2, "wobble": 1}
    noise = smooth_noise(keys[0], shape, {n: (scales[n], c) for n, c in counts.items()})
    rough = jax.random.uniform(keys[1], (REGIONS,)).reshape((1,) * len(shape) + (-1,))
    height = noise["coarse"] + rough * noise["fine"]
    member = jax.nn.softmax(_SHARPNESS * height, axis=-1)
    values = jax.random.uniform(keys[2], (3, REGIONS))
    density = _DENSITIES[0] + (brightest - _DENSITIES[0]) * values[0]
    grain = _TEXTURE * noise["grain"]
    vessel = _CONTRAST * tubes(noise["tubes"], scales["tubes"], 2.0 / spacing)
    image = member @ density + grain[..., 0] * (member @ values[1])
    image += vessel * (member @ (2.0 * values[2] - 1.0))
    air = _outside(keys[3], shape, noise["wobble"][..., 0])
    image = image + (AIR - image) * air
    return jnp.clip(image, AIR, 3000.0)[..., None]
