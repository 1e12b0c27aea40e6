"""Statistics of errors against arithmetic by hand, NumPy and scipy."""

import numpy as np
import pytest
from scipy import stats

from regnet_jax.evaluation import error_statistics, sample_deviation


def test_sample_deviation_is_that_of_a_sample():
    values = np.random.default_rng(0).normal(size=20)
    squares = ((values - values.mean()) ** 2).sum()
    assert sample_deviation(values) == pytest.approx(np.sqrt(squares / 19))
    assert np.isnan(sample_deviation([1.0]))
    assert np.isnan(sample_deviation([]))


def test_error_statistics_equal_numpys():
    errors = np.random.default_rng(1).gamma(2.0, size=1001)
    found = error_statistics(errors)
    assert found.mean == pytest.approx(errors.sum() / 1001)
    assert found.sd == pytest.approx(np.std(errors, ddof=1))
    assert found.p95 == pytest.approx(np.sort(errors)[950])
    assert found.median == pytest.approx(np.sort(errors)[500])
    assert found.max == errors.max()
    assert "mean_ci95" not in found.to_dict()


def test_error_statistics_of_nothing_are_nan():
    found = error_statistics([])
    assert found.n == 0
    assert np.isnan([found.mean, found.sd, found.median, found.p95, found.max]).all()


def test_error_statistics_of_known_errors():
    errors = np.arange(101.0)
    found = error_statistics(errors)
    assert found.n == 101
    assert found.mean == 50
    assert found.median == 50
    assert found.p95 == 95
    assert found.max == 100
    # Of the first n whole numbers the sample variance is n (n + 1) / 12.
    assert found.sd == pytest.approx(np.sqrt(101 * 102 / 12))


def test_interval_of_the_mean_equals_scipys():
    errors = np.random.default_rng(0).gamma(2.0, 1.5, 120)
    low, high = error_statistics(errors, interval=True).mean_ci95
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
    again = error_statistics(errors, interval=True)
    assert again.mean_ci95 == (low, high)


def test_interval_of_the_mean_covers_it_about_as_often_as_stated():
    rng = np.random.default_rng(0)
    held = []
    for _ in range(25):
        low, high = error_statistics(rng.gamma(2.0, 1.5, 80), interval=True).mean_ci95
        held.append(low < 3.0 < high)
    assert np.mean(held) > 0.8


def test_a_single_error_has_no_deviation():
    found = error_statistics([2.0], interval=True)
    assert found.mean == found.median == found.p95 == found.max == 2
    assert np.isnan(found.sd)
    assert found.mean_ci95 == (2, 2)
