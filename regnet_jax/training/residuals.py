"""Learning from what a network leaves: the pairs that its later passes will see.

In use, a network passes over a pair several times, and all passes but the first see a
moving image that its own answer has warped. What is left then looks unlike any family
of fields, so training makes such pairs too.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from regnet_jax.geometry import downsample, upsample_field, warp
from regnet_jax.synthesis.windows import Pairs

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
