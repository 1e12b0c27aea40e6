"""One field from both directions, so that swapping the images inverts it.

With ``F`` from fixed to moving and ``B`` back, the map ``F o S`` with
``S o S = (B o F)^-1`` lies half way between ``F`` and the inverse of ``B``, by
composition: with the images swapped, ``B o S'`` is its inverse. Where the directions
agree ``S`` is the identity.
"""

import jax
import jax.numpy as jnp

from regnet_jax.geometry import compose, invert

# The cycle is a voxel or two long and smooth: each step of the root halves its error.
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
    """Return the field half way between two directions, and their disagreement.

    Args:
        forward: ``[*spatial, d]``, voxels, fixed to moving.
        backward: of the same shape, moving to fixed.

    Returns:
        The field from fixed to moving, and the distance of each voxel from its place
        after going there and back, ``[*spatial]``, voxels.
    """
    cycle = compose(forward, backward)
    field = compose(square_root(invert(cycle)), forward)
    return field, jnp.linalg.norm(cycle, axis=-1)
