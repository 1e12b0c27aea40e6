"""Pure training steps: sample a batch, compute the loss, update the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import optax

from regnet_jax.evaluation import endpoint_error
from regnet_jax.geometry import downsample, upsample_field, warp
from regnet_jax.hounsfield import scale_hounsfield
from regnet_jax.synthesis.patches import PatchBatch
from regnet_jax.training.losses import balance_weights, error_loss, make_loss
from regnet_jax.training.state import TrainState, update_average

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float, Int

# The simulated earlier pass has the same voxel size, or this multiple of it.
_COARSE = 2
# Each fixed-point step reduces the error by the Lipschitz constant of the prediction.
_ITERATIONS = 4
# Folded into the stream before the step; no step has this number.
_RESIDUAL_STREAM = np.uint32(0x8000C014)
# Folded into the key of the first sample of a group.
_GROUP_STREAM = 0x6209
_HUBER = make_loss()
_SUMS = ("loss", "error", "zero_error", "weight")
# The quantities that must be finite in a step, in the order of their computation.
QUANTITIES = (
    "loss",
    "gradient",
    "batch statistics",
    "state of the optimizer",
    "weights",
    "average of the weights",
)


def residual_field(
    displacement: Float[Array, "*spatial d"], prediction: Float[Array, "*spatial d"]
) -> Float[Array, "*spatial d"]:
    """Return the residual field of a prediction.

    Args:
        displacement: ``[*spatial, d]``, voxels, the truth.
        prediction: ``[*spatial, d]``, voxels.

    Returns:
        ``[*spatial, d]``; ``compose(residual, prediction)`` approximates the
        displacement.
    """

    def step(_, residual):
        return displacement - warp(prediction, residual)

    return jax.lax.fori_loop(0, _ITERATIONS, step, displacement - prediction)


def _predict_coarse(predict_field: Callable, fixed, moving):
    """Predict at a larger voxel size, as the first pass of a registration does."""
    shape = fixed.shape[1:-1]
    images = (jax.vmap(lambda i: downsample(i, _COARSE))(x) for x in (fixed, moving))
    field = predict_field(*images)
    return jax.vmap(lambda u: upsample_field(u, _COARSE, shape))(field)


def replace_by_residuals(
    key: Array, predict_field: Callable, batch: PatchBatch, probability: float
) -> PatchBatch:
    """Replace a batch, with some probability, by the residuals of an earlier pass.

    Args:
        key: random key of the step.
        predict_field: ``predict_field(fixed, moving) -> displacement`` of the
            network, with batch axis, HU and voxels; no gradient goes through it.
        batch: patches with a target at every voxel.
        probability: of the replacement; with probability 1/2 the earlier pass is a
            coarse one.

    Returns:
        Patches with the same fixed images; if replaced, with warped moving images and
        the residual displacement.
    """

    def residuals(predict_field):
        field = jax.lax.stop_gradient(predict_field(batch.fixed, batch.moving))
        moving = jax.vmap(warp)(batch.moving, field)
        residual = jax.vmap(residual_field)(batch.displacement, field)
        return batch._replace(moving=moving, displacement=residual)

    coin, which = jax.random.uniform(key, (2,))
    branch = jnp.where(coin < probability, jnp.where(which < 0.5, 1, 2), 0)
    return jax.lax.switch(
        branch,
        [
            lambda: batch,
            lambda: residuals(predict_field),
            lambda: residuals(lambda *pair: _predict_coarse(predict_field, *pair)),
        ],
    )


def sample_batch(
    generate: Callable,
    stream: Array,
    step: int | Array,
    indices: Int[Array, " n"],
    *,
    at_once: int = 1,
) -> PatchBatch:
    """Sample the patches of a step, for given indices in its batch.

    Args:
        generate: ``generate(key) -> PatchBatch`` of one sample; for groups also with
            a keyword ``group``, as in ``synthesis.generator.make_generator``.
        stream: random key of the run.
        step: number of the step.
        indices: ``[n]``, global indices of the samples in the batch; a multiple of
            ``at_once``.
        at_once: samples that are computed at a time, as a group with one family and
            scale. One saves memory and keeps a CPU busy; an accelerator needs more.

    Returns:
        A ``PatchBatch`` with one batch axis over samples and patches. A sample does not
        depend on the number of devices.
    """
    step_key = jax.random.fold_in(stream, step)
    keys = jax.vmap(lambda index: jax.random.fold_in(step_key, index))(indices)
    if at_once == 1:
        patches, axes = jax.lax.map(generate, keys), 2
    else:

        def sample_group(keys):
            group = jax.random.fold_in(keys[0], _GROUP_STREAM)
            return jax.vmap(lambda key: generate(key, group=group))(keys)

        patches, axes = jax.lax.map(sample_group, keys.reshape(-1, at_once)), 3
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[axes:]), patches)


def predict(model, variables, batch: PatchBatch, **options):
    """Apply a model to patches in Hounsfield units.

    Args:
        model: Flax module called with (fixed, moving).
        variables: its variables.
        batch: the patches.
        **options: passed to ``model.apply``.

    Returns:
        The result of ``model.apply``.
    """
    fixed, moving = scale_hounsfield(batch.fixed), scale_hounsfield(batch.moving)
    return model.apply(variables, fixed, moving, **options)


def make_batch_sampler(
    model,
    generate: Callable,
    *,
    residual_probability: float = 0.0,
    at_once: int = 1,
) -> Callable:
    """Build the first half of a step, which samples the batch.

    Args:
        model: Flax module called with (fixed, moving).
        generate: ``generate(key, scans) -> PatchBatch`` of one sample; for groups as
            in ``sample_batch``.
        residual_probability: probability that a step trains on the residuals of the
            network's own prediction.
        at_once: as in ``sample_batch``.

    Returns:
        ``sample(state, stream, indices, scans=()) -> PatchBatch``.
    """

    def sample(state: TrainState, stream, indices, scans=()) -> PatchBatch:
        batch = sample_batch(
            lambda key, **group: generate(key, scans, **group),
            stream,
            state.step,
            indices,
            at_once=at_once,
        )
        if not residual_probability:
            return batch

        def predict_field(fixed, moving):
            images = batch._replace(fixed=fixed, moving=moving)
            return predict(model, state.variables, images, train=False)

        key = jax.random.fold_in(stream, _RESIDUAL_STREAM)
        key = jax.random.fold_in(key, state.step)
        return replace_by_residuals(key, predict_field, batch, residual_probability)

    return sample


def make_update(
    model,
    optimizer,
    reduce: Callable,
    *,
    loss: Callable = _HUBER,
    balance_edges: Sequence[float] = (),
    microbatches: int = 1,
    ema_decay: float = 0.0,
) -> Callable:
    """Build the second half of a step, which updates the weights.

    Args:
        model: Flax module with ``params`` and optionally ``batch_stats``.
        optimizer: optax transformation.
        reduce: adds a pytree over devices; the identity on a single one.
        loss: as from ``losses.make_loss``.
        balance_edges: edges between classes of displacement with equal weight, see
            ``losses.balance_weights``; none to keep the weights of the batch.
        microbatches: number of micro-batches; gradients are accumulated over them, to
            save memory.
        ema_decay: decay of the EMA of the weights; 0 keeps no average.

    Returns:
        ``update(state, batch) -> (state, metrics)``. The metrics are sums over the
        batch of all devices (``loss``, ``error`` and ``zero_error`` in voxels,
        ``weight``), and ``fault``: 0, or the number, from 1, of the first of
        ``QUANTITIES`` that is not finite; the state is then returned unchanged.
    """
    gradient = jax.value_and_grad(_make_total(model, loss), has_aux=True)

    def accumulate(others_and_sums, batch):
        others, params, sums = others_and_sums
        (_, (others, metrics)), gradients = gradient(params, others, batch)
        return (others, params, jax.tree.map(jnp.add, sums, (gradients, metrics))), None

    def update(state: TrainState, batch: PatchBatch):
        if balance_edges:
            weigh = jax.vmap(lambda w, u: balance_weights(w, u, edges=balance_edges))
            batch = batch._replace(weight=weigh(batch.weight, batch.displacement))
        others = dict(state.variables)
        params = others.pop("params")
        zeros = (
            jax.tree.map(jnp.zeros_like, params),
            dict.fromkeys(_SUMS, jnp.zeros(())),
        )
        split = jax.tree.map(lambda a: a.reshape(microbatches, -1, *a.shape[1:]), batch)
        (others, _, sums), _ = jax.lax.scan(accumulate, (others, params, zeros), split)
        gradients, metrics = reduce(sums)
        # A batch without targets must not make the weights NaN.
        mean = 1.0 / jnp.maximum(metrics["weight"], 1.0)
        gradients = jax.tree.map(lambda g: g * mean, gradients)
        changes, optimizer_state = optimizer.update(gradients, state.optimizer, params)
        params = optax.apply_updates(params, changes)
        new = TrainState(
            state.step + 1,
            {**others, "params": params},
            optimizer_state,
            update_average(state.average, params, state.step, decay=ema_decay),
        )
        computed = (metrics["loss"], gradients, others, optimizer_state, params)
        fault = _first_fault(reduce, *computed, new.average)
        # Values that are not finite never enter the state.
        new = jax.tree.map(lambda n, old: jnp.where(fault == 0, n, old), new, state)
        return new, {**metrics, "fault": fault}

    return update


def _first_fault(reduce: Callable, *quantities):
    """Return the number, from 1, of the first tree that is not finite, or 0.

    All devices return the same number, even if only one of them finds a fault.
    """
    faults = [
        sum(jnp.sum(~jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree))
        for tree in quantities
    ]
    found = reduce(jnp.stack([jnp.asarray(n > 0, jnp.int32) for n in faults])) > 0
    return jnp.where(jnp.any(found), 1 + jnp.argmax(found), 0).astype(jnp.int32)


def _make_total(model, loss: Callable) -> Callable:
    """Build the loss of a micro-batch as a function of the parameters."""

    def total(params, others, batch: PatchBatch):
        prediction, others = predict(
            model,
            {**others, "params": params},
            batch,
            train=True,
            mutable=["batch_stats", "heads", "errors"],
        )
        heads, errors = (
            jax.tree.leaves(others.pop(name, {})) for name in ("heads", "errors")
        )
        value, weight = loss(prediction, heads, batch.displacement, batch.weight)
        error = endpoint_error(prediction, batch.displacement)[..., None]
        for estimate in errors:
            value += error_loss(estimate, jnp.asarray(error), batch.weight)
        zero_error = endpoint_error(0.0 * prediction, batch.displacement)[..., None]
        metrics = {
            "loss": value,
            "error": jnp.sum(batch.weight * error),
            "zero_error": jnp.sum(batch.weight * zero_error),
            "weight": weight,
        }
        return value, (others, metrics)

    return total


def make_train_steps(
    sample: Callable, update: Callable, reduce: Callable, *, count: int
) -> Callable:
    """Build the function to compile, which runs several steps per call.

    Args:
        sample: from ``make_batch_sampler``.
        update: from ``make_update``.
        reduce: adds a pytree over devices; the identity on a single one.
        count: largest number of steps per call.

    Returns:
        ``steps(state, indices, stream, scans, end) -> (state, metrics)``. From step
        ``end`` on, and after a step with a fault (see ``make_update``), batches are
        sampled but not learned from: the state stays unchanged and metrics are zero.
        So one program serves any number of steps, including zero, which measures the
        cost of sampling. Metrics have a leading axis of ``count``.
    """

    def steps(state: TrainState, indices, stream, scans, end):
        nothing = dict.fromkeys(_SUMS, jnp.zeros(())) | {"fault": jnp.int32(0)}

        def step(carried, _):
            state, sound = carried
            batch = sample(state, stream, indices, scans)
            state, metrics = jax.lax.cond(
                (state.step < end) & sound,
                lambda: update(state, batch),
                lambda: (state, nothing),
            )
            # Use the batch, or the compiler eliminates the sampling that is timed.
            targets = reduce(jnp.sum(batch.weight))
            sound &= metrics["fault"] == 0
            return (state, sound), {**metrics, "sampled_weight": targets}

        (state, _), metrics = jax.lax.scan(step, (state, jnp.bool_(True)), length=count)
        return state, metrics

    return steps
