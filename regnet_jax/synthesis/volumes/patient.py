"""The random numbers of a procedural patient, and the field of view."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from regnet_jax.synthesis.volumes.shapes import (
    smooth_noise,
)

# Uniform ranges: lengths in mm, densities in Hounsfield units.
_RANGES = {
    "size_z": (0.85, 1.15),
    "size_y": (0.85, 1.15),
    "size_x": (0.85, 1.15),
    "fat_thickness": (6.0, 22.0),
    "fat": (-115.0, -85.0),
    "muscle": (35.0, 65.0),
    "dome_right": (-85.0, -35.0),
    "dome_step": (0.0, 22.0),
    "dome_drop": (35.0, 60.0),
    "bowel": (20.0, 60.0),
    "liver": (45.0, 130.0),
    "gas_z": (-45.0, -20.0),
    "gas_y": (-60.0, -20.0),
    "lung_gap": (16.0, 26.0),
    "lung_z": (-45.0, -25.0),
    "lung_y": (-4.0, 8.0),
    "lung_height": (145.0, 175.0),
    "lung_depth": (80.0, 90.0),
    "lung_width": (58.0, 68.0),
    "heart_z": (-60.0, -30.0),
    "heart_y": (-40.0, -20.0),
    "heart_x": (12.0, 30.0),
    "heart_radius": (52.0, 68.0),
    "parenchyma": (-900.0, -780.0),
    "gravity": (0.1, 0.9),
    "texture": (5.0, 30.0),
    "vessel": (0.0, 180.0),
    "vessel_radius": (0.75, 1.3),
    "contrast": (35.0, 260.0),
    "blood": (35.0, 55.0),
    "aorta_x": (8.0, 20.0),
    "aorta_radius": (10.0, 15.0),
    "carina_z": (10.0, 30.0),
    "cortex": (350.0, 900.0),
    "marrow": (120.0, 220.0),
    "vertebra_phase": (0.0, 28.0),
    "vertebra_height": (22.0, 28.0),
    "rib_slope": (0.3, 0.7),
    "rib_distance": (24.0, 32.0),
    "fascia": (1.0, 2.6),
    "mediastinum": (26.0, 36.0),
    "trunk_x": (-6.0, 10.0),
    "sick_side": (-1.0, 1.0),
    "sick_z": (-90.0, 30.0),
    "sick_level": (20.0, 75.0),
    "consolidation": (-350.0, 40.0),
}


# Smooth noise: distance of its control points in mm, number of fields.
_TEXTURES = {
    "bend": (45.0, 3),
    "flesh": (6.0, 1),
    "bowel": (16.0, 1),
    "liver": (18.0, 2),
    "chambers": (18.0, 1),
    "lung": (3.5, 1),
    "patches": (28.0, 1),
    "fascia": (17.0, 2),
    "marrow": (4.0, 1),
}


# Half extents (z, y, x) in mm of the part of the body that a field of view shows.
_HALF_EXTENT = (150.0, 110.0, 160.0)


class Grid(NamedTuple):
    """Coordinate arrays (z, y, x) in mm: z up, y to the back, x to the left."""

    points: tuple
    spacing: float

    @property
    def shape(self):
        """Shape of each coordinate array."""
        return self.points[0].shape

    @property
    def softness(self):
        """Width of an edge, mm: the partial volume of a voxel."""
        return 0.35 * self.spacing + 0.15


def sample_patient(key):
    """Sample the numbers of one patient.

    Args:
        key: random key.

    Returns:
        A dictionary of scalars.
    """
    values = jax.random.uniform(key, (len(_RANGES),))
    return {
        name: low + (high - low) * values[i]
        for i, (name, (low, high)) in enumerate(_RANGES.items())
    }


def _centred_mesh(shape, spacing):
    lines = [(jnp.arange(n) - (n - 1) / 2) * spacing for n in shape]
    return jnp.meshgrid(*lines, indexing="ij")


def _plane(key, shape, spacing):
    """Return an axial, coronal or sagittal plane as a volume one voxel thick."""
    rows, columns = (m[None] for m in _centred_mesh(shape, spacing))
    flat = jnp.zeros_like(rows)
    planes = [(flat, rows, columns), (rows, flat, columns), (rows, columns, flat)]
    return jnp.stack([jnp.stack(p) for p in planes])[jax.random.randint(key, (), 0, 3)]


def field_of_view(key, shape: Sequence[int], spacing: float) -> Grid:
    """Return the coordinates of a box at a random place in the chest.

    Args:
        key: random key.
        shape: (z, y, x), or two numbers for a plane of random orientation.
        spacing: isotropic voxel size, mm.

    Returns:
        A ``Grid``; a plane has an axis of length one in front.
    """
    centre_key, plane_key = jax.random.split(key)
    if len(shape) == 3:
        mesh = jnp.stack(_centred_mesh(shape, spacing))
    else:
        mesh = _plane(plane_key, shape, spacing)
    half = jnp.max(mesh, axis=(1, 2, 3))
    room = jnp.maximum(0.85 * jnp.asarray(_HALF_EXTENT) - half, 10.0)
    centre = room * jax.random.uniform(centre_key, (3,), minval=-1.0, maxval=1.0)
    points = tuple(mesh[axis] + centre[axis] for axis in range(3))
    return Grid(points, spacing)


def texture_scale(name: str, spacing: float) -> float:
    """Return the distance of the control points of a texture, voxels.

    Args:
        name: of the texture.
        spacing: voxel size, mm.

    Returns:
        At least one and a half, as the noise would not be resolved otherwise.
    """
    return max(_TEXTURES[name][0] / spacing, 1.5)


def sample_textures(key, grid: Grid):
    """Sample the smooth noise of one patient.

    Args:
        key: random key.
        grid: where the voxels are.

    Returns:
        Name -> ``[*shape, number of fields]``, mean 0 and variance near 1.
    """
    textures = {
        name: (texture_scale(name, grid.spacing), number)
        for name, (_, number) in _TEXTURES.items()
    }
    return smooth_noise(key, grid.shape, textures)


def bend(grid: Grid, patient, offset) -> Grid:
    """Scale and bend the coordinates, so that no organ keeps an analytic shape.

    Args:
        grid: where the voxels are.
        patient: the numbers of the patient.
        offset: ``[*shape, 3]``, mm.

    Returns:
        The coordinates of the same voxels in the unbent body.
    """
    sizes = (patient["size_z"], patient["size_y"], patient["size_x"])
    points = tuple(
        p * size + offset[..., axis]
        for axis, (p, size) in enumerate(zip(grid.points, sizes, strict=True))
    )
    return grid._replace(points=points)
