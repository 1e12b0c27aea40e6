"""Losses as sums and counts, so that parts of a batch can be added."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from regnet_jax.geometry import jacobian_determinant

# Weight in the loss of what a network says before its last word.
_HEAD = 0.3
# Determinants of the Jacobian fall short below this.
_LEAST_JACOBIAN = 0.2


@dataclasses.dataclass(frozen=True)
class Loss:
    """What a network is to minimise: a sum of these parts.

    Attributes:
        huber_delta: error in voxels from which the Huber loss grows linearly.
        endpoint: weight of the length of the error.
        bending: weight of the bending energy of the prediction.
        folding: weight of the squared shortfall of its Jacobian determinant.
        stride: voxels between targets.
    """

    huber_delta: float = 1.0
    endpoint: float = 0.0
    bending: float = 0.0
    folding: float = 0.0
    stride: int = 1

    def __call__(self, prediction, heads, target, weight):
        """The loss of a batch.

        Args:
            prediction: ``[batch, *targets, d]``, voxels.
            heads: earlier answers of the network, of the same shape, which are held
                to the same target, at a lower weight.
            target: ``[batch, *targets, d]``, voxels.
            weight: ``[batch, *targets, 1]``, 0 leaves a position out.

        Returns:
            The weighted sum over positions, and the sum of the weights.
        """
        total, count = huber(prediction, target, weight, delta=self.huber_delta)
        for head in heads:
            total += _HEAD * huber(head, target, weight, delta=self.huber_delta)[0]
        if self.endpoint:
            length = endpoint_error(prediction, target)
            total += self.endpoint * jnp.sum(weight * length)
        for share, energy in ((self.bending, bending), (self.folding, folding)):
            if share:
                each = jax.vmap(lambda u, e=energy: e(u, spacing=self.stride))
                total += share * jnp.sum(weight * each(prediction))
        return total, count


def huber(prediction, target, weight, *, delta: float = 1.0):
    """Huber loss of displacement fields, the loss of RegNet 2017.

    Args:
        prediction: ``[..., d]``, voxels.
        target: ``[..., d]``, voxels.
        weight: ``[..., 1]``, 0 leaves a position out.
        delta: error in voxels at which the loss turns from square to linear.

    Returns:
        The weighted sum over positions of the mean over components, and the sum of
        the weights.
    """
    error = jnp.abs(prediction - target)
    square = jnp.minimum(error, delta)
    loss = 0.5 * square**2 + delta * (error - square)
    return jnp.sum(weight * jnp.mean(loss, axis=-1, keepdims=True)), jnp.sum(weight)


def endpoint_error(prediction, target):
    """Length of the difference of two displacement fields.

    Args:
        prediction: ``[..., d]``, voxels.
        target: ``[..., d]``, voxels.

    Returns:
        ``[..., 1]``, voxels.
    """
    square = jnp.sum((prediction - target) ** 2, axis=-1, keepdims=True)
    # A safe root: the derivative at zero must not be infinite, and NaN stays NaN.
    same = square == 0
    return jnp.where(same, 0.0, jnp.sqrt(jnp.where(same, 1.0, square)))


def bending(displacement, *, spacing: float = 1.0):
    """Bending energy: the squares of all second derivatives, by differences.

    Args:
        displacement: ``[*lattice, d]``, voxels, at least three points on each axis.
        spacing: of the lattice, voxels.

    Returns:
        ``[*lattice, 1]``, per voxel squared; at the border that of the next point.
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
            # Twice, for both orders of the derivatives.
            energy += 2.0 * jnp.sum((0.25 * mixed) ** 2, axis=-1, keepdims=True)
    pads = [(1, 1)] * dimensions + [(0, 0)]
    return jnp.pad(energy / spacing**4, pads, mode="edge")


def folding(displacement, *, spacing: float = 1.0):
    """How far the Jacobian determinant falls short of a small one, squared.

    Args:
        displacement: ``[*lattice, d]``, voxels, at least two points on each axis.
        spacing: of the lattice, voxels.

    Returns:
        ``[*lattice, 1]``.
    """
    determinant = jacobian_determinant(displacement / spacing)
    return jnp.maximum(_LEAST_JACOBIAN - determinant, 0.0)[..., None] ** 2


def balance(weight, displacement, *, edges: Sequence[float]):
    """Weights under which small and large displacements of a window count alike.

    Args:
        weight: ``[*targets, 1]``.
        displacement: ``[*targets, d]``, voxels.
        edges: between the classes, increasing lengths in voxels.

    Returns:
        ``[*targets, 1]`` of the same sum; classes that are absent leave their part
        to the others.
    """
    length = jnp.linalg.norm(displacement, axis=-1)
    classes = jnp.searchsorted(jnp.asarray(edges), length)
    member = jax.nn.one_hot(classes, len(edges) + 1)
    sums = jnp.sum(weight * member, axis=range(weight.ndim - 1))
    present = sums > 0
    parts = jnp.where(present, jnp.sum(weight) / jnp.where(present, sums, 1.0), 0.0)
    factor = (member @ parts)[..., None] / jnp.maximum(jnp.sum(present), 1)
    return weight * factor
