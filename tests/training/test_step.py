"""A step is the same on one device and on four, and compiles once."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from regnet_jax.evaluation import endpoint_error
from regnet_jax.synthesis.generator import make_generator
from regnet_jax.synthesis.patches import PatchBatch
from regnet_jax.training import parallel
from regnet_jax.training.losses import huber_loss
from regnet_jax.training.state import init_state
from regnet_jax.training.step import (
    make_batch_sampler,
    make_train_steps,
    make_update,
    predict,
    sample_batch,
)
from tests.helpers.tiny import (
    TARGETS,
    noise_generator,
    optimizer_of,
    smooth_patches,
)

STEPS = 10
SPREAD = {"pmap": parallel.by_pmap, "shard_map": parallel.by_shard_map}


def _identity(tree):
    return tree


def _one_step(model, optimizer, generate, **options):
    """``step(state, stream, indices, scans=())`` on a single device."""
    draw = make_batch_sampler(model, generate)
    update = make_update(model, optimizer, _identity, **options)
    return lambda state, *given: update(state, draw(state, *given))


def _steps(config, model, reduce, generate):
    """All steps, at most three in a call."""
    draw = make_batch_sampler(model, generate)
    update = make_update(model, optimizer_of(config), reduce)
    return make_train_steps(draw, update, reduce, count=3)


def _run(config, model, steps):
    """The last state and the metrics of all steps, on the host."""
    state = init_state(jax.random.key(0), model, optimizer_of(config), config)
    state, history, number = parallel.replicate(state), [], 0
    while number < STEPS:
        # As a save at step 5 would cut them.
        stop = min(number + 3, 5 if number < 5 else STEPS)
        state, sums = steps(state, np.int32(stop))
        history += [
            {name: float(values[index]) for name, values in sums.items()}
            for index in range(stop - number)
        ]
        number = stop
    return jax.tree.map(np.asarray, state), history


def _close(got, want):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), got, want
    )


@pytest.fixture
def stream():
    return jax.random.key(7)


def test_four_devices_do_what_one_does(tiny, tiny_model, stream):
    """By pmap and by shard_map, in calls of unequal length, each compiled once."""
    assert jax.local_device_count() == 4
    traces = []

    def generate(key, scans):
        traces.append(1)
        return noise_generator(tiny.data, TARGETS)(key, scans)

    alone = jax.jit(_steps(tiny, tiny_model(), _identity, generate))
    indices = jnp.arange(4)
    want, records = _run(
        tiny, tiny_model(), lambda s, end: alone(s, indices, stream, (), end)
    )
    model = tiny_model(axis_name=parallel.AXIS)
    for spread in SPREAD.values():
        steps = _steps(tiny, model, parallel.sum_over_devices, generate)
        steps = spread(steps, samples=4)
        traces.clear()
        counts = []

        def go(state, end, steps=steps, counts=counts):
            result = steps(state, stream, (), end)
            counts.append(len(traces))
            return result

        got, history = _run(tiny, model, go)
        _close(got, want)
        _close(history, records)
        assert len(counts) == 4
        assert len(set(counts)) == 1, "a later call was traced again"
    assert int(want.step) == STEPS
    # Metrics are sums over all 4 pairs of 2 patches of 3 x 3 targets.
    assert 0 < records[0]["weight"] <= 4 * 2 * 9
    assert records[0]["zero_error"] != pytest.approx(records[-1]["zero_error"])


def test_steps_beyond_the_end_draw_and_learn_nothing(tiny, tiny_model, stream):
    model = tiny_model(axis_name=parallel.AXIS)
    steps = _steps(
        tiny, model, parallel.sum_over_devices, noise_generator(tiny.data, TARGETS)
    )
    steps = parallel.by_pmap(steps, samples=4)
    state = init_state(jax.random.key(0), model, optimizer_of(tiny), tiny)
    before = jax.tree.map(np.asarray, state)
    state, sums = steps(parallel.replicate(state), stream, (), np.int32(0))
    jax.tree.map(np.testing.assert_array_equal, state, before)
    assert (np.asarray(sums["sampled_weight"]) > 0).all()
    assert not np.asarray(sums["weight"]).any()


def test_metrics_are_sums_over_the_batch(tiny, tiny_model, stream):
    model, optimizer = tiny_model(), optimizer_of(tiny)
    generate = noise_generator(tiny.data, TARGETS)
    state = init_state(jax.random.key(0), model, optimizer, tiny)
    step = jax.jit(_one_step(model, optimizer, generate))
    indices = jnp.arange(4)
    batch = jax.jit(functools.partial(sample_batch, generate))(stream, 0, indices)
    _, metrics = step(state, stream, indices)
    prediction, _ = predict(
        model, state.variables, batch, train=True, mutable=["batch_stats"]
    )
    loss, weight = huber_loss(prediction, batch.displacement, batch.weight)
    error = np.asarray(endpoint_error(prediction, batch.displacement))[..., None]
    length = np.linalg.norm(batch.displacement, axis=-1, keepdims=True)
    want = {
        "loss": loss,
        "error": (batch.weight * error).sum(),
        "zero_error": (batch.weight * length).sum(),
        "weight": weight,
    }
    for name, value in want.items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=1e-4), name


def test_batches_do_not_depend_on_how_samples_are_spread(tiny, stream):
    generate = make_generator(tiny.data, TARGETS, sample=smooth_patches)
    draw = jax.jit(functools.partial(sample_batch, generate))
    whole = draw(stream, 5, jnp.arange(4))
    for first in (0, 2):
        part = draw(stream, 5, jnp.arange(first, first + 2))
        patches = slice(
            tiny.data.patches_per_pair * first, tiny.data.patches_per_pair * (first + 2)
        )
        for a, b in zip(part, whole, strict=True):
            np.testing.assert_allclose(a, b[patches], atol=1e-3)
    other = draw(stream, 6, jnp.arange(2))
    assert np.abs(other.displacement - part.displacement).max() > 0.1
    a, b = np.split(np.asarray(whole.displacement), 2)
    assert np.abs(a - b).max() > 0.1


def test_the_pairs_of_a_group_share_family_and_scale(tiny, stream):
    data = dataclasses.replace(
        tiny.data,
        families=("zero", "translation", "affine"),
        family_weights=(),
        scales=(1.0, 2.0),
        patches_per_pair=1,
    )

    def tell(key, family, config, targets, scans):
        # The kind of field, the voxel size, and what differs from pair to pair.
        kind, _ = family.parameters
        told = jnp.stack([kind * 1.0, config.spacing, jax.random.uniform(key)])
        return PatchBatch(told[None], told[None], told[None], told[None])

    draw = functools.partial(
        sample_batch, make_generator(data, TARGETS, sample=tell), stream, 5
    )
    pairs = np.asarray(jax.jit(lambda i: draw(i, at_once=4).fixed)(jnp.arange(80)))
    groups = pairs.reshape(20, 4, 3)
    np.testing.assert_array_equal(groups[:, :, :2], groups[:, :1, :2].repeat(4, 1))
    assert len(np.unique(pairs[:, 2])) == 80
    # All kinds and both voxel sizes occur.
    assert len({tuple(group) for group in groups[:, 0, :2]}) == 6
    # A device that has the second half of the batch draws the same pairs.
    half = jax.jit(lambda i: draw(i, at_once=4).fixed)(jnp.arange(40, 80))
    np.testing.assert_array_equal(half, pairs[40:])
    alone = np.asarray(jax.jit(lambda i: draw(i).fixed)(jnp.arange(80)))
    assert (alone.reshape(20, 4, 3)[:, :, :2].std(1) > 0).any(), "each has its own"


def test_a_batch_without_targets_leaves_the_weights_finite(tiny, tiny_model, stream):
    def nothing(key, scans):
        pairs = noise_generator(tiny.data, TARGETS)(key, scans)
        return pairs._replace(weight=0 * pairs.weight)

    model, optimizer = tiny_model(), optimizer_of(tiny)
    state = init_state(jax.random.key(0), model, optimizer, tiny)
    step = jax.jit(_one_step(model, optimizer, nothing))
    after, metrics = step(state, stream, jnp.arange(1))
    assert float(metrics["weight"]) == float(metrics["loss"]) == 0
    for a, b in zip(
        jax.tree.leaves(state.variables["params"]),
        jax.tree.leaves(after.variables["params"]),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_samples_must_spread_evenly():
    for spread in SPREAD.values():
        with pytest.raises(ValueError, match="6 samples do not spread over 4 devices"):
            spread(lambda state, indices: None, samples=6)


def test_replicate_keeps_values():
    tree = {"a": jnp.arange(3.0), "b": jnp.int32(2)}
    copies = parallel.replicate(tree)
    jax.tree.map(np.testing.assert_array_equal, copies, tree)
    assert len(copies["a"].sharding.device_set) == 4


class DeeplySupervised(nn.Module):
    """Predicts twice before its last prediction: half of it, and all of it."""

    @nn.compact
    def __call__(self, fixed, moving, *, train: bool):
        prediction = nn.Dense(2)(jnp.concatenate([fixed, moving], -1))
        # As in CorrNet: what is sown is no variable of the network.
        if not self.is_initializing():
            self.sow("heads", "first", 0.5 * prediction)
            self.sow("heads", "second", prediction)
        return prediction


def _given(key, scans) -> PatchBatch:
    """Targets are the array that is handed in as scans."""
    images = 300.0 * jax.random.normal(key, (2, 1, 5, 5, 1))
    return PatchBatch(*images, scans[None], jnp.full((1, 5, 5, 1), 0.25))


def test_heads_are_supervised_too(tiny, stream):
    model, optimizer = DeeplySupervised(), optax.sgd(1.0)
    state = init_state(jax.random.key(0), model, optimizer, tiny)
    assert set(state.variables) == {"params"}
    step = jax.jit(_one_step(model, optimizer, _given))
    targets = 2.0 * jnp.asarray(np.random.default_rng(0).normal(size=(5, 5, 2)))
    indices = jnp.arange(3)
    after, metrics = step(state, stream, indices, targets)
    assert set(after.variables) == {"params"}

    batch = sample_batch(lambda key: _given(key, targets), stream, 0, indices)
    np.testing.assert_array_equal(batch.displacement[1], targets)

    def loss(params):
        prediction = predict(model, {"params": params}, batch, train=True)
        parts = [
            share
            * optax.huber_loss(scale * prediction, batch.displacement).mean(-1).sum()
            for share, scale in ((1.0, 1.0), (0.3, 0.5), (0.3, 1.0))
        ]
        return 0.25 * sum(parts)

    want, gradient = jax.value_and_grad(loss)(state.variables["params"])
    assert float(metrics["loss"]) == pytest.approx(float(want), rel=1e-5)
    # Heads change neither the error nor the number of targets.
    prediction = predict(model, state.variables, batch, train=True)
    error = 0.25 * np.linalg.norm(prediction - batch.displacement, axis=-1).sum()
    assert float(metrics["error"]) == pytest.approx(error, rel=1e-5)
    assert float(metrics["weight"]) == pytest.approx(0.25 * 3 * 25)
    expected = jax.tree.map(
        lambda p, g: p - g / (0.25 * 3 * 25), state.variables["params"], gradient
    )
    _close(after.variables["params"], expected)


def test_long_gradients_are_clipped(changed):
    rng = np.random.default_rng(0)
    params = {"a": np.zeros(3, np.float32), "b": np.zeros((2, 2), np.float32)}
    lengths = (0.5, 8.0, 1.0, 30.0)
    gradients = []
    for length in lengths:
        vector = rng.normal(size=7).astype(np.float32)
        vector *= length / np.linalg.norm(vector)
        gradients.append({"a": vector[:3], "b": vector[3:].reshape(2, 2)})

    def updates(clip, factors):
        optimizer = optimizer_of(changed(f"optimizer.max_grad_norm={clip}"))
        state, result = optimizer.init(params), []
        for gradient, factor in zip(gradients, factors, strict=True):
            gradient = jax.tree.map(lambda g, f=factor: f * g, gradient)
            change, state = optimizer.update(gradient, state, params)
            result.append(change)
        return result

    shorter = [min(1.0, 2.0 / length) for length in lengths]
    _close(updates(2.0, [1.0] * 4), updates(0.0, shorter))
    _close(updates(100.0, [1.0] * 4), updates(0.0, [1.0] * 4))
    clipped, free = (updates(clip, [1.0] * 4)[-1]["a"] for clip in (2.0, 0.0))
    assert np.abs(clipped - free).max() > 1e-3
