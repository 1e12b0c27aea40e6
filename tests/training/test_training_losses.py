"""Losses against optax and numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from regnet_jax.training.losses import endpoint_error, huber


@pytest.mark.parametrize("delta", [0.5, 1.0, 3.0])
def test_huber_is_the_one_of_optax(delta):
    rng = np.random.default_rng(0)
    prediction, target = rng.normal(scale=2, size=(2, 5, 4, 3)).astype(np.float32)
    weight = rng.uniform(size=(5, 4, 1)).astype(np.float32)
    each = optax.huber_loss(jnp.asarray(prediction), jnp.asarray(target), delta=delta)
    want = (weight[..., 0] * np.asarray(each).mean(-1)).sum()
    got, total = huber(prediction, target, weight, delta=delta)
    assert float(got) == pytest.approx(want, rel=1e-5)
    assert float(total) == pytest.approx(weight.sum(), rel=1e-5)


def test_huber_by_hand():
    # Half the square of 0.5; 1 * (3 - 1 / 2); the third position does not count.
    prediction = jnp.array([[0.5, 0.0], [3.0, -3.0], [9.0, 9.0]])
    weight = jnp.array([[1.0], [1.0], [0.0]])
    loss, total = huber(prediction, jnp.zeros((3, 2)), weight)
    assert float(loss) == pytest.approx(0.125 / 2 + 2.5)
    assert float(total) == 2


def test_huber_gradient_is_bounded_and_zero_without_weight():
    weight = jnp.array([[1.0], [1.0], [0.0]])
    prediction = jnp.array([[0.25], [50.0], [50.0]])
    gradient = jax.grad(lambda p: huber(p, jnp.zeros((3, 1)), weight)[0])(prediction)
    np.testing.assert_allclose(gradient, [[0.25], [1.0], [0.0]], rtol=1e-6)


def test_endpoint_error_is_a_length():
    prediction = jnp.array([[1.0, 2.0, 2.0], [1.0, 1.0, 1.0]])
    target = jnp.array([[1.0, -1.0, -2.0], [1.0, 1.0, 1.0]])
    np.testing.assert_allclose(endpoint_error(prediction, target), [[5.0], [0.0]])


def test_endpoint_error_has_a_gradient_at_zero():
    field = jnp.array([[0.0, 0.0], [3.0, 4.0]])
    gradient = jax.grad(lambda u: jnp.sum(endpoint_error(u, jnp.zeros((2, 2)))))(field)
    np.testing.assert_allclose(gradient, [[0.0, 0.0], [0.6, 0.8]], rtol=1e-6)
