"""Results that are computed once, whatever reads them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def written(key, draw: Callable):
    """``draw()`` as a program of its own, whose result is written to memory.

    On CPUs XLA pulls what makes an array into the gathers that read it, past
    barriers too, and repeats it for every voxel and corner that they read. It does
    not know that the condition here always holds. Under ``vmap`` it is of no use.

    Args:
        key: random key; the result does not depend on it beyond what ``draw`` does.
        draw: without arguments.

    Returns:
        What ``draw`` returns.
    """
    empty = jax.tree.map(jnp.zeros_like, jax.eval_shape(draw))
    sure = jax.random.uniform(jax.random.fold_in(key, 2017)) < 2.0
    return jax.lax.cond(sure, draw, lambda: empty)
