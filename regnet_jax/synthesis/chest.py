"""Procedural chest CT: every call draws another patient, no data needed.

The volume holds what a registration network must learn to align in the thorax:
lungs with vessel trees, airways, heart, aorta, ribs, spine, sternum, diaphragm,
liver and fat, each with random shape, place and density. It is domain
randomisation, not a simulation: proportions are plausible, no organ is a model of
the real one.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from regnet_jax.synthesis.noise import tubes
from regnet_jax.synthesis.patient import (
    bend,
    draw_patient,
    draw_textures,
    field_of_view,
    texture_scale,
)
from regnet_jax.synthesis.shapes import blend, capsule, ellipsoid, inside, periodic

AIR = -1000.0


def _trunk(grid, patient, flesh):
    """Skin, fat and muscle; returns the image and the signed distance to muscle."""
    _, y, x = grid.points
    skin = ellipsoid((y, x), (0.0, 0.0), (112.0, 165.0))
    muscle = skin + patient["fat_thickness"]
    image = jnp.full(grid.shape, AIR)
    image = blend(image, patient["fat"], inside(skin, grid.softness))
    streaks = patient["muscle"] + 12.0 * flesh[..., 0]
    return blend(image, streaks, inside(muscle, 1.5)), muscle


def _diaphragm(grid, patient):
    """Height above the domes: positive in the thorax, negative in the abdomen."""
    z, y, x = grid.points
    top = patient["dome_right"] - patient["dome_step"] * jax.nn.sigmoid(x / 12.0)
    across = ((jnp.abs(x) - 70.0) / 70.0) ** 2 + ((y + 5.0) / 95.0) ** 2
    return z - top + patient["dome_drop"] * across


def _abdomen(grid, patient, textures, height):
    """Liver with its vessels, bowel in fat, stomach gas; everywhere."""
    _, y, x = grid.points
    lumps = textures["bowel"][..., 0]
    content = blend(patient["bowel"], -95.0, inside(lumps + 0.3, 0.05))
    veins = _vessels(grid, textures, "liver", 2.0)
    liver = patient["liver"] + 20.0 * veins
    content = blend(content, liver, inside(x + 0.3 * y - 20.0, 1.5))
    centre = (patient["gas_z"], patient["gas_y"], 70.0)
    gas = ellipsoid((height, y, x), centre, (12.0, 22.0, 24.0))
    return blend(content, AIR, inside(gas, grid.softness))


def _thorax(grid, patient, height):
    """Signed distances to the lungs (cut by heart and diaphragm) and to the heart."""
    z, y, x = grid.points
    p = patient
    lung_centre = (p["lung_z"], p["lung_y"], p["lung_gap"] + 48.0)
    lung_radii = (p["lung_height"], p["lung_depth"], p["lung_width"])
    lung = ellipsoid((z, y, jnp.abs(x)), lung_centre, lung_radii)
    heart_centre = (p["heart_z"], p["heart_y"], p["heart_x"])
    r = p["heart_radius"]
    heart = ellipsoid(grid.points, heart_centre, (r, 0.85 * r, r))
    return jnp.maximum(jnp.maximum(lung, -heart - 2.0), 2.0 - height), heart


def _vessels(grid, textures, name, radius):
    """Membership of the tubes that a texture makes; the radius in mm."""
    scale = texture_scale(name, grid.spacing)
    return tubes(textures[name], scale, radius / grid.spacing)


def _parenchyma(grid, patient, textures, lung):
    """Lung tissue: denser to the back, textured, with vessels at three scales."""
    tissue = patient["parenchyma"] + patient["gravity"] * grid.points[1]
    tissue += patient["texture"] * textures["lung"][..., 0]
    tissue += 20.0 * textures["patches"][..., 0]
    # Vessels thin out towards the pleura.
    calibre = 0.45 + 0.8 * jnp.clip(-lung / 45.0, 0.0, 1.0)
    calibre *= patient["vessel_radius"]
    for size, radius in (("large", 3.0), ("middle", 1.5), ("small", 0.8)):
        vessel = _vessels(grid, textures, f"vessels_{size}", radius * calibre)
        tissue = blend(tissue, patient["vessel"], vessel)
    return tissue


def _mediastinum(grid, patient, chambers, image, heart, lung):
    """Heart with its chambers, aorta, trachea and main bronchi."""
    z, y, x = grid.points
    cavity = inside(-chambers[..., 0], 0.15)
    blood = blend(patient["blood"], patient["contrast"], cavity)
    image = blend(image, blood, inside(heart, 1.2))
    radius = patient["aorta_radius"]
    aorta = ellipsoid((y, x), (42.0, patient["aorta_x"]), (radius, radius))
    image = blend(image, patient["contrast"], inside(aorta, grid.softness))
    carina = (patient["carina_z"], 12.0, 0.0)
    bronchi = capsule((z, y, jnp.abs(x)), carina, (-20.0, 18.0, 42.0), 5.0)
    airway = jnp.minimum(bronchi, capsule(grid.points, carina, (220.0, -5.0, 0.0), 8.5))
    wall = inside(airway - 1.8, grid.softness) * inside(-lung, 4.0)
    image = blend(image, 30.0, wall)
    return blend(image, -980.0, inside(airway, grid.softness))


def _bone(grid, patient, image, distance, marrow):
    """A dense shell around a softer core."""
    image = blend(image, patient["cortex"], inside(distance, grid.softness))
    return blend(image, marrow, inside(distance + 2.2, 0.8))


def _skeleton(grid, patient, spongy, image):
    """Spine with discs and canal, ribs that slope to the front, sternum."""
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


def chest(key, shape: Sequence[int], *, spacing: float):
    """Draws a chest CT of a patient that never was.

    Args:
        key: random key.
        shape: (z, y, x); z points up, y to the back, x to the patient's left. A
            shape of two numbers gives an axial, coronal or sagittal slice.
        spacing: isotropic voxel size, mm.

    Returns:
        ``[*shape, 1]`` in Hounsfield units, without noise.
    """
    view_key, patient_key, texture_key = jax.random.split(key, 3)
    patient = draw_patient(patient_key)
    grid = field_of_view(view_key, shape, spacing)
    textures = draw_textures(texture_key, grid)
    grid = bend(grid, patient, 4.0 * textures["bend"])
    image, muscle = _trunk(grid, patient, textures["flesh"])
    height = _diaphragm(grid, patient)
    below = inside(height, grid.softness) * inside(muscle + 22.0, 2.0)
    image = blend(image, _abdomen(grid, patient, textures, height), below)
    lung, heart = _thorax(grid, patient, height)
    image = _mediastinum(grid, patient, textures["chambers"], image, heart, lung)
    tissue = _parenchyma(grid, patient, textures, lung)
    image = blend(image, tissue, inside(lung, grid.softness))
    image = _skeleton(grid, patient, textures["marrow"], image)
    return jnp.clip(image.reshape(*shape, 1), AIR, 3000.0)
