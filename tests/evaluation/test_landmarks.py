"""Target registration error against arithmetic by hand and scipy."""

import numpy as np
import pytest
from scipy import stats

from regnet_jax.evaluation import error_statistics, registration_errors, snap_to_voxels


def test_errors_are_distances():
    warped = [[0, 0, 0], [1, 2, 3], [-5, 0, 0]]
    moving = [[3, 4, 0], [1, 2, 3], [-5, 0, 2.5]]
    np.testing.assert_allclose(registration_errors(warped, moving), [5, 0, 2.5])
    np.testing.assert_allclose(registration_errors([[0, 0]], [[5, 12]]), [13])


def test_statistics_of_known_errors():
    errors = np.arange(101.0)
    found = error_statistics(errors)
    assert found["n"] == 101
    assert found["mean"] == 50
    assert found["median"] == 50
    assert found["p95"] == 95
    assert found["max"] == 100
    # Of the first n whole numbers the sample variance is n (n + 1) / 12.
    assert found["sd"] == pytest.approx(np.sqrt(101 * 102 / 12))


def test_the_interval_is_that_of_scipy():
    errors = np.random.default_rng(0).gamma(2.0, 1.5, 120)
    low, high = error_statistics(errors)["mean_ci95"]
    expected = stats.bootstrap(
        (errors,),
        np.mean,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert low == pytest.approx(expected.low, abs=0.03)
    assert high == pytest.approx(expected.high, abs=0.03)
    assert low < errors.mean() < high
    assert error_statistics(errors) == error_statistics(errors)


def test_the_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = []
    for _ in range(25):
        low, high = error_statistics(rng.gamma(2.0, 1.5, 80))["mean_ci95"]
        held.append(low < 3.0 < high)
    assert np.mean(held) > 0.8


def test_one_landmark():
    found = error_statistics([2.0])
    assert found["mean"] == found["median"] == found["p95"] == found["max"] == 2
    assert np.isnan(found["sd"])
    assert found["mean_ci95"] == [2, 2]


TURN = np.array([[0.0, -1.0, 0.0], [0.6, 0.0, -0.8], [0.8, 0.0, 0.6]])


def test_points_snap_to_the_nearest_centre():
    """On an oblique anisotropic grid, against the nearest of all centres."""
    matrix, origin = TURN * (2.5, 1.2, 0.9), np.array([10.0, -20.0, 300.0])
    index = np.moveaxis(np.indices((5, 6, 7)), 0, -1).reshape(-1, 3)
    centres = index @ matrix.T + origin
    rng = np.random.default_rng(0)
    points = rng.uniform(0, (4, 5, 6), (50, 3)) @ matrix.T + origin
    distances = np.linalg.norm(points[:, None] - centres, axis=-1)
    found = snap_to_voxels(points, matrix, origin)
    np.testing.assert_allclose(found, centres[distances.argmin(1)], atol=1e-9)
    np.testing.assert_allclose(snap_to_voxels(found, matrix, origin), found, atol=1e-9)


def test_snapping_in_the_plane_and_beyond_the_grid():
    found = snap_to_voxels([[1.4, 3.6], [-7.1, 99.0]], np.diag([1.0, 2.0]), (0.5, 0.0))
    np.testing.assert_allclose(found, [[1.5, 4.0], [-7.5, 100.0]])
    assert found.dtype == np.float64
