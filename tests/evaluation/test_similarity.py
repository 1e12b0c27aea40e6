"""Correlation against NumPy."""

import numpy as np
import pytest

from regnet_jax.evaluation import correlation


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize("shape", [(7, 9), (5, 6, 7)])
def test_correlation_is_pearson_inside_the_mask(rng, shape):
    a, b = rng.normal(size=(2, *shape))
    mask = rng.random(shape) < 0.4
    expected = np.corrcoef(a[mask], b[mask])[0, 1]
    assert correlation(a, b, mask) == pytest.approx(expected, abs=1e-12)
    assert correlation(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_correlation_ignores_contrast_but_not_its_sign(rng):
    a = rng.normal(size=(4, 5, 6))
    assert correlation(a, 3 * a + 2) == pytest.approx(1)
    assert correlation(a, -a) == pytest.approx(-1)


def test_correlation_of_nothing_is_not_a_number(rng):
    a = rng.normal(size=(4, 5))
    assert np.isnan(correlation(a, np.ones_like(a)))
    assert np.isnan(correlation(a, a, np.zeros(a.shape, bool)))
