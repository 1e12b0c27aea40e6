"""Measures of displacement fields against arithmetic by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.evaluation import endpoint_error, jacobian_statistics


@pytest.mark.parametrize("shape", [(5, 7), (4, 5, 6)])
@pytest.mark.parametrize("xp", [np, jnp])
def test_endpoint_error_is_the_distance_of_vectors(shape, xp):
    rng = np.random.default_rng(0)
    found, truth = rng.normal(size=(2, *shape, len(shape)))
    errors = endpoint_error(xp.asarray(found), xp.asarray(truth))
    np.testing.assert_allclose(
        errors, np.linalg.norm(found - truth, axis=-1), rtol=1e-5
    )
    assert isinstance(errors, np.ndarray if xp is np else jax.Array)


def test_endpoint_error_has_a_gradient_where_it_is_zero():
    gradient = jax.grad(lambda u: endpoint_error(u, u * 0.0).sum())(jnp.zeros((3, 2)))
    np.testing.assert_array_equal(gradient, 0.0)


def test_endpoint_error_keeps_nan():
    assert np.isnan(endpoint_error(np.array([np.nan, 0.0]), np.zeros(2)))


def test_jacobian_statistics_of_known_values():
    values = np.array([[-0.5, 0.0], [1.0, np.e]])
    found = jacobian_statistics(values)
    assert found.min == -0.5
    assert found.max == pytest.approx(np.e)
    assert found.folding_fraction == 0.5
    assert found.sd_log == pytest.approx(np.sqrt(0.5))
    inside = jacobian_statistics(values, values > 0)
    assert inside.folding_fraction == 0
    nothing = vars(jacobian_statistics(values, values > 9))
    assert np.isnan(list(nothing.values())).all()
