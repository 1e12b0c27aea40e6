"""The normal numbers of the generator against scipy's distribution."""

import jax
import numpy as np
import pytest
from scipy import stats

from regnet_jax.synthesis.random import gaussian_noise

jitted = jax.jit(gaussian_noise, static_argnums=1)


@pytest.mark.parametrize("function", [gaussian_noise, jitted])
@pytest.mark.parametrize("shape", [(), (1, 3), (9, 4, 2), (401, 499), (61, 57, 59)])
def test_numbers_are_normal(function, shape):
    got = np.asarray(function(jax.random.key(4), shape))
    assert got.shape == shape
    assert got.dtype == np.float32
    # They are the quantiles in the middles of 65,536 equal intervals.
    intervals = stats.norm.cdf(got.astype(np.float64)) * 2**16
    np.testing.assert_allclose(intervals % 1.0, 0.5, atol=0.05)
    if got.size > 1000:
        assert stats.kstest(got.ravel(), "norm").pvalue > 1e-3
        assert got.std() == pytest.approx(1.0, abs=0.01)
        assert stats.kurtosis(got.ravel()) == pytest.approx(0.0, abs=0.05)


def test_numbers_are_independent():
    got = np.asarray(jitted(jax.random.key(1), (96, 80, 64)), np.float64)
    other = np.asarray(jitted(jax.random.key(2), (96, 80, 64)), np.float64)
    spectrum = np.abs(np.fft.fftn(got)) ** 2 / got.size
    # White: the power is exponential with mean one, except that of the mean.
    power = spectrum.ravel()[1:]
    assert power.mean() == pytest.approx(1.0, abs=0.01)
    assert power.std() == pytest.approx(1.0, abs=0.02)
    # The two halves of a word become the first and the second half of the numbers.
    first, second = np.split(got.ravel(), 2)
    limit = 5 / np.sqrt(first.size)
    assert abs(np.mean(first * second)) < limit
    assert abs(np.mean(got * other)) < limit
    assert abs(np.mean(np.abs(first) * np.abs(second)) - 2 / np.pi) < limit


def test_the_same_key_gives_the_same_numbers():
    a, b = (np.asarray(gaussian_noise(jax.random.key(7), (5, 3))) for _ in range(2))
    np.testing.assert_array_equal(a, b)
