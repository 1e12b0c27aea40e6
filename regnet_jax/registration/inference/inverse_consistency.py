"""The symmetric field of both directions, which is inverted if the images are swapped.

Let ``F`` map fixed to moving points and ``B`` map them back. The result is ``F o S``
with ``S o S = (B o F)^-1``, which lies halfway between ``F`` and the inverse of ``B``
under composition; with the images swapped the result is its inverse. Where the
directions agree, ``S`` is the identity.
"""

import jax
import jax.numpy as jnp

from regnet_jax.geometry import compose, invert
from regnet_jax.geometry.fields import exceeds

# Voxels. What remains is smaller than the errors of the directions by far.
_TOLERANCE = 0.01
# Most steps of the inverse and of the root. Where directions agree to a voxel or two,
# 10 are enough.
_STEPS = 60


def square_root(displacement):
    """Return the field that, composed with itself, is ``displacement``.

    Steps of the residual, the first of them half as long. A step that does not reduce
    the sum of squares is taken back and tried at half its length.

    Args:
        displacement: ``[*spatial, d]``, voxels.

    Returns:
        ``[*spatial, d]``, voxels.
    """

    def left(root):
        return compose(root, root) - displacement

    def is_unfinished(state):
        number, _, residual, _ = state
        return (number < _STEPS) & exceeds(residual, _TOLERANCE)

    def step(state):
        number, root, residual, length = state
        trial = root - length * residual
        tried = left(trial)
        better = jnp.sum(tried**2) < jnp.sum(residual**2)
        root, residual = (
            jnp.where(better, new, old)
            for new, old in ((trial, root), (tried, residual))
        )
        length = jnp.where(better, jnp.minimum(1.2 * length, 0.5), 0.5 * length)
        return number + 1, root, residual, length

    root = displacement / 2
    start = (0, root, left(root), jnp.float32(0.5))
    return jax.lax.while_loop(is_unfinished, step, start)[1]


@jax.jit
def symmetric(forward, backward):
    """Return the field halfway between two directions, and their disagreement.

    Args:
        forward: ``[*spatial, d]``, voxels, fixed to moving.
        backward: of the same shape, moving to fixed.

    Returns:
        The field from fixed to moving, and the distance by which each voxel misses its
        position after both directions, ``[*spatial]``, voxels.
    """
    cycle = compose(forward, backward)
    back = invert(cycle, iterations=_STEPS, tolerance=_TOLERANCE)
    field = compose(square_root(back), forward)
    return field, jnp.linalg.norm(cycle, axis=-1)
