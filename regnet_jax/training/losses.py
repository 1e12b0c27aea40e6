"""Losses as sums and counts, so that micro-batches can be added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import optax

from regnet_jax.evaluation import endpoint_error
from regnet_jax.geometry import jacobian_determinant
from regnet_jax.models.corrnet import LOG_WIDTHS
from regnet_jax.training.config import LossConfig

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float

# Weight of the auxiliary heads (deep supervision).
_HEAD_WEIGHT = 0.3
# Jacobian determinants below this are penalised.
_LEAST_JACOBIAN = 0.2
# Added to errors, in voxels, so that none has a logarithm of -inf.
_LEAST_ERROR = 0.02
# Weight of the estimated errors. Adam does not depend on it, but the norm by which
# gradients are clipped does, and the layers of the prediction should not.
_ERROR_WEIGHT = 0.01
_DEFAULT = LossConfig()


def make_loss(config: LossConfig = _DEFAULT, *, stride: int = 1) -> Callable:
    """Build the loss of a batch.

    Args:
        config: weights of its terms.
        stride: voxels between targets.

    Returns:
        ``loss(prediction, heads, target, weight) -> (sum, weight_sum)``: the weighted
        sum over positions, and the sum of the weights. ``prediction``, ``target`` and
        each of the auxiliary ``heads`` are ``[batch, *targets, d]`` in voxels; the
        heads have the same target at a lower weight. ``weight`` is
        ``[batch, *targets, 1]``; 0 leaves a position out.
    """
    regularity = (
        (config.bending_weight, bending_energy),
        (config.folding_weight, folding_penalty),
    )

    def loss(prediction, heads, target, weight):
        total, count = huber_loss(prediction, target, weight, delta=config.huber_delta)
        for head in heads:
            auxiliary, _ = huber_loss(head, target, weight, delta=config.huber_delta)
            total += _HEAD_WEIGHT * auxiliary
        if config.endpoint_weight:
            length = endpoint_error(prediction, target)[..., None]
            total += config.endpoint_weight * jnp.sum(weight * length)
        for factor, energy in regularity:
            if factor:
                each = jax.vmap(lambda u, e=energy: e(u, spacing=stride))
                total += factor * jnp.sum(weight * each(prediction))
        return total, count

    return loss


def huber_loss(
    prediction: Float[Array, "*shape d"],
    target: Float[Array, "*shape d"],
    weight: Float[Array, "*shape 1"],
    *,
    delta: float = 1.0,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Compute the Huber loss of displacement fields, the loss of RegNet 2017.

    Args:
        prediction: ``[..., d]``, voxels.
        target: ``[..., d]``, voxels.
        weight: ``[..., 1]``, 0 leaves a position out.
        delta: error in voxels at which the loss turns from square to linear.

    Returns:
        The weighted sum over positions of the mean over components, and the sum of
        the weights.
    """
    loss = optax.huber_loss(prediction, target, delta=delta)
    return jnp.sum(weight * jnp.mean(loss, axis=-1, keepdims=True)), jnp.sum(weight)


def error_loss(
    estimate: Float[Array, "*shape 2"],
    error: Float[Array, "*shape 1"],
    weight: Float[Array, "*shape 1"],
) -> Float[Array, ""]:
    """Compute how improbable errors are under their estimated distribution.

    Args:
        estimate: ``[..., 2]``, mean and logarithm of the standard deviation of the
            logarithm of the error in voxels, which is taken as normal.
        error: ``[..., 1]``, length of the error, voxels; no gradient goes through it.
        weight: ``[..., 1]``, 0 leaves a position out.

    Returns:
        The weighted sum over positions of the negative logarithm of the likelihood,
        times a small weight.
    """
    logarithm = jnp.log(jax.lax.stop_gradient(error) + _LEAST_ERROR)
    mean, width = jnp.split(estimate, 2, axis=-1)
    width = jnp.clip(width, *LOG_WIDTHS)
    improbable = 0.5 * ((logarithm - mean) / jnp.exp(width)) ** 2 + width
    return _ERROR_WEIGHT * jnp.sum(weight * improbable)


def bending_energy(
    displacement: Float[Array, "*lattice d"], *, spacing: float = 1.0
) -> Float[Array, "*lattice 1"]:
    """Compute the bending energy: squared second derivatives, by finite differences.

    Args:
        displacement: ``[*lattice, d]``, voxels, at least three points on each axis.
        spacing: of the lattice, voxels.

    Returns:
        ``[*lattice, 1]``, per voxel squared; a border point has its neighbour's value.
    """
    dimensions = displacement.ndim - 1
    inside = (slice(1, -1),) * dimensions

    def shifted(*steps):
        cut = [slice(1, -1)] * dimensions
        for axis, step in steps:
            cut[axis] = slice(1 + step, displacement.shape[axis] - 1 + step)
        return displacement[tuple(cut)]

    energy = 0.0
    for i in range(dimensions):
        second = shifted((i, 1)) - 2.0 * displacement[inside] + shifted((i, -1))
        energy += jnp.sum(second**2, axis=-1, keepdims=True)
        for j in range(i):
            mixed = sum(
                a * b * shifted((i, a), (j, b)) for a in (1, -1) for b in (1, -1)
            )
            # Counted twice, as the derivatives commute.
            energy += 2.0 * jnp.sum((0.25 * mixed) ** 2, axis=-1, keepdims=True)
    pads = [(1, 1)] * dimensions + [(0, 0)]
    return jnp.pad(energy / spacing**4, pads, mode="edge")


def folding_penalty(
    displacement: Float[Array, "*lattice d"], *, spacing: float = 1.0
) -> Float[Array, "*lattice 1"]:
    """Compute the squared shortfall of the Jacobian determinant below a threshold.

    Args:
        displacement: ``[*lattice, d]``, voxels, at least two points on each axis.
        spacing: of the lattice, voxels.

    Returns:
        ``[*lattice, 1]``.
    """
    determinant = jacobian_determinant(displacement / spacing)
    return jnp.maximum(_LEAST_JACOBIAN - determinant, 0.0)[..., None] ** 2


def balance_weights(
    weight: Float[Array, "*targets 1"],
    displacement: Float[Array, "*targets d"],
    *,
    edges: Sequence[float],
) -> Float[Array, "*targets 1"]:
    """Weight positions so that all classes of displacement in a patch count equally.

    Args:
        weight: ``[*targets, 1]``.
        displacement: ``[*targets, d]``, voxels.
        edges: between the classes, increasing lengths in voxels.

    Returns:
        ``[*targets, 1]`` with the same sum, which the classes that occur share equally.
    """
    length = jnp.linalg.norm(displacement, axis=-1)
    classes = jnp.searchsorted(jnp.asarray(edges), length)
    member = jax.nn.one_hot(classes, len(edges) + 1)
    sums = jnp.sum(weight * member, axis=range(weight.ndim - 1))
    present = sums > 0
    scale = jnp.where(present, jnp.sum(weight) / jnp.where(present, sums, 1.0), 0.0)
    factor = (member @ scale)[..., None] / jnp.maximum(jnp.sum(present), 1)
    return weight * factor
