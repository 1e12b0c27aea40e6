"""Timing of several functions in turn, and the mean of ratios."""

import math
import time
from collections.abc import Callable, Sequence

import jax


def seconds(functions: Sequence[Callable], *, repeats: int = 5) -> list[float]:
    """Return the shortest of several runs of each function, in seconds.

    They take turns, so that a change of the machine's speed affects all of them.

    Args:
        functions: without arguments; each is run once before, to compile.
        repeats: timed runs of each.

    Returns:
        One number for each function.
    """
    for function in functions:
        jax.block_until_ready(function())
    best = [math.inf] * len(functions)
    for _ in range(repeats):
        for index, function in enumerate(functions):
            began = time.perf_counter()
            jax.block_until_ready(function())
            best[index] = min(best[index], time.perf_counter() - began)
    return best


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of ratios.

    Args:
        values: positive.

    Returns:
        A number.
    """
    return math.exp(sum(map(math.log, values)) / len(values))
