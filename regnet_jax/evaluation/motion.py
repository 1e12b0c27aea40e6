"""Statistics of a motion that is known at scattered points, such as landmarks.

They describe breaths of people and artificial fields in the same way. Points and
displacements are ``[n, 3]``, mm, x first, in canonical orientation: x from one side of
the patient to the other, y from front to back, z towards the head. The signs of x and y
do not matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

# The spline is fitted to so many nearest points; its smoothing, of the kernel
# r² log r with r in mm, takes up errors of the size of a voxel.
NEIGHBOURS = 60
_SMOOTHING = 30.0
# Half the distance of the central differences, mm.
_STEP = 4.0
# Distances of points whose irregular displacements are correlated, mm.
_DISTANCES = ((5.0, 15.0), (25.0, 40.0), (50.0, 70.0))
# A motion counts as affine if no larger fraction of it is irregular.
_AFFINE = 1e-4


class MotionStatistics(NamedTuple):
    """The statistics of one motion; NaN where they are not defined.

    Attributes:
        mean: of the lengths of the displacements, mm.
        p95: 95th percentile of the lengths, mm.
        max: largest length, mm.
        head_feet: fraction of the sum of squares that is along z.
        front_back: the same along y.
        left_right: the same along x.
        quarter_2: mean of |u_z| in the second quarter of the height, from the feet, as
            a fraction of that in the first.
        quarter_3: the same in the third quarter.
        quarter_4: the same in the fourth quarter.
        jacobian_p5: 5th percentile of the Jacobian determinant.
        jacobian_median: its median.
        jacobian_p95: its 95th percentile.
        irregular: root mean square that is left after the best affine fit, as a
            fraction of that of the displacements.
        correlation_near: of what is left at two points 5 to 15 mm apart.
        correlation_middle: at two points 25 to 40 mm apart.
        correlation_far: at two points 50 to 70 mm apart.
    """

    mean: float
    p95: float
    max: float
    head_feet: float
    front_back: float
    left_right: float
    quarter_2: float
    quarter_3: float
    quarter_4: float
    jacobian_p5: float
    jacobian_median: float
    jacobian_p95: float
    irregular: float
    correlation_near: float
    correlation_middle: float
    correlation_far: float


def motion_statistics(
    points: Float[np.ndarray, "n 3"], displacements: Float[np.ndarray, "n 3"]
) -> MotionStatistics:
    """Measure a motion.

    The height is that between the 2nd and the 98th percentile of z. Correlations are
    means of scalar products over pairs of points, divided by the mean square at these
    points, so that they lie between -1 and 1.

    Args:
        points: ``[n, 3]``, mm, x first, at least ``NEIGHBOURS`` of them.
        displacements: ``[n, 3]``, mm, x first, of the points.

    Returns:
        The statistics.

    Raises:
        ValueError: as ``scattered_jacobian``.
    """
    points, moves = np.asarray(points, float), np.asarray(displacements, float)
    lengths = np.linalg.norm(moves, axis=1)
    square = np.sum(moves**2, axis=0)
    low, median, high = np.percentile(scattered_jacobian(points, moves), (5, 50, 95))
    second, third, fourth = _profile(points[:, 2], np.abs(moves[:, 2]))
    rest = _subtract_affine(points, moves)
    irregular = _ratio(np.linalg.norm(rest), np.linalg.norm(moves))
    is_irregular = irregular > _AFFINE
    near, middle, far = _correlations(points, rest) if is_irregular else [np.nan] * 3
    return MotionStatistics(
        mean=float(lengths.mean()),
        p95=float(np.percentile(lengths, 95)),
        max=float(lengths.max()),
        head_feet=_ratio(square[2], square.sum()),
        front_back=_ratio(square[1], square.sum()),
        left_right=_ratio(square[0], square.sum()),
        quarter_2=second,
        quarter_3=third,
        quarter_4=fourth,
        jacobian_p5=float(low),
        jacobian_median=float(median),
        jacobian_p95=float(high),
        irregular=irregular,
        correlation_near=near,
        correlation_middle=middle,
        correlation_far=far,
    )


def scattered_jacobian(
    points: Float[np.ndarray, "n 3"], displacements: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, " n"]:
    """Return the Jacobian determinant of a motion that is known at scattered points.

    Central differences over 8 mm of a thin-plate spline through the 60 nearest points,
    with a smoothing of 30 (``scipy.interpolate.RBFInterpolator``). It is exact for
    affine motions.

    Args:
        points: ``[n, 3]``, mm, at least ``NEIGHBOURS`` of them.
        displacements: ``[n, 3]``, mm.

    Returns:
        ``[n]``, at the points.

    Raises:
        ValueError: too few points, or neighbours that lie in one plane.
    """
    # It takes half a second to load, for which a registration need not wait.
    from scipy.interpolate import RBFInterpolator

    points, moves = np.asarray(points, float), np.asarray(displacements, float)
    if len(points) < NEIGHBOURS:
        raise ValueError(f"{len(points)} points; give {NEIGHBOURS} or more")
    if np.linalg.matrix_rank(points - points.mean(axis=0)) < 3:
        raise ValueError("the points lie in one plane; give others")
    spline = RBFInterpolator(
        points,
        moves,
        neighbors=NEIGHBOURS,
        smoothing=_SMOOTHING,
        kernel="thin_plate_spline",
    )
    steps = _STEP * np.concatenate([np.eye(3), -np.eye(3)])
    around = spline((points + steps[:, None]).reshape(-1, 3)).reshape(2, 3, -1, 3)
    slopes = (around[0] - around[1]) / (2 * _STEP)
    return np.linalg.det(np.eye(3) + np.moveaxis(slopes, 0, -1))


def orient_to_expansion(
    points: Float[np.ndarray, "n 3"], displacements: Float[np.ndarray, "n 3"]
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """Return a motion in the direction in which the volume grows, as in inhalation.

    So motions can be compared although some are known from exhale to inhale and others
    from inhale to exhale.

    Args:
        points: ``[n, 3]``, mm, at least ``NEIGHBOURS`` of them.
        displacements: ``[n, 3]``, mm.

    Returns:
        Points and displacements as they are if the median of the Jacobian determinant
        is 1 or more; otherwise the points where they move to, and the displacements
        back.

    Raises:
        ValueError: as ``scattered_jacobian``.
    """
    if np.median(scattered_jacobian(points, displacements)) >= 1.0:
        return points, displacements
    return points + displacements, -displacements


def _ratio(number, other) -> float:
    return float(number / other) if other else float("nan")


def _profile(heights: np.ndarray, lengths: np.ndarray) -> list[float]:
    """Return the mean length in quarters 2, 3 and 4 relative to that in the lowest."""
    low, high = np.percentile(heights, (2, 98))
    inner = low + (high - low) * np.array([0.25, 0.5, 0.75])
    quarter = np.searchsorted(inner, heights, side="right")
    counts = np.bincount(quarter, minlength=4)
    sums = np.bincount(quarter, weights=lengths, minlength=4)
    means = [_ratio(s, n) for s, n in zip(sums, counts, strict=True)]
    return [_ratio(mean, means[0]) for mean in means[1:]]


def _subtract_affine(points: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Return what is left of the displacements after the best affine fit."""
    terms = np.column_stack([np.ones(len(points)), points - points.mean(axis=0)])
    return moves - terms @ np.linalg.lstsq(terms, moves)[0]


def _correlations(points: np.ndarray, rest: np.ndarray) -> list[float]:
    """Return the correlation of displacements ``[n, 3]`` at each of the distances."""
    # Imported here, since it loads slowly.
    from scipy.spatial.distance import pdist

    first, second = np.triu_indices(len(rest), 1)
    products = np.sum(rest[first] * rest[second], axis=1)
    squares = np.sum(rest**2, axis=1)
    squares = 0.5 * (squares[first] + squares[second])
    distances = pdist(points)
    chosen = ((distances >= low) & (distances < high) for low, high in _DISTANCES)
    return [_ratio(products[c].sum(), squares[c].sum()) for c in chosen]
