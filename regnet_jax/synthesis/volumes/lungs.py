"""The inside of procedural lungs: tissue, vessels from the hilum on, disease."""

import jax
import jax.numpy as jnp

from regnet_jax.geometry import sample
from regnet_jax.synthesis.random import materialise
from regnet_jax.synthesis.volumes.patient import Grid
from regnet_jax.synthesis.volumes.shapes import (
    blend,
    ellipsoid,
    inside,
    smooth_noise,
    tubes,
)

# Vessels, from the trunks to the twigs: distance of the noise's control points in the
# coordinates of the hilum, and radius of the tubes, mm.
_VESSELS = ((26.0, 3.2), (14.0, 1.7), (8.0, 1.0))
# Noise voxels for each of these distances: enough, as tubes are read linearly.
_RESOLUTION = 2.0
# How much the coordinates of the hilum shorten lines that lead away from it, the
# distance at which they change nothing, and how far they reach, mm.
_SHORTENING, _UNCHANGED, _REACH = 0.55, 60.0, 100.0
_NODULES = 5


def _from_hilum(grid: Grid, patient):
    """Return coordinates in which lines away from the hilum are short.

    Shapes that are as long as wide in them are elongated along these lines, as vessels
    are.

    Returns:
        ``[*shape, 3]`` mm, and the distance from the hilum and its local scale,
        ``[*shape]``.
    """
    z, y, x = grid.points
    hilum = (patient["carina_z"] - 30.0, 14.0, jnp.where(x > 0, 30.0, -30.0))
    offset = [p - h for p, h in zip((z, y, x), hilum, strict=True)]
    distance = jnp.sqrt(sum(o**2 for o in offset) + 12.0**2)
    scale = (_UNCHANGED / distance) ** _SHORTENING
    return jnp.stack([o * scale for o in offset], -1), distance, scale


def vessels(key, grid: Grid, patient, lung):
    """Return the membership of the vessels in the lungs.

    Args:
        key: random key.
        grid: where the voxels are.
        patient: the numbers of the patient.
        lung: ``[*shape]``, signed distance to the lungs, mm.

    Returns:
        ``[*shape]`` in [0, 1].
    """
    points, distance, scale = _from_hilum(grid, patient)
    # Thinner on the way out, and none where the pleura begins.
    calibre = patient["vessel_radius"] * jnp.clip(1.2 - distance / 170.0, 0.35, 1.1)
    calibre *= jnp.clip(-lung / 12.0, 0.2, 1.0)
    result = 0.0
    for number, (width, radius) in enumerate(_VESSELS):
        step = width / _RESOLUTION
        shape = (2 * round(_REACH / step) + 1,) * 3
        noise_key = jax.random.fold_in(key, number)
        noise = smooth_noise(noise_key, shape, {"tubes": (_RESOLUTION, 2)})["tubes"]
        places = points / step + round(_REACH / step)
        values = materialise(noise_key, lambda n=noise, p=places: sample(n, p))
        one = tubes(values, _RESOLUTION, radius * calibre * scale / step)
        result = jnp.maximum(result, one)
    return result


def tissue(grid: Grid, patient, textures):
    """Return the density of the tissue: higher to the back, and textured.

    Args:
        grid: where the voxels are.
        patient: the numbers of the patient.
        textures: of the patient.

    Returns:
        ``[*shape]``, HU.
    """
    image = patient["parenchyma"] + patient["gravity"] * grid.points[1]
    image += patient["texture"] * textures["lung"][..., 0]
    return image + 20.0 * textures["patches"][..., 0]


def disease(key, grid: Grid, patient, textures, image, lung):
    """Add consolidation, effusion and nodules, each in some patients.

    Args:
        key: random key.
        grid: where the voxels are.
        patient: the numbers of the patient.
        textures: of the patient.
        image: ``[*shape]``, HU, the healthy lungs.
        lung: ``[*shape]``, signed distance to the lungs, mm.

    Returns:
        An array like the image.
    """
    sick_key, nodule_key = jax.random.split(key)
    sick = jax.random.uniform(sick_key, (3,)) < jnp.asarray([0.25, 0.2, 0.3])
    z, y, x = grid.points
    # One side, mostly low and to the back, with ragged borders and some air left.
    side = jnp.sign(patient["sick_side"]) * x > 0
    ragged = 14.0 * textures["patches"][..., 0] + 6.0 * textures["bowel"][..., 0]
    place = (patient["sick_z"], 25.0, 65.0)
    dense = ellipsoid((z, y, jnp.abs(x)), place, (45.0, 40.0, 40.0)) + ragged
    filled = jnp.where(sick[0] & side, inside(dense, 4.0), 0.0)
    image = blend(image, patient["consolidation"], 0.9 * filled)
    image = _nodules(nodule_key, grid, image, sick[2])
    level = patient["sick_level"] - y + 0.25 * (z + 60.0)
    fluid = jnp.maximum(level, -lung - 60.0)
    wet = jnp.where(sick[1] & side, inside(fluid, grid.softness), 0.0)
    return blend(image, 12.0, wet)


def _nodules(key, grid: Grid, image, there):
    """Add round shadows of 5 to 30 mm anywhere in the lungs."""
    keys = jax.random.split(key, 3)
    centres = jax.random.uniform(keys[0], (_NODULES, 3), minval=-1.0, maxval=1.0)
    radii = jax.random.uniform(keys[1], (_NODULES,), minval=2.5, maxval=15.0)
    density = jax.random.uniform(keys[2], (_NODULES,), minval=-100.0, maxval=80.0)
    for centre, radius, value in zip(centres, radii, density, strict=True):
        place = centre * jnp.asarray([110.0, 70.0, 110.0])
        ball = ellipsoid(grid.points, tuple(place), (radius,) * 3)
        ball = jnp.where(there, inside(ball, grid.softness), 0.0)
        image = blend(image, value, ball)
    return image
