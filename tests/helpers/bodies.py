"""A soft body of blobs, and rigid motions of it, for tests of the linear alignment."""

import itertools

import numpy as np
from scipy.spatial.transform import Rotation

from regnet_jax.spatial import Frame, Image, to_world

RADIUS = 40.0  # mm, of the object


def body(points, seed=0):
    """A soft ellipsoid of blobs about the origin, 0 outside, about 1 inside."""
    rng = np.random.default_rng(seed)
    d = points.shape[-1]
    axes = np.array([1.1, 1.0, 0.9])[:d] * RADIUS
    result = 1.0
    for _ in range(12):
        centre = rng.uniform(-RADIUS, RADIUS, d) * 0.7
        offset = ((points - centre) ** 2).sum(-1)
        width = rng.uniform(6, 12)
        result += rng.uniform(-0.7, 0.7) * np.exp(-offset / (2 * width**2))
    distance = np.sqrt(((points / axes) ** 2).sum(-1))
    return result / (1 + np.exp((distance - 0.9) * 15))


def image_of(frame, motion=None, contrast=lambda values: values, name="image"):
    """The body after a motion (fixed to moving points), sampled on a frame."""
    d = frame.ndim
    points = to_world(frame, np.moveaxis(np.indices(frame.shape), 0, -1))
    if motion is not None:
        back = np.linalg.inv(motion)
        points = points @ back[:d, :d].T + back[:d, d]
    return Image(contrast(body(points)).astype(np.float32), frame, name)


def turn(d, degrees):
    angle = np.deg2rad(degrees)
    if d == 2:
        return Rotation.from_euler("z", angle).as_matrix()[:2, :2]
    axis = np.array([1.0, 2.0, -1.0]) / np.sqrt(6)
    return Rotation.from_rotvec(angle * axis).as_matrix()


def motion_of(linear, shift):
    d = len(linear)
    matrix = np.eye(d + 1)
    matrix[:d, :d] = linear
    matrix[:d, d] = shift[:d]
    return matrix


def frame_of(d, spacing, direction=None, size=110.0):
    """A frame about the origin with the given spacing and direction."""
    spacing = np.asarray(spacing, float)[:d]
    direction = np.eye(d) if direction is None else direction
    shape = np.ceil(size / spacing).astype(int)
    origin = -direction @ (spacing * (shape - 1) / 2)
    return Frame(shape[::-1], spacing, origin, direction)


def corner_error(found, true):
    d = len(true) - 1
    half = RADIUS / np.sqrt(d)
    corners = np.array(list(itertools.product((-half, half), repeat=d)))
    homogeneous = np.column_stack([corners, np.ones(len(corners))])
    return np.linalg.norm(homogeneous @ (found - true).T, axis=1).max()


SHIFT = (7.0, -5.0, 4.0)
FRAMES = {
    d: (
        frame_of(d, (2.0, 2.2, 3.0)),
        frame_of(d, (2.5, 1.9, 2.2), turn(d, 20) @ np.diag([-1, 1, 1])[:d, :d]),
    )
    for d in (2, 3)
}
