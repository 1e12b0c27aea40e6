"""Averages of weights, decay, and gradients that are added up."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.synthesis.generator import make_generator
from regnet_jax.training.state import follow, init_state, make_optimizer
from regnet_jax.training.step import make_draw, make_update


def test_an_average_forgets_its_beginning():
    params = [{"a": jnp.float32(value)} for value in (0.0, 4.0, 4.0, 8.0)]
    average = params[0]
    want = 0.0
    for step, new in enumerate(params):
        average = follow(average, new, jnp.int32(step), decay=0.3)
        stays = min(0.3, (1 + step) / (10 + step))
        want = stays * want + (1 - stays) * float(new["a"])
        assert float(average["a"]) == pytest.approx(want, rel=1e-6)
    assert follow((), params[1], 3, decay=0.0) == ()


@functools.partial(jax.jit, static_argnames=("update", "draw"))
def _two_steps(state, stream, *, update, draw):
    for _ in range(2):
        state, metrics = update(state, draw(state, stream, jnp.arange(4)))
    return state, metrics


def _trained(config, model, **options):
    draw = make_draw(model, make_generator(config.data))
    update = make_update(model, make_optimizer(config), lambda tree: tree, **options)
    state = init_state(jax.random.key(0), model, make_optimizer(config), config)
    return _two_steps(state, jax.random.key(7), update=update, draw=draw)


def test_parts_of_a_batch_add_up_to_the_whole(changed, tiny_model):
    """Without normalisation over a batch; the average follows the weights."""
    config, model = changed(average=0.5, warmup=0), tiny_model(normalised=False)
    want, sums = _trained(config, model, average=0.5)
    got, parts = _trained(config, model, average=0.5, parts=2)
    for a, b in ((got, want), (parts, sums)):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), a, b
        )
    kernel = want.variables["params"]["Conv_0"]["kernel"]
    average = want.average["Conv_0"]["kernel"]
    assert np.abs(kernel - average).max() > 1e-4
    assert want.best["params"] is want.average
    plain, _ = _trained(config, model)
    np.testing.assert_array_equal(plain.variables["params"]["Conv_0"]["kernel"], kernel)


def test_kernels_decay_and_nothing_else(changed):
    params = {"kernel": jnp.ones((3, 3)), "bias": jnp.ones(3), "prior": jnp.ones(())}
    still = jax.tree.map(jnp.zeros_like, params)
    optimizer = make_optimizer(changed(weight_decay=0.1, warmup=0, learning_rate=0.5))
    update, _ = optimizer.update(still, optimizer.init(params), params)
    np.testing.assert_allclose(update["kernel"], -0.05, rtol=1e-5)
    assert not np.any(update["bias"])
    assert not np.any(update["prior"])
