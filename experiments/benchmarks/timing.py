"""Timing of functions and of training steps, and the mean of ratios."""

import math
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np

from regnet_jax.training import parallel
from regnet_jax.training.config import ExperimentConfig
from regnet_jax.training.loop import build_program
from regnet_jax.training.state import init_state


def start_steps(config: ExperimentConfig) -> Callable:
    """Return a function that takes training steps from random weights.

    Args:
        config: of the training.

    Returns:
        ``advance(end, scans=())``, which runs ``steps_per_call`` steps and waits for
        them; from step ``end`` on pairs are sampled but not learned from.
    """
    weights, stream = jax.random.split(jax.random.key(config.seed))
    program = build_program(config)
    state = init_state(weights, program.model, program.optimizer, config)
    state = parallel.replicate(state)

    def advance(end: int, scans=()) -> None:
        nonlocal state
        state, _ = program.steps(state, stream, scans, np.int32(end))
        jax.block_until_ready(state)

    return advance


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
