"""Target registration error: how far landmarks are from where they should be.

Points are ``[n, d]``, mm, x first; a transform takes fixed points to moving points.
"""

import numpy as np

_RESAMPLES = 2000


def registration_errors(warped, moving) -> np.ndarray:
    """Distance of each warped fixed point to its moving point.

    Args:
        warped: ``[n, d]``, fixed points through the transform, mm.
        moving: ``[n, d]``, the points that correspond to them, mm.

    Returns:
        ``[n]``, mm.
    """
    return np.linalg.norm(np.subtract(warped, moving, dtype=np.float64), axis=1)


def snap_to_voxels(points, matrix, origin) -> np.ndarray:
    """Points at the centre of the voxel they are in.

    DIR-Lab measures so, since its landmarks are voxels: a warped point is rounded to
    a voxel of the moving image before the distance is taken.

    Args:
        points: ``[n, d]``, mm.
        matrix: ``[d, d]``, voxel offset to world offset, as ``io.Frame.matrix``.
        origin: ``[d]``, mm, the centre of any voxel.

    Returns:
        ``[n, d]``, mm. The grid has no end, so points beyond the image stay there.
    """
    matrix, origin = np.asarray(matrix, np.float64), np.asarray(origin, np.float64)
    index = (np.asarray(points, np.float64) - origin) @ np.linalg.inv(matrix).T
    return np.rint(index) @ matrix.T + origin


def error_statistics(errors) -> dict:
    """Summary of the errors of the landmarks of one pair.

    Args:
        errors: ``[n]``, mm.

    Returns:
        ``n``, ``mean``, ``sd`` (of a sample, NaN for one point), ``median``,
        ``p95`` (95th percentile), ``max`` and ``mean_ci95``, from and to: the
        bootstrap percentile interval of the mean, the same in every call. It takes
        the landmarks as independent, and speaks of this pair alone.
    """
    errors = np.asarray(errors, np.float64)
    n = errors.size
    rng = np.random.default_rng(0)
    means = [errors[rng.integers(0, n, n)].mean() for _ in range(_RESAMPLES)]
    return {
        "n": n,
        "mean": float(errors.mean()),
        "sd": float(errors.std(ddof=1)) if n > 1 else float("nan"),
        "median": float(np.median(errors)),
        "p95": float(np.percentile(errors, 95)),
        "max": float(errors.max()),
        "mean_ci95": np.percentile(means, (2.5, 97.5)).tolist(),
    }
