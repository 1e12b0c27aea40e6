"""Scaling of fields, and the bound on folding, against eigenvalues and determinants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regnet_jax.geometry import jacobian_determinant
from regnet_jax.synthesis.fields.deformation import everywhere, limit_folding, rescale


def _random_field(shape, amplitude, seed=0):
    rng = np.random.default_rng(seed)
    grid = np.indices(shape) / 5.0
    waves = [
        np.sin(np.tensordot(rng.normal(size=len(shape)), grid, 1) + phase)
        for phase in rng.uniform(0, 6, len(shape))
    ]
    return jnp.asarray(amplitude * np.stack(waves, -1), jnp.float32)


@pytest.mark.parametrize("shape", [(9, 12), (7, 8, 11)])
def test_rescale_reaches_the_largest_and_keeps_the_shape(shape):
    field = _random_field(shape, 3.0)
    got = np.asarray(rescale(field, 1.5))
    assert np.abs(got).max() == pytest.approx(1.5, rel=1e-6)
    factor = got.sum() / float(field.sum())
    np.testing.assert_allclose(got, factor * np.asarray(field), atol=1e-5)
    np.testing.assert_array_equal(rescale(jnp.zeros_like(field), 1.5), 0)


def test_a_linear_field_is_scaled_to_the_root_of_its_determinant():
    # u = -2 x along the first axis: det = 1 - 2 s, which is 0.2 at s = 0.4.
    field = np.zeros((9, 7, 2), np.float32)
    field[..., 0] = -2.0 * np.arange(9)[:, None]
    got = np.asarray(limit_folding(jnp.asarray(field), 0.2))
    np.testing.assert_allclose(got, 0.4 * field, rtol=1e-4)


def test_a_rotation_scaling_in_3d_is_scaled_to_the_root_of_its_determinant():
    matrix = np.array([[-0.9, 0.3, 0.0], [-0.3, -0.9, 0.2], [0.1, 0.0, -1.2]])
    grid = np.stack(np.indices((6, 7, 8)), -1).astype(np.float32)
    field = jnp.asarray(grid @ matrix.T, jnp.float32)
    scale = float((limit_folding(field, 0.3) / field)[3, 3, 3, 0])
    assert np.linalg.det(np.eye(3) + scale * matrix) == pytest.approx(0.3, abs=1e-3)
    smaller = np.linspace(0, scale, 20)[:-1]
    assert all(np.linalg.det(np.eye(3) + s * matrix) > 0.3 for s in smaller)


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    amplitude=st.floats(0.1, 8.0),
    least=st.floats(0.05, 0.9),
    deep=st.booleans(),
)
def test_the_bound_holds_and_little_is_given_away(seed, amplitude, least, deep):
    field = _random_field((7, 9, 8) if deep else (9, 12), amplitude, seed)
    got = jax.jit(limit_folding)(field, least)
    assert float(jnp.min(jacobian_determinant(got))) >= least - 1e-4
    if float(jnp.min(jacobian_determinant(field))) >= least + 1e-4:
        np.testing.assert_array_equal(got, field)
    else:
        part = float(jnp.max(jnp.abs(got)) / jnp.max(jnp.abs(field)))
        more = field * min(1.0, 1.01 * part)
        assert part > 0
        assert float(jnp.min(jacobian_determinant(more))) < least + 2e-3


def test_everywhere_trains_everywhere():
    deformation = everywhere(jnp.zeros((4, 5, 2)))
    assert deformation.area.shape == (4, 5)
    assert bool(jnp.all(deformation.area))
