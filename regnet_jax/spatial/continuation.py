"""Transforms that continue beyond the edge of their displacement field.

Outside of its field a transform of ITK jumps to its linear part. What follows the map
across that edge, such as an inverse or a further registration, needs it without a jump.
"""

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from regnet_jax.errors import InputError
from regnet_jax.spatial.frames import Frame, to_index, to_world
from regnet_jax.spatial.transforms import sample_transform

# A matrix whose determinant is smaller counts as one without an inverse.
SINGULAR = 1e-6

PointMap = Callable[[np.ndarray], np.ndarray]


def continued(transform: sitk.Transform, frame: Frame) -> tuple[PointMap, np.ndarray]:
    """Return a map on a grid, continued outside, and its linear part.

    Inside, the affine map with a linearly interpolated residual equals the result of
    ITK. Outside, the residual of the edge is used.

    Args:
        transform: ``T``, any.
        frame: the grid that the transform is made for, where it is sampled.

    Returns:
        ``T``, from points ``[n, d]`` to points ``[n, d]`` (mm, x first), and its
        homogeneous linear part ``[d + 1, d + 1]``.

    Raises:
        InputError: if the transform is singular or not finite.
    """
    d = frame.ndim
    displacement = sample_transform(transform, frame)
    thin = tuple(slice(0, n, max(1, n // 16)) for n in frame.shape)
    points = to_world(frame, np.moveaxis(np.mgrid[thin], 0, -1))
    linear = fit_affine(points, points + displacement[thin])
    # The displacement by the affine map is a sum of one term for each axis.
    change = linear[:d, :d] - np.eye(d)
    slopes = change @ frame.matrix
    offsets = change @ frame.origin + linear[:d, d]
    residual = np.moveaxis(displacement, -1, 0).astype(np.float32)
    axes = np.ogrid[tuple(slice(n) for n in frame.shape)]
    for component, slope, offset in zip(residual, slopes, offsets, strict=True):
        component -= sum(s * axis for s, axis in zip(slope, axes, strict=True)) + offset

    def evaluate(x):
        index = to_index(frame, x).T
        moved = [
            ndimage.map_coordinates(component, index, float, order=1, mode="nearest")
            for component in residual
        ]
        return apply_affine(linear, x) + np.stack(moved, -1)

    return evaluate, linear


def fit_affine(points, mapped) -> np.ndarray:
    """Fit a homogeneous matrix ``[d + 1, d + 1]`` to a map by least squares.

    Args:
        points: ``[..., d]``, mm, x first.
        mapped: where the map brings them, ``[..., d]``.

    Returns:
        The matrix.

    Raises:
        InputError: if it has no inverse.
    """
    d = points.shape[-1]
    points, mapped = points.reshape(-1, d), mapped.reshape(-1, d)
    centre = points.mean(0)
    # Where a grid has one slice the map along its normal is taken as rigid.
    basis = np.hstack([points - centre, np.ones((len(points), 1))])
    offset = mapped - points
    solution = np.linalg.lstsq(basis, offset, rcond=1e-9)[0]
    matrix = np.eye(d + 1)
    matrix[:d, :d] += solution[:d].T
    matrix[:d, d] = centre + solution[d] - matrix[:d, :d] @ centre
    if abs(np.linalg.det(matrix)) < SINGULAR:
        raise InputError("the transform flattens space; give one that has an inverse")
    return matrix


def apply_affine(matrix, points) -> np.ndarray:
    """Map points ``[..., d]`` by a homogeneous matrix ``[d + 1, d + 1]``."""
    return points @ matrix[:-1, :-1].T + matrix[:-1, -1]


def solve_affine(matrix, points) -> np.ndarray:
    """Map points ``[..., d]`` by the inverse of a homogeneous matrix."""
    return apply_affine(np.linalg.inv(matrix), points)
