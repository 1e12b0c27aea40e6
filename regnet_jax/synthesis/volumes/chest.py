"""Procedural chest CT: every key gives another patient, without data.

The volume holds the structures that a registration network must align in the thorax:
lungs with vessel trees and disease, airways, heart, great vessels, ribs, spine,
sternum, diaphragm, liver, fat and muscles, each of random shape, place and density.
It is domain randomisation, not a simulation: proportions are plausible, no organ is a
model of the real one.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from regnet_jax.hounsfield import AIR
from regnet_jax.synthesis.volumes.lungs import disease, tissue, vessels
from regnet_jax.synthesis.volumes.patient import (
    bend,
    field_of_view,
    sample_patient,
    sample_textures,
    texture_scale,
)
from regnet_jax.synthesis.volumes.shapes import (
    blend,
    capsule,
    ellipsoid,
    inside,
    periodic,
    tubes,
)

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float


def _trunk(grid, patient, textures):
    """Paint skin, fat, and muscles with fat between them.

    Returns:
        The image and the signed distance to the muscles.
    """
    _, y, x = grid.points
    fascia = textures["fascia"]
    uneven = 1.0 + 0.35 * fascia[..., 1]
    skin = ellipsoid((y, x), (0.0, 0.0), (112.0, 165.0))
    muscle = skin + patient["fat_thickness"] * uneven
    image = jnp.full(grid.shape, AIR)
    image = blend(image, 20.0, inside(skin, grid.softness))
    image = blend(image, patient["fat"], inside(skin + 2.0, grid.softness))
    streaks = patient["muscle"] + 12.0 * textures["flesh"][..., 0]
    streaks = blend(streaks, patient["fat"], _fascia(grid, patient, textures))
    return blend(image, streaks, inside(muscle, 1.5)), muscle


def _fascia(grid, patient, textures):
    """Return the membership of the sheets of fat between muscles and organs."""
    # A smooth field vanishes on sheets; it changes by about 1.2 over 17 mm.
    width = 1.2 * jnp.maximum(patient["fascia"], 0.5 * grid.spacing) / 17.0
    return jnp.exp(-0.5 * (textures["fascia"][..., 0] / width) ** 2)


def _diaphragm(grid, patient):
    """Return the height above the domes: negative in the abdomen."""
    z, y, x = grid.points
    top = patient["dome_right"] - patient["dome_step"] * jax.nn.sigmoid(x / 12.0)
    across = ((jnp.abs(x) - 70.0) / 70.0) ** 2 + ((y + 5.0) / 95.0) ** 2
    return z - top + patient["dome_drop"] * across


def _abdomen(grid, patient, textures, height):
    """Return liver with its vessels, bowel in fat and stomach gas, at all voxels."""
    _, y, x = grid.points
    lumps = textures["bowel"][..., 0]
    content = blend(patient["bowel"], -95.0, inside(lumps + 0.3, 0.05))
    scale = texture_scale("liver", grid.spacing)
    veins = tubes(textures["liver"], scale, 2.0 / grid.spacing)
    liver = patient["liver"] + 20.0 * veins
    content = blend(content, liver, inside(x + 0.3 * y - 20.0, 1.5))
    centre = (patient["gas_z"], patient["gas_y"], 70.0)
    gas = ellipsoid((height, y, x), centre, (12.0, 22.0, 24.0))
    return blend(content, AIR, inside(gas, grid.softness))


def _thorax(grid, patient, height):
    """Return the signed distances to the lungs, mediastinum cut out, and heart."""
    z, y, x = grid.points
    p = patient
    lung_centre = (p["lung_z"], p["lung_y"], p["lung_gap"] + 48.0)
    lung_radii = (p["lung_height"], p["lung_depth"], p["lung_width"])
    lung = ellipsoid((z, y, jnp.abs(x)), lung_centre, lung_radii)
    heart_centre = (p["heart_z"], p["heart_y"], p["heart_x"])
    r = p["heart_radius"]
    # Wider than high, and the apex points to the left and down.
    turned = (z + 0.35 * (x - p["heart_x"]), y, x)
    heart = ellipsoid(turned, heart_centre, (0.85 * r, 0.8 * r, r))
    trunk = (p["trunk_x"], p["mediastinum"])
    middle = capsule(
        grid.points, (-70.0, 20.0, trunk[0]), (75.0, -8.0, trunk[0]), trunk[1]
    )
    between = jnp.minimum(heart, middle)
    return jnp.maximum(jnp.maximum(lung, -between - 2.0), 2.0 - height), heart


def _great_vessels(grid, patient):
    """Return the signed distance to aorta, vena cava and pulmonary arteries."""
    z, y, x = grid.points
    radius = patient["aorta_radius"]
    back = (42.0, patient["aorta_x"])
    top = patient["carina_z"] + 28.0
    down = jnp.maximum(ellipsoid((y, x), back, (radius, radius)), z - top)
    front = (-14.0, -6.0)
    up = capsule(grid.points, (-30.0, -10.0, 2.0), (top, *front), radius + 2.0)
    arch = capsule(grid.points, (top, *front), (top, *back), radius)
    cava = capsule(grid.points, (-30.0, -2.0, -26.0), (160.0, -8.0, -28.0), 8.5)
    root = (patient["carina_z"] - 22.0, -8.0, 6.0)
    hilum = (patient["carina_z"] - 30.0, 12.0, 40.0)
    pulmonary = capsule((z, y, jnp.abs(x - 4.0)), root, hilum, 9.5)
    parts = (down, up, arch, cava, pulmonary)
    return functools.reduce(jnp.minimum, parts)


def _mediastinum(grid, patient, textures, image, heart, lung):
    """Paint the heart with its chambers, great vessels, trachea and main bronchi."""
    z, y, x = grid.points
    cavity = inside(-textures["chambers"][..., 0], 0.15)
    blood = blend(patient["blood"], patient["contrast"], cavity)
    around = blend(patient["fat"], blood, inside(heart + 6.0, 1.2))
    image = blend(image, around, inside(heart, 1.2))
    great = inside(_great_vessels(grid, patient), grid.softness)
    image = blend(image, patient["contrast"], great)
    carina = (patient["carina_z"], 12.0, 0.0)
    bronchi = capsule((z, y, jnp.abs(x)), carina, (-20.0, 18.0, 42.0), 5.0)
    airway = jnp.minimum(bronchi, capsule(grid.points, carina, (220.0, -5.0, 0.0), 8.5))
    wall = inside(airway - 1.8, grid.softness) * inside(-lung, 4.0)
    image = blend(image, 30.0, wall)
    return blend(image, -980.0, inside(airway, grid.softness))


def _bone(grid, patient, image, distance, marrow):
    """Paint a dense shell around a softer core."""
    image = blend(image, patient["cortex"], inside(distance, grid.softness))
    return blend(image, marrow, inside(distance + 2.2, 0.8))


def _skeleton(grid, patient, spongy, image):
    """Paint spine with discs and canal, ribs that slope to the front, sternum."""
    z, y, x = grid.points
    marrow = patient["marrow"] + 40.0 * spongy[..., 0]
    level = periodic(z + patient["vertebra_phase"], patient["vertebra_height"])
    spine = ellipsoid((y, x), (72.0, 0.0), (16.0, 19.0))
    image = blend(image, 70.0, inside(spine, 1.0))  # discs, where no bone follows
    body = jnp.maximum(spine, jnp.abs(level) - 0.5 * patient["vertebra_height"] + 2.5)
    process = capsule((level, y, x), (4.0, 97.0, 0.0), (-6.0, 118.0, 0.0), 5.0)
    arch = jnp.abs(ellipsoid((y, x), (94.0, 0.0), (10.0, 13.0))) - 3.0
    cage = ellipsoid((y, x), (2.0, 0.0), (92.0, 136.0))
    across = periodic(z - patient["rib_slope"] * y, patient["rib_distance"])
    rib = 5.0 * (jnp.sqrt((cage / 4.5) ** 2 + (across / 6.5) ** 2 + 1e-6) - 1.0)
    rib = jnp.maximum(rib, -0.6 * (y + 60.0))  # cartilage joins them to the sternum
    sternum = jnp.maximum(ellipsoid((y, x), (-88.0, 0.0), (6.0, 17.0)), -z - 60.0)
    for bone in (body, jnp.minimum(process, arch), rib, sternum):
        image = _bone(grid, patient, image, bone, marrow)
    return image


def chest(key, shape: Sequence[int], *, spacing: float) -> Float[Array, "*spatial 1"]:
    """Sample a chest CT of an artificial patient.

    Args:
        key: random key.
        shape: (z, y, x); z points up, y to the back, x to the patient's left. A
            shape of two numbers gives an axial, coronal or sagittal slice.
        spacing: isotropic voxel size, mm.

    Returns:
        ``[*shape, 1]`` in Hounsfield units, without noise.
    """
    keys = jax.random.split(key, 5)
    view_key, patient_key, texture_key, vessel_key, disease_key = keys
    patient = sample_patient(patient_key)
    grid = field_of_view(view_key, shape, spacing)
    textures = sample_textures(texture_key, grid)
    grid = bend(grid, patient, 4.0 * textures["bend"])
    image, muscle = _trunk(grid, patient, textures)
    height = _diaphragm(grid, patient)
    below = inside(height, grid.softness) * inside(muscle + 22.0, 2.0)
    image = blend(image, _abdomen(grid, patient, textures, height), below)
    lung, heart = _thorax(grid, patient, height)
    image = _mediastinum(grid, patient, textures, image, heart, lung)
    air = tissue(grid, patient, textures)
    air = blend(air, patient["vessel"], vessels(vessel_key, grid, patient, lung))
    air = disease(disease_key, grid, patient, textures, air, lung)
    image = blend(image, air, inside(lung, grid.softness))
    image = _skeleton(grid, patient, textures["marrow"], image)
    return jnp.clip(image.reshape(*shape, 1), AIR, 3000.0)
