"""Local correlation: against all cubes by NumPy, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import ndimage

from regnet_jax.registration.local_correlation import (
    local_correlation_coefficient,
    mean_over_cube,
)

SHAPES = [(23, 31), (13, 17, 11)]


def _windows(image, radius):
    """Every cube of an image, zeros outside: ``[*spatial, voxels]``."""
    padded = np.pad(np.asarray(image, np.float64), radius)
    size = (2 * radius + 1,) * image.ndim
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)
    return windows.reshape(*image.shape, -1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("radius", [1, 2])
def test_local_correlation_is_the_correlation_of_every_cube(shape, radius):
    rng = np.random.default_rng(0)
    a, b = rng.uniform(size=(2, *shape))
    one, other = _windows(a, radius), _windows(b, radius)
    one, other = (w - w.mean(-1, keepdims=True) for w in (one, other))
    want = (one * other).mean(-1) / np.sqrt(
        ((one**2).mean(-1) + 0.01**2) * ((other**2).mean(-1) + 0.01**2)
    )
    got = local_correlation_coefficient(jnp.asarray(a), jnp.asarray(b), radius)
    np.testing.assert_allclose(got, want, atol=2e-4)


def test_local_correlation_ignores_gain_and_offset_and_flat_noise():
    rng = np.random.default_rng(1)
    image = jnp.asarray(rng.uniform(size=(20, 20)), jnp.float32)
    inside = (slice(3, -3),) * 2
    same = local_correlation_coefficient(image, 0.5 * image + 0.3, 2)
    assert float(same[inside].min()) > 0.97
    flat = 0.5 + 0.002 * jnp.asarray(rng.normal(size=(2, 20, 20)), jnp.float32)
    assert float(jnp.abs(local_correlation_coefficient(*flat, 2)[inside]).max()) < 0.05


@pytest.mark.parametrize("shape", [(11, 13), (7, 9, 8)], ids=str)
@pytest.mark.parametrize("radius", [1, 2])
def test_the_gradient_equals_finite_differences(shape, radius):
    with jax.enable_x64(True):
        rng = np.random.default_rng(3)
        images = [jnp.asarray(rng.uniform(size=shape)) for _ in range(2)]
        # One image is flat in places, where its variance is zero.
        images[1] = images[1].at[:5, :5].set(0.5)
        weight = jnp.asarray(rng.uniform(size=shape))

        def value(first, second):
            correlation = local_correlation_coefficient(first, second, radius)
            return jnp.sum(weight * correlation)

        check_grads(value, images, order=1, modes=["rev"], eps=1e-6, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mean_over_cube_is_that_of_scipy(shape):
    image = np.random.default_rng(4).normal(size=shape).astype(np.float32)
    got = jax.jit(mean_over_cube, static_argnums=1)(image, 2)
    want = ndimage.uniform_filter(image, 5, mode="constant")
    np.testing.assert_allclose(got, want, atol=1e-6)
