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

# A run is at least as long as this.
_RUN_SECONDS = 0.3


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
    """Return how long a call of each function takes, the shortest of several runs.

    The functions take turns, so that a change of the machine's speed affects all of
    them. A run calls its function again and again for 0.3 s, as a training does: the
    first call after another function is slower, since memory and threads are not
    ready yet.

    Args:
        functions: without arguments; each is called once before, to compile.
        repeats: timed runs of each.

    Returns:
        Seconds a call, one number for each function.
    """
    for function in functions:
        jax.block_until_ready(function())
    best = [math.inf] * len(functions)
    for _ in range(repeats):
        for index, function in enumerate(functions):
            best[index] = min(best[index], _mean_seconds(function))
    return best


def _mean_seconds(function: Callable) -> float:
    """Return the mean time of the calls that begin within a run."""
    began = time.perf_counter()
    calls, passed = 0, 0.0
    while passed < _RUN_SECONDS:
        jax.block_until_ready(function())
        calls += 1
        passed = time.perf_counter() - began
    return passed / calls


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of ratios.

    Args:
        values: positive.

    Returns:
        A number.
    """
    return math.exp(sum(map(math.log, values)) / len(values))
