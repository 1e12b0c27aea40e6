"""A chest of two ellipsoids of lung in one of tissue, anywhere in the world."""

import numpy as np

from regnet_jax.spatial import Frame, to_world


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
