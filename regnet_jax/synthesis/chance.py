"""Draws that are made by chance."""

from collections.abc import Callable

import jax


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
