"""Losses as sums and counts, so that parts of a batch can be added."""

import jax.numpy as jnp


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
    # A safe root: the derivative at zero must not be infinite.
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
