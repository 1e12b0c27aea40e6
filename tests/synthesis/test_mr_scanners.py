"""Intensity models of MR against the distributions and curves that they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from regnet_jax.synthesis.mr_scanners import coil_field, rician_noise, tissue_contrast

DARK, BRIGHT = -1000.0, 400.0
SHAPES = [(70, 91), (17, 22, 19)]


def flat(shape, value):
    return jnp.full((*shape, 1), value, jnp.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("signal", [0.0, 60.0, 1400.0])
def test_noise_has_the_distribution_of_rice(shape, signal):
    keys = jax.random.split(jax.random.key(1), 4)
    background = np.asarray(rician_noise(keys[0], flat(shape, DARK), spacing=2.0))
    # Without signal it is that of Rayleigh, whose mean gives sigma.
    sigma = (background - DARK).mean() / np.sqrt(np.pi / 2)
    assert 0.0 < sigma < 0.05 * (BRIGHT - DARK)
    found = rician_noise(keys[0], flat(shape, DARK + signal), spacing=2.0)
    sample = (np.asarray(found, np.float64).ravel() - DARK) / sigma
    assert sample.min() >= 0
    # Sigma is estimated to about one percent.
    assert stats.kstest(sample, stats.rice(signal / sigma).cdf).statistic < 0.03


@pytest.mark.parametrize("shape", SHAPES)
def test_coils_multiply_the_signal_slowly(shape):
    factors = []
    for seed in range(20):
        key = jax.random.key(seed)
        dark = np.asarray(coil_field(key, flat(shape, DARK), spacing=2.0))
        np.testing.assert_array_equal(dark, DARK)
        one, two = (
            (np.asarray(coil_field(key, flat(shape, DARK + s), spacing=2.0)) - DARK) / s
            for s in (500.0, 1000.0)
        )
        np.testing.assert_allclose(one, two, rtol=1e-5)
        assert all(np.abs(np.diff(one, axis=a)).max() < 0.03 for a in range(len(shape)))
        factors.append(np.log(one).ravel())
    assert 0.03 < np.std(factors) < 0.2


@pytest.mark.parametrize("seed", range(4))
def test_contrast_is_an_increasing_curve_of_straight_pieces(seed):
    values = np.linspace(DARK, BRIGHT, 6 * 20 + 1, dtype=np.float32)
    image = jnp.asarray(values.reshape(11, 11, 1))
    found = np.asarray(tissue_contrast(jax.random.key(seed), image, spacing=2.0))
    found = found.ravel()
    np.testing.assert_allclose(found[[0, -1]], [DARK, BRIGHT], atol=1e-2)
    knots = slice(None, None, 20)
    expected = np.interp(values, values[knots], found[knots])
    np.testing.assert_allclose(found, expected, atol=0.01)
    slopes = np.diff(found[knots]) / np.diff(values[knots])
    assert (slopes > 0.2).all()
    assert slopes.std() > 0.02
