"""Correlation volumes against plain loops, and their reading against known maxima."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from jax.test_util import check_grads

from regnet_jax.models.layers.correlation import (
    expected_offset,
    local_correlation,
    normalise,
    offsets,
)

SHAPES = [(7, 4), (1, 5), (3, 6, 5), (5, 1, 2)]


def _features(shape, channels=3, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, batch, *shape, channels)).astype(np.float32)


def _correlated(fixed, moving, radius):
    """Voxel by voxel and offset by offset."""
    batch, *shape, _ = fixed.shape
    span = range(-radius, radius + 1)
    steps = list(itertools.product(span, repeat=len(shape)))
    result = np.zeros((batch, *shape, len(steps)))
    for at in np.ndindex(batch, *shape):
        for number, step in enumerate(steps):
            to = np.add(at[1:], step)
            if (to >= 0).all() and (to < shape).all():
                result[(*at, number)] = fixed[at] @ moving[(at[0], *to)]
    return result


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [1, 2])
def test_correlation_is_that_of_a_loop_and_zero_outside(shape, radius):
    fixed, moving = _features(shape)
    got = local_correlation(fixed, moving, radius)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, _correlated(fixed, moving, radius), atol=1e-5)


def test_offsets_have_the_order_of_arrays():
    want = [
        (-1, -1),
        (-1, 0),
        (-1, 1),
        (0, -1),
        (0, 0),
        (0, 1),
        (1, -1),
        (1, 0),
        (1, 1),
    ]
    np.testing.assert_array_equal(offsets(1, 2), want)
    cube = offsets(2, 3)
    assert cube.shape == (125, 3)
    np.testing.assert_array_equal(cube.reshape(5, 5, 5, 3)[4, 0, 3], [2, -2, 1])
    np.testing.assert_array_equal(cube, -cube[::-1])


@pytest.mark.parametrize(
    ("shape", "shift"), [((9, 8), (2, -1)), ((6, 7, 9), (-1, 2, 0))]
)
def test_expected_offset_of_sharp_scores_is_the_shift(shape, shift):
    """``moving(x + shift) = fixed(x)``, and features of unit length."""
    fixed = np.asarray(normalise(_features(shape, channels=16)[0]))
    moving = np.roll(fixed, shift, axis=range(1, 1 + len(shape)))
    found = expected_offset(500.0 * local_correlation(fixed, moving, 2), 2)
    assert found.shape == (2, *shape, len(shape))
    # Away from the border, where the roll has brought in the other side.
    inner = (slice(None), *(slice(2, -2),) * len(shape))
    want = np.broadcast_to(shift, found[inner].shape)
    np.testing.assert_allclose(found[inner], want, atol=1e-3)


def test_expected_offset_of_two_scores_and_of_equal_scores():
    scores = np.full((1, 1, 1, 9), -50.0, np.float32)
    at = {tuple(o): n for n, o in enumerate(offsets(1, 2))}
    scores[..., at[0, 1]] = np.log(3.0)
    scores[..., at[1, -1]] = 0.0
    found = np.asarray(expected_offset(scores, 1))[0, 0, 0]
    np.testing.assert_allclose(found, [0.25, 0.5], atol=1e-6)
    level = np.full((1, 2, 3, 4, 125), 7.0, np.float32)
    np.testing.assert_allclose(expected_offset(level, 2), 0, atol=1e-6)


def test_normalised_features_have_unit_length_or_stay_zero():
    features = 10.0 * _features((4, 5))[0]
    features[0, 1, 2] = 0.0
    got = np.asarray(normalise(features))
    length = np.linalg.norm(got, axis=-1)
    assert length[0, 1, 2] == 0
    length[0, 1, 2] = 1.0
    np.testing.assert_allclose(length, 1, atol=1e-3)
    cosine = (got * features).sum(-1)
    np.testing.assert_allclose(cosine, np.linalg.norm(features, axis=-1), rtol=1e-3)


@pytest.mark.parametrize(
    ("shape", "radius"), [((3, 2), 1), ((4, 3), 2), ((2, 1, 3), 1)]
)
def test_correlation_gradients_are_right(shape, radius):
    def matched(fixed, moving):
        scores = 3.0 * local_correlation(normalise(fixed), normalise(moving), radius)
        return expected_offset(scores, radius)

    fixed, moving = _features(shape, batch=1)
    with jax.enable_x64(True):
        pair = fixed.astype(np.float64), moving.astype(np.float64)
        check_grads(jax.jit(matched), pair, 1, ["rev"], atol=1e-6, rtol=1e-6)
    # Where nothing is seen at all, too.
    nothing = (jnp.zeros_like(fixed),) * 2
    summed = jax.jit(jax.grad(lambda a, b: jnp.sum(matched(a, b) ** 2), (0, 1)))
    gradients = summed(*nothing)
    assert all(np.isfinite(g).all() for g in gradients)


def test_correlation_is_the_same_on_two_devices():
    def squared(fixed, moving):
        return jnp.sum(local_correlation(fixed, moving, 1) ** 2)

    mesh = jax.make_mesh((2,), ("device",), (AxisType.Auto,), devices=jax.devices()[:2])
    split = PartitionSpec("device")
    images = tuple(_features((2, 3, 4)))
    gradients = jax.grad(squared, (0, 1))
    shared = jax.shard_map(gradients, mesh=mesh, in_specs=split, out_specs=split)
    for got, want in zip(jax.jit(shared)(*images), gradients(*images), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)
