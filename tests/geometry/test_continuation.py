"""Smooth continuation against linear fields and a solver of Laplace's equation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from regnet_jax.geometry import continue_smoothly
from tests.helpers.laplace import laplace

SHAPES = [(37, 50), (21, 18, 27)]


def with_hole(shape, fraction=0.4):
    """Known everywhere but in a box in the middle."""
    known = np.ones(shape, bool)
    known[
        tuple(
            slice(int(n * (0.5 - fraction / 2)), int(n * (0.5 + fraction / 2)))
            for n in shape
        )
    ] = False
    return known[..., None]


def values_of(shape, seed=0):
    """Waves over the whole grid, two channels."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape) / np.reshape(shape, (-1, *[1] * len(shape)))
    waves = [
        np.sin(2 * np.tensordot(rng.normal(size=len(shape)), grid, 1) + phase)
        for phase in (0.3, 1.9)
    ]
    return np.stack(waves, axis=-1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("call", [continue_smoothly, jax.jit(continue_smoothly)])
def test_continuation_keeps_known_values_and_ignores_unknown_ones(shape, call):
    known, values = with_hole(shape), values_of(shape).astype(np.float32)
    spoilt = np.where(known, values, np.nan).astype(np.float32)
    got = np.asarray(call(jnp.asarray(spoilt), jnp.asarray(known)))
    np.testing.assert_array_equal(got[known[..., 0]], values[known[..., 0]])
    assert np.isfinite(got).all()
    full = call(jnp.asarray(values), jnp.ones((*shape, 1), bool))
    np.testing.assert_array_equal(full, values)


@pytest.mark.parametrize("shape", [(19, 24), (9, 8, 11)], ids=str)
def test_continuation_into_a_hole_is_nearly_harmonic(shape):
    known, values = with_hole(shape), values_of(shape).astype(np.float32)
    got = np.asarray(continue_smoothly(jnp.asarray(values), jnp.asarray(known)))
    for channel in range(2):
        want = laplace(values[..., channel].astype(np.float64), known[..., 0])
        spread = np.ptp(values[..., channel])
        assert np.abs(got[..., channel] - want).max() < 0.08 * spread


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_continuation_has_no_new_extremum(shape):
    known, values = with_hole(shape), values_of(shape, 3).astype(np.float32)
    known[: shape[0] // 4] = False
    got = np.asarray(continue_smoothly(jnp.asarray(values), jnp.asarray(known)))
    for channel in range(2):
        inside = values[..., channel][known[..., 0]]
        assert got[..., channel].min() >= inside.min() - 1e-5
        assert got[..., channel].max() <= inside.max() + 1e-5


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_continuation_of_a_linear_field_has_no_step(shape):
    slope = 0.1
    values = np.stack([slope * i for i in np.indices(shape)], -1).astype(np.float32)
    known = np.ones((*shape, 1), bool)
    known[: shape[0] // 3] = False
    got = np.asarray(continue_smoothly(jnp.asarray(values), jnp.asarray(known)))
    # Beyond the end it becomes constant, but there is no tear where it begins.
    steps = max(np.abs(np.diff(got, axis=a)).max() for a in range(len(shape)))
    assert steps < 4 * slope


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_continuation_of_nothing_is_zero(shape):
    values = jnp.asarray(values_of(shape), jnp.float32)
    got = continue_smoothly(values, jnp.zeros((*shape, 1), bool))
    np.testing.assert_array_equal(got, 0.0)


def test_continuation_gradients_are_right():
    with jax.enable_x64(True):
        known = jnp.asarray(with_hole((9, 8, 11)))
        values = jnp.asarray(values_of((9, 8, 11)))
        function = jax.jit(lambda v: continue_smoothly(v, known))
        check_grads(function, (values,), order=1, rtol=1e-6)


def test_continuation_maps_over_a_batch():
    known = jnp.asarray(with_hole((13, 10)))
    batch = jnp.asarray(np.stack([values_of((13, 10), s) for s in (0, 1)]), jnp.float32)
    got = jax.vmap(lambda v: continue_smoothly(v, known))(batch)
    for one, values in zip(got, batch, strict=True):
        np.testing.assert_allclose(one, continue_smoothly(values, known), atol=1e-6)
