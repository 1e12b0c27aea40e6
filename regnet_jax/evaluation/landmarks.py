"""Target registration error: the distance of landmarks from where they should be.

Points are ``[n, d]``, mm, x first; a transform takes fixed points to moving points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.spatial.images import as_numbers

if TYPE_CHECKING:
    from jaxtyping import Float


def check_landmarks(landmarks, d: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return fixed and moving points that correspond.

    Args:
        landmarks: ``[n, d]`` each, mm, x first.
        d: dimension of the images; None takes that of the points.

    Returns:
        Both, float64.

    Raises:
        InputError: if they are no finite numbers, or are not of such shapes.
    """
    points = [as_numbers(given, "landmarks") for given in landmarks]
    shapes = [given.shape for given in points]
    wanted = {2, 3} if d is None else {d}
    fits = len(shapes) == 2 and shapes[0] == shapes[1] and len(shapes[0]) == 2
    if not fits or not points[0].size or shapes[0][1] not in wanted:
        raise InputError(
            f"landmarks: have the shapes {' and '.join(map(str, shapes))}; give fixed"
            f" and moving points, [n, {d or 'd'}] each"
        )
    return points[0], points[1]


def registration_errors(
    warped: Float[np.ndarray, "n d"], moving: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, " n"]:
    """Return the distance of each warped fixed point to its moving point.

    Args:
        warped: ``[n, d]``, fixed points through the transform, mm.
        moving: ``[n, d]``, the points that correspond to them, mm.

    Returns:
        ``[n]``, mm.
    """
    return np.linalg.norm(np.subtract(warped, moving, dtype=np.float64), axis=1)


def snap_to_voxels(
    points: Float[np.ndarray, "n d"],
    matrix: Float[np.ndarray, "d d"],
    origin: Float[np.ndarray, " d"] | Sequence[float],
) -> Float[np.ndarray, "n d"]:
    """Move each point to the centre of the voxel that it lies in.

    DIR-Lab measures in this way, since its landmarks are voxels: a warped point is
    rounded to a voxel of the moving image before the distance is taken.

    Args:
        points: ``[n, d]``, mm.
        matrix: ``[d, d]``, voxel offset to world offset, as ``spatial.Frame.matrix``.
        origin: ``[d]``, mm, the centre of any voxel.

    Returns:
        ``[n, d]``, mm. The grid is taken as infinite, so points beyond the image are
        not moved into it.
    """
    matrix, origin = np.asarray(matrix, np.float64), np.asarray(origin, np.float64)
    index = (np.asarray(points, np.float64) - origin) @ np.linalg.inv(matrix).T
    return np.rint(index) @ matrix.T + origin
