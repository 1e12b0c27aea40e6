"""The average of the weights, weight decay, accumulated gradients, learning rate."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.training.config import OptimizerConfig, ScheduleConfig
from regnet_jax.training.state import init_state, make_schedule, update_average
from regnet_jax.training.step import make_batch_sampler, make_update
from tests.helpers.tiny import TARGETS, noise_generator, optimizer_of


def test_update_average_forgets_the_first_weights():
    params = [{"a": jnp.float32(value)} for value in (0.0, 4.0, 4.0, 8.0)]
    average = params[0]
    want = 0.0
    for step, new in enumerate(params):
        average = update_average(average, new, jnp.int32(step), decay=0.3)
        stays = min(0.3, (1 + step) / (10 + step))
        want = stays * want + (1 - stays) * float(new["a"])
        assert float(average["a"]) == pytest.approx(want, rel=1e-6)
    assert update_average((), params[1], 3, decay=0.0) == ()


@functools.partial(jax.jit, static_argnames=("update", "draw"))
def _two_steps(state, stream, *, update, draw):
    for _ in range(2):
        state, metrics = update(state, draw(state, stream, jnp.arange(4)))
    return state, metrics


def _trained(config, model, **options):
    draw = make_batch_sampler(model, noise_generator(config.data, TARGETS))
    update = make_update(model, optimizer_of(config), lambda tree: tree, **options)
    state = init_state(jax.random.key(0), model, optimizer_of(config), config)
    return _two_steps(state, jax.random.key(7), update=update, draw=draw)


def test_microbatches_give_the_step_of_the_whole_batch(changed, tiny_model):
    """Without normalisation over a batch; the average follows the weights."""
    config, model = (
        changed("optimizer.ema_decay=0.5", "schedule.warmup_steps=0"),
        tiny_model(normalised=False),
    )
    want, sums = _trained(config, model, ema_decay=0.5)
    got, accumulated = _trained(config, model, ema_decay=0.5, microbatches=2)
    for a, b in ((got, want), (accumulated, sums)):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), a, b
        )
    kernel = want.variables["params"]["Conv_0"]["kernel"]
    average = want.average["Conv_0"]["kernel"]
    assert np.abs(kernel - average).max() > 1e-4
    assert want.inference_variables["params"] is want.average
    plain, _ = _trained(config, model)
    np.testing.assert_array_equal(plain.variables["params"]["Conv_0"]["kernel"], kernel)


def test_weight_decay_is_of_kernels_alone(changed):
    params = {"kernel": jnp.ones((3, 3)), "bias": jnp.ones(3), "prior": jnp.ones(())}
    still = jax.tree.map(jnp.zeros_like, params)
    optimizer = optimizer_of(
        changed(
            "optimizer.weight_decay=0.1",
            "schedule.warmup_steps=0",
            "optimizer.learning_rate=0.5",
        )
    )
    update, _ = optimizer.update(still, optimizer.init(params), params)
    np.testing.assert_allclose(update["kernel"], -0.05, rtol=1e-5)
    assert not np.any(update["bias"])
    assert not np.any(update["prior"])


@pytest.mark.parametrize(("constant", "start"), [(0.0, 10), (0.05, 10), (0.5, 50)])
def test_learning_rate_grows_stays_and_falls_as_a_cosine(tiny, constant, start):
    config = dataclasses.replace(
        tiny,
        steps=100,
        optimizer=OptimizerConfig(learning_rate=0.02),
        schedule=ScheduleConfig(
            warmup_steps=10, constant_fraction=constant, final_fraction=0.1
        ),
    )
    rate = make_schedule(config)
    for step in range(0, 101, 5):
        if step < 10:
            want = 0.02 * step / 10
        elif step < start:
            want = 0.02
        else:
            fall = 0.5 * (1.0 + np.cos(np.pi * (step - start) / (100 - start)))
            want = 0.02 * (0.1 + 0.9 * fall)
        assert float(rate(step)) == pytest.approx(want, rel=1e-5, abs=1e-9)
