"""Steps without a pause: devices compute while the host writes and reads ahead."""

import time
from collections.abc import Callable

import jax
import numpy as np

from regnet_jax.training.config import ExperimentConfig
from regnet_jax.training.parallel import local
from regnet_jax.training.step import QUANTITIES
from regnet_jax.training.volumes import Volumes

# How often the drawing of pairs is timed at the beginning of a run.
_REHEARSALS = 3


def make_advance(
    config: ExperimentConfig,
    steps: Callable,
    stream,
    volumes: Volumes | None,
    journal,
    halted: Callable[[], bool],
) -> Callable:
    """Builds what brings a run from one step to another.

    Args:
        config: of the run.
        steps: from ``make_train_steps``, spread over the devices.
        stream: random key of the run.
        volumes: scans, if pairs are made of any.
        journal: where the numbers of each step go.
        halted: from ``halting``.

    Returns:
        ``advance(state, number, goal) -> (state, number, fault)``; stops before the
        goal if it is halted, or if something in the step after ``number`` is not
        finite: ``fault`` then names it, and is empty otherwise.
    """
    rehearsals = iter(range(_REHEARSALS))

    def rehearse(state, number, scans):
        """Times the drawing of the pairs of a step."""
        jax.block_until_ready(state)
        began = time.perf_counter()
        state, sums = steps(state, stream, scans, np.int32(number))
        jax.block_until_ready(sums)
        journal.drawing((time.perf_counter() - began) / config.dispatch)
        return state

    def advance(state, number, goal):
        clock, pending, fault = time.perf_counter(), None, ""
        while number < goal and not fault and not halted():
            scans, change = (), None
            if volumes:
                scans, change = volumes.at(number), volumes.until(number)
            stop = min(goal, number + config.dispatch, change or goal)
            state, sums = steps(state, stream, scans, np.int32(stop))
            if pending:
                fault = _settle(config, journal, pending, clock)
                clock = time.perf_counter()
            pending, number = (number, stop - number, sums), stop
            if not fault and next(rehearsals, None) is not None:
                fault = _settle(config, journal, pending, clock)
                pending = None
                if not fault:
                    state = rehearse(state, number, scans)
                clock = time.perf_counter()
        if pending and not fault:
            fault = _settle(config, journal, pending, clock)
        # From a fault on the state stays as it was, also in steps begun since.
        return state, int(local(state.step)) if fault else number, fault

    return advance


def _settle(config: ExperimentConfig, journal, pending, clock: float) -> str:
    """Waits for the steps that are pending, since the clock, and writes them.

    Returns:
        What is not finite in one of them, the last that is written; or nothing.
    """
    first, count, sums = pending
    sums = {name: np.asarray(values) for name, values in sums.items()}
    seconds = (time.perf_counter() - clock) / count
    for index in range(count):
        of_step = {name: values[index] for name, values in sums.items()}
        means = _means(config, of_step)
        if of_step["fault"]:
            fault = QUANTITIES[int(of_step["fault"]) - 1]
            journal.fault(first + index + 1, means, fault)
            return fault
        journal.step(first + index + 1, means, seconds)
    return ""


def _means(config: ExperimentConfig, sums) -> dict:
    """Divides the sums of a step once, on the host."""
    weight = max(float(sums["weight"]), 1.0)
    error = config.data.spacing * float(sums["error"]) / weight
    zero = config.data.spacing * float(sums["zero_error"]) / weight
    ratio = error / zero if zero else 0.0
    loss = float(sums["loss"]) / weight
    return {"loss": loss, "error_mm": error, "zero_mm": zero, "ratio": ratio}
