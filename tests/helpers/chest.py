"""Chests of two lungs in tissue: volumes anywhere in the world, and a slice."""

import numpy as np
from scipy import ndimage

from regnet_jax.spatial import Frame, Image, to_world

# Of the slice, mm.
SPACING = 3.0


def chest(frame: Frame, centre, lung: float, scale: float = 1.0) -> np.ndarray:
    """HU on a grid; ``scale`` enlarges everything about ``centre`` (mm)."""
    points = to_world(frame, np.moveaxis(np.indices(frame.shape), 0, -1))
    # Along the axes of the grid, in millimetres.
    offset = (points - centre) @ np.reshape(frame.direction, (3, 3)) / scale
    x, y, z = np.moveaxis(offset, -1, 0)
    image = np.where((x / 95) ** 2 + (y / 80) ** 2 < 1, 40.0, -1000.0)
    for side in (-40.0, 40.0):
        inside = ((x - side) / 34) ** 2 + (y / 55) ** 2 + (z / 45) ** 2 < 1
        image[inside] = lung
    return image


def grown(frame: Frame, growth: float, lung: float = -800.0):
    """The map that enlarges a chest, the chest before and after, and the air gained.

    The tissue of the lungs stays, so the air takes all of the volume that is gained;
    the last is the gain as a fraction of the air before.
    """
    matrix = np.eye(4)
    matrix[:3, :3] *= growth
    matrix[:3, 3] = (1 - growth) * frame.centre
    volume, air = growth**3, -lung / 1000
    after = volume - (1 - air)
    moving = chest(frame, frame.centre, -1000 * after / volume, growth)
    return matrix, chest(frame, frame.centre, lung), moving, after / air - 1


def slice_of_a_chest(shift=(0.0, 0.0), origin=(0.0, 0.0), seed=0, shape=(90, 110)):
    """HU at the voxels of a grid: two textured lungs in a textured body, mm."""
    rng = np.random.default_rng(7)
    textures = [ndimage.gaussian_filter(rng.normal(size=(200, 200)), 2) for _ in "ab"]
    index = np.moveaxis(np.indices(shape), 0, -1)[..., ::-1]
    points = SPACING * index + np.asarray(origin) - np.asarray(shift)
    x, y = (points - SPACING * np.array([55, 45])).transpose(2, 0, 1)
    places = [points[..., 1] / SPACING + 40, points[..., 0] / SPACING + 40]
    soft, lung = (
        ndimage.map_coordinates(t / t.std(), places, order=1, mode="wrap")
        for t in textures
    )
    body = np.hypot(x / 140, y / 105) < 1
    lungs = np.hypot((np.abs(x) - 62) / 48, y / 72) < 1
    image = np.where(body, 30 + 40 * soft, -1000.0)
    image = np.where(lungs, -800 + 120 * lung, image)
    image = ndimage.gaussian_filter(image, 0.7)
    image += np.random.default_rng(seed).normal(0, 12, shape)
    return Image(image, Frame(shape, (SPACING,) * 2, origin, np.eye(2)), f"seed {seed}")
