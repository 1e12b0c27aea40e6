"""Fit of one alignment against a dense fit and finite differences."""

import numpy as np
import pytest

from regnet_jax.registration.alignment.gauss_newton import (
    Level,
    find_hats,
    fit_matrix,
)

_KNOTS = 64
_OUTLYING = 0.25


def _moving(points):
    """Return a smooth image at points ``[n, d]``, and its derivatives there."""
    d = points.shape[1]
    pace = 0.11 + 0.03 * np.arange(d)
    phase = points @ pace
    slopes = np.cos(phase)[:, None] * pace + 2 * 0.002 * points
    value = np.sin(phase) + 0.002 * np.sum(points**2, axis=1)
    return value, slopes


def _level(d: int, n: int = 3000, seed: int = 0) -> tuple[Level, np.ndarray]:
    """Return random points of two images of other contrasts, and their alignment."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-20, 20, (n, d))
    truth = np.eye(d + 1)
    truth[:d] += 0.02 * rng.normal(size=(d, d + 1))
    homogeneous = np.column_stack([points, np.ones(n)])
    at_truth = _moving((homogeneous @ truth.T)[:, :d])[0]

    def sample(matrix):
        value, slopes = _moving((homogeneous @ matrix.T)[:, :d])
        sampled = np.column_stack([value, slopes])
        sampled[points[:, 0] > 19] = np.nan
        return sampled

    # Equally many points at each knot.
    fixed = -np.argsort(np.argsort(at_truth)).astype(float)
    return Level(homogeneous, n, find_hats(fixed), sample), truth


def _off_by(shift: float, d: int) -> tuple[Level, np.ndarray]:
    """Return the images, and their alignment with a shift along every axis."""
    level, matrix = _level(d)
    matrix[:d, d] += shift
    return level, matrix


def _dense_cost(fixed, values):
    """Return the cost by three weighted least squares with a dense basis."""
    knots = np.arange(_KNOTS)
    basis = np.stack([np.interp(fixed, knots, row) for row in np.eye(_KNOTS)], axis=1)
    weights = np.ones(len(values))
    # Knots that hardly any point determines are held near zero.
    ridge = np.sqrt(1e-9 * len(values)) * np.eye(_KNOTS)
    for _ in range(3):
        root = np.sqrt(weights)
        rows = np.concatenate([root[:, None] * basis, ridge])
        wanted = np.concatenate([root * values, np.zeros(_KNOTS)])
        heights = np.linalg.lstsq(rows, wanted, rcond=None)[0]
        residual = values - basis @ heights
        weights = (1 + (residual / _OUTLYING) ** 2) ** -2

    def loss(x):
        return np.sum(x**2 / (1 + (x / _OUTLYING) ** 2)) / 2

    return loss(residual) / loss(values - values.mean())


@pytest.mark.parametrize("d", [2, 3])
def test_the_cost_is_that_of_a_dense_fit(d):
    level, matrix = _off_by(1.5, d)
    fit = fit_matrix(level, matrix)
    sampled = level.sample(matrix)
    inside = np.isfinite(sampled[:, 0])
    knot, upper = level.hats
    expected = _dense_cost((knot + upper)[inside], sampled[inside, 0])
    assert fit.cost == pytest.approx(expected, rel=1e-9)
    assert fit.overlap == pytest.approx(inside.mean())


@pytest.mark.parametrize("d", [2, 3])
def test_the_right_alignment_explains_another_contrast(d):
    level, truth = _level(d)
    moved = truth.copy()
    moved[0, d] += 3.0
    assert fit_matrix(level, truth).cost < 1e-3 < fit_matrix(level, moved).cost


@pytest.mark.parametrize("d", [2, 3])
def test_the_gradient_is_that_of_finite_differences(d):
    level, matrix = _off_by(0.2, d)
    fit = fit_matrix(level, matrix)
    step, found = 1e-4, []
    for k in range(d * (d + 1)):
        costs = []
        for sign in (1.0, -1.0):
            delta = np.zeros(d * (d + 1))
            delta[k] = sign * step
            change = np.eye(d + 1)
            change[:d] += delta.reshape(d, d + 1)
            costs.append(fit_matrix(level, matrix @ change).cost)
        found.append((costs[0] - costs[1]) / (2 * step))
    cosine = np.dot(found, fit.gradient)
    cosine /= np.linalg.norm(found) * np.linalg.norm(fit.gradient)
    assert cosine > 0.98


def test_values_lie_between_their_knots():
    values = np.array([-3.0, 1.0, 5.0, 2.3])
    knot, upper = find_hats(values)
    np.testing.assert_allclose(knot + upper, (values + 3.0) / 8.0 * (_KNOTS - 1))
    assert knot.max() == _KNOTS - 2
    assert np.all((upper >= 0) & (upper <= 1))


def test_values_that_are_all_the_same_belong_to_one_knot():
    knot, upper = find_hats(np.full(5, 7.0))
    assert not knot.any()
    assert not upper.any()
