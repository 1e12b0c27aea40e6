"""Linear alignment of sampled images by Gauss-Newton steps.

The moving intensities are explained by a free function of the fixed intensities,
so that contrasts may differ (the correlation ratio of Roche et al., MICCAI 1998),
and the unexplained variance is minimised. Each step eliminates the free function
(variable projection), so that tens of steps are enough, where gradient descent on
mutual information needs hundreds and ends farther from the optimum.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy.linalg import solveh_banded
from scipy.sparse import csr_array

# Knots of the piecewise linear function from fixed to moving intensities.
_KNOTS = 64
# The loss saturates for residuals beyond this fraction of the moving image's standard
# deviation: organs that move on their own, such as the diaphragm, should not disturb
# the alignment of the rest.
_OUTLYING = 0.25
_REWEIGHTINGS = 3
# The least overlap of two images, as a fraction of the smaller one.
LEAST_OVERLAP = 0.15
# Lower bound of the unexplained fraction when overlaps differ, so that a perfect fit of
# a small overlap is no better than a good fit of a large one.
LEAST_UNEXPLAINED = 0.02
# A step must lower the cost by this fraction; `_MOST_REFUSALS` failures end the search.
_LEAST_GAIN = 1e-5
# Number of the best starts that are followed by a descent.
_FOLLOWED = 3
_MOST_REFUSALS = 3


@dataclass(frozen=True)
class Level:
    """The fixed points and the moving image at one resolution.

    Attributes:
        points: ``[n, d + 1]`` homogeneous points of the fixed image.
        most: number of points that overlap if the smaller image lies in the larger.
        hats: ``find_hats`` of its values there.
        sample: from a homogeneous matrix ``[d + 1, d + 1]`` to ``[n, 1 + d]``,
            the moving values at the mapped points and their derivatives there
            along each coordinate; NaN outside of the image. The values have unit
            standard deviation over the image.
    """

    points: np.ndarray
    most: float
    hats: tuple[np.ndarray, np.ndarray]
    sample: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Fit:
    """The cost of a matrix and the quadratic model of the cost around it.

    Attributes:
        cost: unexplained fraction of the moving image, infinite without overlap.
        overlap: number of fixed points that fall into the moving image, as a fraction
            of the most.
        gradient: ``[d * (d + 1)]`` of the cost, up to a factor.
        hessian: its Gauss-Newton approximation, with the same factor.
    """

    cost: float
    overlap: float
    gradient: np.ndarray
    hessian: np.ndarray

    @property
    def gain(self) -> float:
        """The explained information, which compares fits of different overlap."""
        return -self.overlap * float(np.log(max(self.cost, LEAST_UNEXPLAINED)))


def find_hats(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the piecewise linear basis functions that are not zero at values ``[n]``.

    Returns:
        The knot below each value, and how far the value lies towards the next knot, as
        a fraction: that of its basis functions which belongs to the upper knot.
    """
    place = (values - values.min()) / (np.ptp(values) or 1.0) * (_KNOTS - 1)
    knot = np.minimum(place.astype(int), _KNOTS - 2)
    return knot, place - knot


def fit_matrix(level: Level, matrix: np.ndarray) -> Fit:
    """Fit ``matrix @ (identity + delta)`` as a function of ``delta``."""
    d = len(matrix) - 1
    sampled = level.sample(matrix)
    inside = cast(np.ndarray, np.isfinite(sampled).all(axis=1))
    values = sampled[inside, 0]
    if len(values) < LEAST_OVERLAP * level.most or np.ptp(values) == 0:
        return Fit(np.inf, 0.0, np.zeros(d * (d + 1)), np.eye(d * (d + 1)))
    slopes = sampled[inside, 1:] @ matrix[:d, :d]
    columns = slopes[:, :, None] * level.points[inside][:, None, :]
    columns = columns.reshape(len(values), -1)
    knot, upper = (each[inside] for each in level.hats)
    weighted, normal, residual, weights = _fit_intensities(knot, upper, values)
    spread = values - values.mean()
    cost = _loss(residual).sum() / _loss(spread).sum()
    # The total variance changes with the matrix as well.
    pull = _weights(spread) * spread
    gradient = (weights * residual - cost * (pull - pull.mean())) @ columns
    # No BLAS: threads that wait for each other cost more than these products.
    hessian = np.einsum("ni,nj->ij", columns * weights[:, None], columns)
    cross = weighted.T @ columns
    hessian -= cross.T @ solveh_banded(normal, cross)
    return Fit(cost, len(values) / level.most, gradient, hessian)


def _fit_intensities(knot: np.ndarray, upper: np.ndarray, values: np.ndarray):
    """Fit the moving values by a function of the fixed intensities.

    Returns:
        The basis functions ``[n, knots]`` times the weights of a robust fit, their
        normal matrix as ``scipy.linalg.solveh_banded`` takes it, the residual ``[n]``,
        and its weights.
    """
    lower = 1.0 - upper
    weights = np.ones(len(values))
    for _ in range(_REWEIGHTINGS):
        low, high = weights * lower, weights * upper
        # Only hats of neighbouring knots overlap.
        beside = np.bincount(knot + 1, low * upper, _KNOTS)
        diagonal = _sum_at_knots(knot, low * lower, high * upper)
        # The ridge keeps the matrix regular where a knot has no points.
        normal = np.stack([beside, diagonal + 1e-9 * len(values)])
        heights = solveh_banded(
            normal, _sum_at_knots(knot, low * values, high * values)
        )
        residual = values - lower * heights[knot] - upper * heights[knot + 1]
        weights = _weights(residual)
    ends = np.arange(0, 2 * len(values) + 1, 2)
    pairs = (np.column_stack(each).ravel() for each in ((low, high), (knot, knot + 1)))
    weighted = csr_array((*pairs, ends), shape=(len(values), _KNOTS))
    return weighted, normal, residual, weights


def _sum_at_knots(knot, lower, upper) -> np.ndarray:
    """Sum what belongs to the knot below each point, and to the one above it."""
    below = np.bincount(knot, lower, _KNOTS)
    return below + np.bincount(knot + 1, upper, _KNOTS)


def _loss(residual: np.ndarray) -> np.ndarray:
    """Return half of Geman and McClure's loss, a square that saturates."""
    return residual**2 / (2 + 2 * (residual / _OUTLYING) ** 2)


def _weights(residual: np.ndarray) -> np.ndarray:
    """Return the derivative of ``_loss`` divided by the residual."""
    return 1 / (1 + (residual / _OUTLYING) ** 2) ** 2


def optimise(levels: list[Level], starts, generators: np.ndarray) -> np.ndarray:
    """Descend from coarse to fine; the best end at the coarsest level goes on.

    Only the most promising starts are followed.

    Args:
        levels: coarse to fine.
        starts: homogeneous matrices ``[d + 1, d + 1]``.
        generators: ``[p, d, d + 1]``, the directions in which a matrix may change.

    Returns:
        The best matrix found.
    """
    coarsest, *finer = levels

    def gain(matrix):
        return fit_matrix(coarsest, matrix).gain

    followed = sorted(starts, key=gain, reverse=True)[:_FOLLOWED]
    ends = [descend(coarsest, start, generators) for start in followed]
    matrix = max(ends, key=gain)
    for level in finer:
        matrix = descend(level, matrix, generators)
    return matrix


def descend(level: Level, matrix: np.ndarray, generators) -> np.ndarray:
    """Minimise at one level by Levenberg-Marquardt, in the span of the generators."""
    identity = np.eye(len(matrix))
    basis = generators.reshape(len(generators), -1)
    fit, damping, refused = fit_matrix(level, matrix), 1e-3, 0
    while refused < _MOST_REFUSALS:
        hessian = basis @ fit.hessian @ basis.T
        curvature = np.diag(hessian)
        ridge = damping * (curvature + 1e-9 * curvature.max() + 1e-12)
        step = np.linalg.solve(hessian + np.diag(ridge), -basis @ fit.gradient)
        half = np.zeros_like(identity)
        half[:-1] = (step @ basis).reshape(generators.shape[1:]) / 2
        # Cayley's transform, which keeps rotations rotations.
        trial = matrix @ np.linalg.solve(identity - half, identity + half)
        tried = fit_matrix(level, trial)
        if tried.cost < (1 - _LEAST_GAIN) * fit.cost:
            matrix, fit, damping, refused = trial, tried, damping / 5, 0
        else:
            damping, refused = 10 * damping, refused + 1
    return matrix
