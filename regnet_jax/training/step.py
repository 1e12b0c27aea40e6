"""The pure training steps: generate, predict, compare, update, several at a time."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from regnet_jax.geometry import downsample, upsample_field, warp
from regnet_jax.hounsfield import scale_hounsfield
from regnet_jax.synthesis.patches import Pairs
from regnet_jax.training.losses import Loss, balance, endpoint_error
from regnet_jax.training.state import TrainState, follow

# The earlier pass ran at the same voxel size, or at one this many times as wide.
_COARSE = 2
# Each fixed-point step gains the Lipschitz constant of the earlier answer.
_ITERATIONS = 4


def left_by(displacement, answer):
    """The field that remains after an answer was taken: composed, they are the truth.

    Args:
        displacement: ``[*spatial, d]``, voxels, the truth.
        answer: ``[*spatial, d]``, voxels.

    Returns:
        ``[*spatial, d]`` with ``compose(result, answer)`` near the displacement.
    """

    def step(_, remainder):
        return displacement - warp(answer, remainder)

    return jax.lax.fori_loop(0, _ITERATIONS, step, displacement - answer)


def _coarse_answer(answer: Callable, fixed, moving):
    shape = fixed.shape[1:-1]
    images = (jax.vmap(lambda i: downsample(i, _COARSE))(x) for x in (fixed, moving))
    return jax.vmap(lambda u: upsample_field(u, _COARSE, shape))(answer(*images))


def leave_residuals(key, answer: Callable, batch: Pairs, chance: float) -> Pairs:
    """By chance, replaces the pairs of a step by what an earlier pass leaves of them.

    Args:
        key: random key of the step.
        answer: ``answer(fixed, moving) -> displacement`` of the network, with batch
            axis, HU and voxels; no gradient goes through it.
        batch: pairs with a target at every voxel.
        chance: of the replacement; half the time the earlier pass is a coarse one.

    Returns:
        Pairs of the same fixed images.
    """

    def replaced(answer):
        field = jax.lax.stop_gradient(answer(batch.fixed, batch.moving))
        moving = jax.vmap(warp)(batch.moving, field)
        remainder = jax.vmap(left_by)(batch.displacement, field)
        return batch._replace(moving=moving, displacement=remainder)

    coin, which = jax.random.uniform(key, (2,))
    branch = jnp.where(coin < chance, jnp.where(which < 0.5, 1, 2), 0)
    return jax.lax.switch(
        branch,
        [
            lambda: batch,
            lambda: replaced(answer),
            lambda: replaced(lambda *pair: _coarse_answer(answer, *pair)),
        ],
    )


# Folded into the stream before the step: no sample's key is made so.
_COIN = 0xC014
_HUBER = Loss()
_SUMS = ("loss", "error", "zero_error", "weight")
# What a step must leave finite, in the order in which it computes them.
QUANTITIES = (
    *("loss", "gradient", "batch statistics"),
    *("state of the optimizer", "weights", "average of the weights"),
)


def draw_batch(generate: Callable, stream, step, indices) -> Pairs:
    """The windows of some samples of a step.

    Args:
        generate: ``generate(key) -> Pairs`` of one sample.
        stream: random key of the run.
        step: number of the step.
        indices: ``[n]``, global numbers of the samples in the step.

    Returns:
        ``Pairs`` with one batch axis over samples and windows. It depends on the
        arguments alone, not on how samples are spread over devices.
    """
    step_key = jax.random.fold_in(stream, step)
    keys = jax.vmap(lambda index: jax.random.fold_in(step_key, index))(indices)
    # One after the other: a single volume fills any device, and memory stays low.
    pairs = jax.lax.map(generate, keys)
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), pairs)


def predict(model, variables, batch: Pairs, **options):
    """Applies a model to windows in Hounsfield units.

    Args:
        model: Flax module called with (fixed, moving).
        variables: its variables.
        batch: the windows.
        **options: passed to ``model.apply``.

    Returns:
        What ``model.apply`` returns.
    """
    fixed, moving = scale_hounsfield(batch.fixed), scale_hounsfield(batch.moving)
    return model.apply(variables, fixed, moving, **options)


def make_draw(model, generate: Callable, *, residuals: float = 0.0) -> Callable:
    """Builds the first half of a step.

    Args:
        model: Flax module called with (fixed, moving).
        generate: ``generate(key, scans) -> Pairs`` of one sample.
        residuals: chance of a step on what the network's own answer leaves.

    Returns:
        ``draw(state, stream, indices, scans=()) -> Pairs``.
    """

    def draw(state: TrainState, stream, indices, scans=()) -> Pairs:
        batch = draw_batch(
            lambda key: generate(key, scans), stream, state.step, indices
        )
        if not residuals:
            return batch

        def answer(fixed, moving):
            pair = batch._replace(fixed=fixed, moving=moving)
            return predict(model, state.variables, pair, train=False)

        coin = jax.random.fold_in(jax.random.fold_in(stream, _COIN), state.step)
        return leave_residuals(coin, answer, batch, residuals)

    return draw


def make_update(
    model,
    optimizer,
    reduce: Callable,
    *,
    loss: Callable = _HUBER,
    edges: Sequence[float] = (),
    parts: int = 1,
    average: float = 0.0,
) -> Callable:
    """Builds the second half of a step.

    Args:
        model: Flax module with ``params`` and perhaps ``batch_stats``.
        optimizer: optax transformation.
        reduce: adds a pytree over devices; the identity on a single one.
        loss: see ``losses.Loss``.
        edges: of the classes of displacement that count alike, see
            ``losses.balance``; none to take the weights as they are.
        parts: of the batch that pass through the network one after the other, to
            save memory; their gradients are added.
        average: decay of the average of the weights; 0 keeps none.

    Returns:
        ``update(state, batch) -> (state, metrics)``; metrics are sums over the batch
        of all devices (``loss``, ``error`` and ``zero_error`` in voxels, ``weight``),
        and ``fault``: 0, or the number, from 1, of the first of ``QUANTITIES`` that
        is not finite. The state is then the given one.
    """
    gradient = jax.value_and_grad(_make_total(model, loss), has_aux=True)

    def add_part(others_and_sums, batch):
        others, params, sums = others_and_sums
        (_, (others, metrics)), gradients = gradient(params, others, batch)
        return (others, params, jax.tree.map(jnp.add, sums, (gradients, metrics))), None

    def update(state: TrainState, batch: Pairs):
        if edges:
            weigh = jax.vmap(lambda w, u: balance(w, u, edges=edges))
            batch = batch._replace(weight=weigh(batch.weight, batch.displacement))
        others = dict(state.variables)
        params = others.pop("params")
        zeros = (
            jax.tree.map(jnp.zeros_like, params),
            dict.fromkeys(_SUMS, jnp.zeros(())),
        )
        split = jax.tree.map(lambda a: a.reshape(parts, -1, *a.shape[1:]), batch)
        (others, _, sums), _ = jax.lax.scan(add_part, (others, params, zeros), split)
        gradients, metrics = reduce(sums)
        # A batch without a single target must not poison the weights.
        mean = 1.0 / jnp.maximum(metrics["weight"], 1.0)
        gradients = jax.tree.map(lambda g: g * mean, gradients)
        changes, optimizer_state = optimizer.update(gradients, state.optimizer, params)
        params = optax.apply_updates(params, changes)
        new = TrainState(
            state.step + 1,
            {**others, "params": params},
            optimizer_state,
            follow(state.average, params, state.step, decay=average),
        )
        computed = (metrics["loss"], gradients, others, optimizer_state, params)
        fault = _first_fault(reduce, *computed, new.average)
        # What is not finite never enters the state.
        new = jax.tree.map(lambda n, old: jnp.where(fault == 0, n, old), new, state)
        return new, {**metrics, "fault": fault}

    return update


def _first_fault(reduce: Callable, *quantities):
    """Number, from 1, of the first tree with a value that is not finite, or 0.

    Every device gets the same number, also if only one of them finds a fault.
    """
    faults = [
        sum(jnp.sum(~jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree))
        for tree in quantities
    ]
    found = reduce(jnp.stack([jnp.asarray(n > 0, jnp.int32) for n in faults])) > 0
    return jnp.where(jnp.any(found), 1 + jnp.argmax(found), 0).astype(jnp.int32)


def _make_total(model, loss: Callable) -> Callable:
    """The loss of a part of a batch as a function of the parameters."""

    def total(params, others, batch: Pairs):
        prediction, others = predict(
            model,
            {**others, "params": params},
            batch,
            train=True,
            mutable=["batch_stats", "heads"],
        )
        heads = jax.tree.leaves(others.pop("heads", {}))
        value, weight = loss(prediction, heads, batch.displacement, batch.weight)
        error = endpoint_error(prediction, batch.displacement)
        zero_error = endpoint_error(0.0 * prediction, batch.displacement)
        metrics = {
            "loss": value,
            "error": jnp.sum(batch.weight * error),
            "zero_error": jnp.sum(batch.weight * zero_error),
            "weight": weight,
        }
        return value, (others, metrics)

    return total


def make_train_steps(
    draw: Callable, update: Callable, reduce: Callable, *, count: int
) -> Callable:
    """Builds what is compiled: several steps in one go.

    Args:
        draw: from ``make_draw``.
        update: from ``make_update``.
        reduce: adds a pytree over devices; the identity on a single one.
        count: most steps in one go.

    Returns:
        ``steps(state, indices, stream, scans, end) -> (state, metrics)``. From step
        ``end`` on, and after a step with a fault (see ``make_update``), pairs are
        drawn but nothing is learned from them: the state stays as it is and metrics
        are zero. So one program serves any number of steps, and none at all, which
        tells what drawing costs. Metrics have a leading axis of ``count``.
    """

    def steps(state: TrainState, indices, stream, scans, end):
        nothing = dict.fromkeys(_SUMS, jnp.zeros(())) | {"fault": jnp.int32(0)}

        def step(carried, _):
            state, sound = carried
            batch = draw(state, stream, indices, scans)
            state, metrics = jax.lax.cond(
                (state.step < end) & sound,
                lambda: update(state, batch),
                lambda: (state, nothing),
            )
            # Drawing without learning must have a result, or it is left out.
            drawn = reduce(jnp.sum(batch.weight))
            sound &= metrics["fault"] == 0
            return (state, sound), {**metrics, "drawn": drawn}

        (state, _), metrics = jax.lax.scan(step, (state, jnp.bool_(True)), length=count)
        return state, metrics

    return steps
