"""A step is the same on one device and on four, and compiles once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.synthesis.generator import make_generator
from regnet_jax.training import parallel
from regnet_jax.training.losses import endpoint_error, huber
from regnet_jax.training.state import init_state, make_optimizer
from regnet_jax.training.step import draw_batch, make_train_step, predict

STEPS = 3


def _identity(tree):
    return tree


def _counted(generate, traces):
    def counting(key):
        traces.append(1)
        return generate(key)

    return counting


def _run(config, model, step):
    """The state and the metrics after each of some steps, on the host."""
    optimizer = make_optimizer(config)
    state = init_state(jax.random.key(0), model, optimizer, config)
    history = []
    for _ in range(STEPS):
        state, metrics = step(state)
        history.append(jax.tree.map(np.asarray, (state, metrics)))
    return history


def _close(got, want):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), got, want
    )


@pytest.fixture
def stream():
    return jax.random.key(7)


def test_four_devices_do_what_one_does(tiny_pairs, tiny_model, stream):
    tiny = tiny_pairs
    assert jax.local_device_count() == 4
    traces = []
    generate = _counted(make_generator(tiny.data), traces)
    build = functools.partial(
        make_train_step, optimizer=make_optimizer(tiny), generate=generate
    )
    alone = jax.jit(build(tiny_model(), reduce=_identity))
    want = _run(tiny, tiny_model(), lambda s: alone(s, stream, jnp.arange(4)))

    model = tiny_model(axis_name=parallel.AXIS)
    spread = parallel.data_parallel(
        build(model, reduce=parallel.sum_over_devices), samples=4
    )
    counts = []

    def step(state):
        result = spread(parallel.replicate(state) if not counts else state, stream)
        counts.append(len(traces))
        return result

    got = _run(tiny, model, step)
    _close(got, want)
    assert len(set(counts)) == 1, "a later step was traced again"
    # Metrics are sums over all 4 pairs of 2 windows of 3 x 3 targets.
    first, last = got[0][1], got[-1][1]
    assert 0 < first["weight"] <= 4 * 2 * 9
    assert not np.isclose(first["zero_error"], last["zero_error"]), "the same pairs"
    assert int(got[-1][0].step) == STEPS
    # The learning rate starts at zero, so the second step is the first to move.
    moved = [
        np.abs(b - a).max()
        for a, b in zip(
            jax.tree.leaves(got[0][0].variables["params"]),
            jax.tree.leaves(got[-1][0].variables["params"]),
            strict=True,
        )
    ]
    assert max(moved) > 1e-3


def test_metrics_are_sums_over_the_batch(tiny, tiny_model, stream):
    model, optimizer = tiny_model(), make_optimizer(tiny)
    generate = make_generator(tiny.data)
    state = init_state(jax.random.key(0), model, optimizer, tiny)
    step = jax.jit(make_train_step(model, optimizer, generate, _identity))
    indices = jnp.arange(4)
    batch = jax.jit(functools.partial(draw_batch, generate))(stream, 0, indices)
    _, metrics = step(state, stream, indices)
    prediction, _ = predict(
        model, state.variables, batch, train=True, mutable=["batch_stats"]
    )
    loss, weight = huber(prediction, batch.displacement, batch.weight)
    error = np.asarray(endpoint_error(prediction, batch.displacement))
    length = np.linalg.norm(batch.displacement, axis=-1, keepdims=True)
    want = {
        "loss": loss,
        "error": (batch.weight * error).sum(),
        "zero_error": (batch.weight * length).sum(),
        "weight": weight,
    }
    for name, value in want.items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=1e-4), name


def test_batches_do_not_depend_on_how_samples_are_spread(tiny_pairs, stream):
    tiny = tiny_pairs
    generate = make_generator(tiny.data)
    draw = jax.jit(functools.partial(draw_batch, generate))
    whole = draw(stream, 5, jnp.arange(4))
    for first in (0, 2):
        part = draw(stream, 5, jnp.arange(first, first + 2))
        windows = slice(tiny.data.windows * first, tiny.data.windows * (first + 2))
        for a, b in zip(part, whole, strict=True):
            np.testing.assert_allclose(a, b[windows], atol=1e-3)
    other = draw(stream, 6, jnp.arange(2))
    assert np.abs(other.displacement - part.displacement).max() > 0.1
    a, b = np.split(np.asarray(whole.displacement), 2)
    assert np.abs(a - b).max() > 0.1


def test_a_batch_without_targets_leaves_the_weights_finite(tiny, tiny_model, stream):
    def nothing(key):
        pairs = make_generator(tiny.data)(key)
        return pairs._replace(weight=0 * pairs.weight)

    model, optimizer = tiny_model(), make_optimizer(tiny)
    state = init_state(jax.random.key(0), model, optimizer, tiny)
    step = jax.jit(make_train_step(model, optimizer, nothing, _identity))
    after, metrics = step(state, stream, jnp.arange(1))
    assert float(metrics["weight"]) == float(metrics["loss"]) == 0
    for a, b in zip(
        jax.tree.leaves(state.variables["params"]),
        jax.tree.leaves(after.variables["params"]),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_samples_must_spread_evenly():
    with pytest.raises(ValueError, match="6 samples do not spread over 4 devices"):
        parallel.data_parallel(lambda state, stream, indices: None, samples=6)


def test_replicate_keeps_values():
    tree = {"a": jnp.arange(3.0), "b": jnp.int32(2)}
    copies = parallel.replicate(tree)
    jax.tree.map(np.testing.assert_array_equal, copies, tree)
    assert len(copies["a"].sharding.device_set) == 4
