"""Training that stops being finite: where it stops, and what is kept."""

import dataclasses
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.errors import DivergenceError, InputError
from regnet_jax.evaluation import endpoint_error
from regnet_jax.training import checkpoint, heldout, parallel
from regnet_jax.training.checks import check
from regnet_jax.training.logs import METRICS
from regnet_jax.training.state import TrainState, init_state
from regnet_jax.training.step import (
    QUANTITIES,
    make_batch_sampler,
    make_train_steps,
    make_update,
)
from tests.helpers.tiny import (
    TARGETS,
    noise_evaluation,
    noise_generator,
    optimizer_of,
    train,
)

SPREAD = {"pmap": parallel.by_pmap, "shard_map": parallel.by_shard_map}


def numbers(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def finite(tree):
    return all(np.isfinite(leaf).all() for leaf in numbers(tree))


def _five_steps(config, model, *, at, quantity):
    """Five steps in a call; in one of them a value is not finite on one device."""
    draw = make_batch_sampler(model, noise_generator(config.data, TARGETS))

    def loss(prediction, heads, target, weight):
        value = jnp.sum(weight * (prediction - target) ** 2)
        return value, jnp.sum(weight)

    def drawn(state, stream, indices, scans=()):
        batch = draw(state, stream, indices, scans)
        there = (state.step == at) & (indices[0] == 0)
        bad = jnp.where(there, jnp.nan if quantity == "loss" else 1e30, 0.0)
        return batch._replace(displacement=batch.displacement + bad)

    update = make_update(
        model, optimizer_of(config), parallel.sum_over_devices, loss=loss
    )
    return make_train_steps(drawn, update, parallel.sum_over_devices, count=5)


@pytest.mark.parametrize("quantity", ["loss", "huge"])
@pytest.mark.parametrize("spread", SPREAD)
def test_the_state_stays_at_the_last_good_step(tiny, tiny_model, spread, quantity):
    """On all devices, though the fault is on one of them."""
    model = tiny_model(axis_name=parallel.AXIS)
    build = functools.partial(_five_steps, tiny, model, quantity=quantity)
    fresh = init_state(jax.random.key(0), model, optimizer_of(tiny), tiny)
    fresh = jax.tree.map(np.asarray, fresh)
    stream = jax.random.key(7)
    # Without a fault before step 99, up to step 3.
    steps = SPREAD[spread](build(at=99), samples=4)
    want, _ = steps(parallel.replicate(fresh), stream, (), np.int32(3))
    steps = SPREAD[spread](build(at=3), samples=4)
    got, sums = steps(parallel.replicate(fresh), stream, (), np.int32(5))
    assert int(parallel.local_values(got.step)) == 3
    for leaf, wanted in zip(jax.tree.leaves(got), numbers(want), strict=True):
        for shard in leaf.addressable_shards:
            np.testing.assert_array_equal(np.asarray(shard.data), wanted)
    faults = np.asarray(sums["fault"])
    assert QUANTITIES[faults[3] - 1] == "loss"
    np.testing.assert_array_equal(faults != 0, [False, False, False, True, False])
    assert not np.asarray(sums["weight"])[4].any(), "a step was learned from"


@pytest.mark.usefixtures("compiled_once")
@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("steps_per_call=3", "optimizer.ema_decay=0.9"),
        ("steps_per_call=9", "optimizer.max_grad_norm=1"),
    ],
)
def test_a_run_that_diverges_keeps_its_last_good_state(changed, tmp_path, changes):
    config = changed(
        "steps=8",
        "checkpoint_every=8",
        "evaluation.every=8",
        "optimizer.learning_rate=1e30",
        *changes,
    )
    said = r"the [a-z ]+ of step (\d+) is not finite; the weights of step \d+ are kept"
    for _ in range(2):  # The same again stops at the same place.
        with pytest.raises(DivergenceError, match=said) as caught:
            train(config, tmp_path)
        text = str(caught.value)
        assert "\n" not in text
        assert "an optimizer.learning_rate below 1e+30" in text
        clips = config.optimizer.max_grad_norm
        assert ("max_grad_norm=1" in text) == (not clips)
        lines = (tmp_path / METRICS).read_text("utf-8").splitlines()

        def refuse(word):
            raise AssertionError(f"{word} is no JSON")

        records = [json.loads(line, parse_constant=refuse) for line in lines]
        last = records[-1]["step"]
        assert f"of step {last} is not finite" in text
        assert f"the {records[-1]['not_finite']} of" in text
        assert [record["step"] for record in records] == list(range(1, last + 1))
        with checkpoint.open_checkpoints(tmp_path) as manager:
            assert manager.latest_step() == last - 1
            assert finite(manager.restore(last - 1))
        assert finite(checkpoint.restore_variables(tmp_path))


def state(step, value=1.0):
    weights = {"w": jnp.full((3000,), value)}
    return TrainState(jnp.int32(step), {"params": weights}, {"m": jnp.ones(2)})


def test_an_evaluation_of_nan_is_never_the_best(tmp_path):
    with checkpoint.open_checkpoints(tmp_path, keep=1) as manager:
        for step, ratio in enumerate((math.nan, 0.5, math.nan, 0.7, math.nan)):
            checkpoint.save(manager, state(step, step), {checkpoint.RATIO: ratio})
        manager.wait_until_finished()
        assert manager.best_step() == 1
        assert list(manager.all_steps()) == [1, 4]
    got = checkpoint.restore_variables(tmp_path, best=True)["params"]["w"]
    assert (np.asarray(got) == 1).all()


def test_without_a_finite_evaluation_there_is_no_best(tmp_path):
    with checkpoint.open_checkpoints(tmp_path) as manager:
        checkpoint.save(manager, state(1), {checkpoint.RATIO: math.nan})
    with pytest.raises(InputError, match="no checkpoint has an evaluation"):
        checkpoint.restore_variables(tmp_path, best=True)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, value, caplog):
    """As a run of an earlier version has left them."""
    with checkpoint.open_checkpoints(tmp_path) as manager:
        checkpoint.save(manager, state(1))
        checkpoint.save(manager, state(2, value))
    with pytest.raises(InputError, match=r"checkpoint 2 are not finite.*remove .*2 to"):
        checkpoint.restore_variables(tmp_path)
    # A run goes on from the one before.
    with checkpoint.open_checkpoints(tmp_path) as manager:
        restored = checkpoint.restore_latest(manager, state(0))
    assert int(restored.step) == 1
    assert "not finite" in caplog.text


def test_nan_is_as_far_away_as_nan():
    target = jnp.zeros((4, 2))
    prediction = jnp.asarray([[3.0, 4.0], [0.0, 0.0], [jnp.nan, 0.0], [jnp.inf, 1.0]])
    got = np.asarray(endpoint_error(prediction, target))
    np.testing.assert_array_equal(got, [5.0, 0.0, np.nan, np.inf])
    slope = jax.grad(lambda p: endpoint_error(p, target[:2]).sum())(prediction[:2])
    np.testing.assert_allclose(slope, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)


def test_an_evaluation_of_nan_weights_is_nan(tiny, tiny_model):
    model = tiny_model()
    fresh = init_state(jax.random.key(0), model, optimizer_of(tiny), tiny)
    variables = jax.tree.map(lambda a: jnp.full_like(a, jnp.nan), fresh.variables)
    results = noise_evaluation(model, tiny)(variables)
    for result in results.values():
        assert math.isnan(result["error_mm"])
        assert math.isnan(result["ratio"])
        assert result["zero_mm"] > 0
    assert math.isnan(heldout.overall_ratio(results))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_families_without_room_are_refused_or_named(tiny, caplog, dimensions):
    """At 1 mm, 48 voxels leave one place inside a border of 33 mm for ``high``."""
    fine = dataclasses.replace(
        tiny.data, shape=(48,) * dimensions, spacing=1.0, families=("high", "zero")
    )
    config = dataclasses.replace(tiny, data=fine)
    with pytest.raises(InputError, match=r"data\.families=high: finds nothing to move"):
        check(config, devices=1)
    mixed = dataclasses.replace(fine, families=("high", "low"))
    check(dataclasses.replace(tiny, data=mixed), devices=1)
    assert "data.families=high: finds nothing to move in" in caplog.text
