"""Losses against scipy and numbers worked out by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from regnet_jax.evaluation import endpoint_error
from regnet_jax.training.config import LossConfig
from regnet_jax.training.losses import (
    balance_weights,
    bending_energy,
    error_loss,
    folding_penalty,
    huber_loss,
    make_loss,
)


@pytest.mark.parametrize("delta", [0.5, 1.0, 3.0])
def test_huber_is_that_of_scipy(delta):
    rng = np.random.default_rng(0)
    prediction, target = rng.normal(scale=2, size=(2, 5, 4, 3)).astype(np.float32)
    weight = rng.uniform(size=(5, 4, 1)).astype(np.float32)
    each = special.huber(delta, prediction - target)
    want = (weight[..., 0] * each.mean(-1)).sum()
    got, total = huber_loss(prediction, target, weight, delta=delta)
    assert float(got) == pytest.approx(want, rel=1e-5)
    assert float(total) == pytest.approx(weight.sum(), rel=1e-5)


def test_loss_of_estimated_errors_is_the_density_of_scipy():
    rng = np.random.default_rng(0)
    estimate = rng.normal(size=(5, 4, 2)).astype(np.float32)
    error = rng.uniform(0.1, 3, (5, 4, 1)).astype(np.float32)
    weight = rng.uniform(size=(5, 4, 1)).astype(np.float32)
    mean, width = estimate[..., 0], np.exp(estimate[..., 1])
    density = stats.norm.logpdf(np.log(error[..., 0] + 0.02), mean, width)
    want = -0.01 * (weight[..., 0] * (density + 0.5 * np.log(2 * np.pi))).sum()
    for loss in (error_loss, jax.jit(error_loss)):
        assert float(loss(estimate, error, weight)) == pytest.approx(want, rel=1e-5)


def test_loss_of_estimated_errors_leaves_the_prediction_alone():
    estimate, weight = jnp.ones((4, 2)), jnp.ones((4, 1))
    error = jnp.full((4, 1), 0.5)
    gradients = jax.grad(error_loss, (0, 1))(estimate, error, weight)
    np.testing.assert_array_equal(gradients[1], 0.0)
    assert np.abs(gradients[0]).min() > 0


def test_huber_by_hand():
    # Half the square of 0.5; 1 * (3 - 1 / 2); the third position does not count.
    prediction = jnp.array([[0.5, 0.0], [3.0, -3.0], [9.0, 9.0]])
    weight = jnp.array([[1.0], [1.0], [0.0]])
    loss, total = huber_loss(prediction, jnp.zeros((3, 2)), weight)
    assert float(loss) == pytest.approx(0.125 / 2 + 2.5)
    assert float(total) == 2


def test_huber_gradient_is_bounded_and_zero_without_weight():
    weight = jnp.array([[1.0], [1.0], [0.0]])
    prediction = jnp.array([[0.25], [50.0], [50.0]])
    gradient = jax.grad(lambda p: huber_loss(p, jnp.zeros((3, 1)), weight)[0])(
        prediction
    )
    np.testing.assert_allclose(gradient, [[0.25], [1.0], [0.0]], rtol=1e-6)


@pytest.mark.parametrize("shape", [(7, 9), (6, 8, 5)])
def test_bending_of_a_parabola(shape):
    """Constant second derivatives, on any lattice; an affine field has none."""
    d = len(shape)
    rng = np.random.default_rng(1)
    curvature = rng.normal(size=(d, d, d))
    curvature += curvature.swapaxes(1, 2)
    affine = rng.normal(size=(d, d))
    for spacing in (1.0, 2.0):
        x = spacing * np.moveaxis(np.indices(shape), 0, -1)
        field = 0.5 * np.einsum("kij,...i,...j->...k", curvature, x, x) + x @ affine
        energy = bending_energy(jnp.asarray(field, jnp.float32), spacing=spacing)
        assert energy.shape == (*shape, 1)
        np.testing.assert_allclose(energy, (curvature**2).sum(), rtol=1e-3)
    flat = bending_energy(jnp.asarray(x @ affine, jnp.float32), spacing=spacing)
    np.testing.assert_allclose(flat, 0.0, atol=1e-6)


@pytest.mark.parametrize("d", [2, 3])
def test_folding_penalty_is_the_shortfall_of_the_determinant(d):
    """``x -> s x`` has the determinant ``s**d``."""
    x = np.moveaxis(np.indices((5, 6, 7)[:d]), 0, -1).astype(np.float32)
    for scale in (1.0, 0.9, 0.5, -0.5):
        got = folding_penalty(jnp.asarray(2.0 * (scale - 1.0) * x), spacing=2.0)
        want = max(0.2 - scale**d, 0.0) ** 2
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_balance_weights_make_classes_count_alike():
    rng = np.random.default_rng(2)
    u = rng.normal(scale=2.0, size=(8, 9, 2)).astype(np.float32)
    weight = rng.uniform(size=(8, 9, 1)).astype(np.float32)
    weight[:3] = 0.0
    edges = (1.0, 2.5, 100.0)
    got = np.asarray(balance_weights(jnp.asarray(weight), jnp.asarray(u), edges=edges))
    length = np.linalg.norm(u, axis=-1, keepdims=True)
    ends = [0.0, 1.0, 2.5, 100.0]
    sums = [
        got[(a <= length) & (length < b)].sum() for a, b in itertools.pairwise(ends)
    ]
    np.testing.assert_allclose(sums, weight.sum() / 3, rtol=1e-4)
    assert (got[:3] == 0).all()
    # Within a class, weights keep their proportion.
    first = (length < 1.0) & (weight > 0)
    np.testing.assert_allclose(np.ptp(got[first] / weight[first]), 0.0, atol=1e-4)
    nothing = balance_weights(jnp.zeros((3, 3, 1)), u[:3, :3], edges=(1.0,))
    assert not np.asarray(nothing).any()


def test_make_loss_gives_the_sum_of_its_terms():
    rng = np.random.default_rng(3)
    prediction, target = jnp.asarray(rng.normal(size=(2, 2, 6, 5, 2)), jnp.float32)
    weight = jnp.asarray(rng.uniform(size=(2, 6, 5, 1)), jnp.float32)
    config = LossConfig(
        huber_delta=0.5, endpoint_weight=0.3, bending_weight=0.2, folding_weight=0.7
    )
    loss = make_loss(config, stride=2)
    got, count = loss(prediction, [0.5 * prediction], target, weight)
    want = huber_loss(prediction, target, weight, delta=0.5)[0]
    want += 0.3 * huber_loss(0.5 * prediction, target, weight, delta=0.5)[0]
    want += 0.3 * jnp.sum(weight * endpoint_error(prediction, target)[..., None])
    for one, w in zip(prediction, weight, strict=True):
        want += 0.2 * jnp.sum(w * bending_energy(one, spacing=2))
        want += 0.7 * jnp.sum(w * folding_penalty(one, spacing=2))
    assert float(got) == pytest.approx(float(want), rel=1e-5)
    assert float(count) == pytest.approx(float(weight.sum()))
