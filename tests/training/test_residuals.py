"""The residuals that an earlier pass leaves, and steps that learn from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from regnet_jax.geometry import compose, warp
from regnet_jax.synthesis.patches import PatchBatch
from regnet_jax.training.step import replace_by_residuals, residual_field

SHAPES = [(23, 30), (15, 18, 21)]


def waves(shape, size, seed):
    """A smooth field of some voxels."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(*shape, len(shape)))
    smooth = ndimage.gaussian_filter(noise, (5.0,) * len(shape) + (0,), mode="nearest")
    return jnp.asarray(size * smooth / np.abs(smooth).max(), jnp.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_residual_composed_with_the_prediction_is_the_truth(shape):
    truth, prediction = waves(shape, 3.0, 0), waves(shape, 2.0, 1)
    residual = jax.jit(residual_field)(truth, prediction)
    np.testing.assert_allclose(compose(residual, prediction), truth, atol=0.02)


@pytest.mark.parametrize("shape", SHAPES)
def test_residual_of_a_right_prediction_is_zero(shape):
    truth = waves(shape, 3.0, 2)
    np.testing.assert_allclose(residual_field(truth, truth), 0.0, atol=1e-5)


@pytest.fixture
def batch():
    shape = (24, 22)
    moving = jnp.stack([100.0 * waves(shape, 3.0, seed)[..., :1] for seed in (3, 4)])
    field = jnp.stack([waves(shape, 2.0, seed) for seed in (5, 6)])
    fixed = jax.vmap(warp)(moving, field)
    return PatchBatch(fixed, moving, field, jnp.ones((2, *shape, 1)))


def shift(fixed, moving):
    """A prediction that ignores the images: a voxel along each axis."""
    return jnp.ones((*fixed.shape[:-1], 2))


def keyed(batch, probability):
    """The outcomes of some keys: of the three branches, the ones that were taken."""
    draw = jax.jit(lambda key: replace_by_residuals(key, shift, batch, probability))
    return [draw(jax.random.key(seed)) for seed in range(12)]


def test_pairs_stay_at_probability_zero(batch):
    for drawn in keyed(batch, 0.0):
        np.testing.assert_array_equal(drawn.moving, batch.moving)


def test_the_moving_image_is_warped_by_the_fine_or_the_coarse_prediction(batch):
    """A shift by one voxel; the coarse pass predicts one of its own voxels, so two."""
    inner = (slice(None), slice(4, -4), slice(4, -4))
    steps = set()
    for drawn in keyed(batch, 1.0):
        np.testing.assert_array_equal(drawn.fixed, batch.fixed)
        for step in (1, 2):
            moved = jnp.roll(batch.moving, (-step, -step), (1, 2))
            if np.allclose(drawn.moving[inner], moved[inner], atol=1e-3):
                steps.add(step)
                want = batch.displacement[inner] - step
                np.testing.assert_allclose(drawn.displacement[inner], want, atol=1e-4)
    assert steps == {1, 2}


def test_no_gradient_goes_through_the_earlier_prediction(batch):
    def total(scale):
        drawn = replace_by_residuals(
            jax.random.key(0), lambda f, m: scale * shift(f, m), batch, 1.0
        )
        return jnp.sum(drawn.moving) + jnp.sum(drawn.displacement)

    assert jax.grad(total)(1.0) == 0.0
