"""Draws that are made by chance."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def by_chance(key, chance: float, draw: Callable, otherwise: Callable):
    """``draw(key)``, or by chance what comes otherwise; only one of them is run.

    Args:
        key: random key.
        chance: static, in [0, 1]; at 0 nothing is drawn, nor compiled.
        draw: ``draw(key)``.
        otherwise: without arguments, gives arrays of the same shapes.

    Returns:
        What the one that is run returns.
    """
    if not chance:
        return otherwise()
    coin_key, draw_key = jax.random.split(key)
    return jax.lax.cond(
        jax.random.bernoulli(coin_key, chance), lambda: draw(draw_key), otherwise
    )


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
