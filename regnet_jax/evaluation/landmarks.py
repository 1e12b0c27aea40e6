"""Target registration error: the distance of landmarks from where they should be.

Points are ``[n, d]``, mm, x first; a transform takes fixed points to moving points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float


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
