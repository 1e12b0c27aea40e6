"""The symmetric field of both directions, which is inverted if the images are swapped.

Let ``F`` map fixed to moving points and ``B`` map them back. The result is ``F o S``
with ``S o S = (B o F)^-1``, which lies halfway between ``F`` and the inverse of ``B``
under composition; with the images swapped the result is its inverse. Where the
directions agree, ``S`` is the identity.
"""

import jax
import jax.numpy as jnp

from regnet_jax.geometry import compose, invert

# `B o F` moves points by a voxel or two, smoothly: each step of the square root halves
# the error.
_STEPS = 12


def square_root(displacement):
    """Return the field that, composed with itself, is ``displacement``.

    Args:
        displacement: ``[*spatial, d]``, voxels.

    Returns:
        ``[*spatial, d]``, voxels.
    """

    def step(_, root):
        return root + (displacement - compose(root, root)) / 2

    return jax.lax.fori_loop(0, _STEPS, step, displacement / 2)


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
    field = compose(square_root(invert(cycle)), forward)
    return field, jnp.linalg.norm(cycle, axis=-1)
