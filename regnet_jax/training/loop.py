"""The outermost loop of training, the only place with side effects."""

import contextlib
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from regnet_jax.errors import DivergenceError, InputError
from regnet_jax.models import inflate, make_model
from regnet_jax.synthesis.generator import make_generator
from regnet_jax.training import checkpoint, parallel
from regnet_jax.training.checkpoint import read_trained, restore_variables
from regnet_jax.training.config import ExperimentConfig, check, in_the_plane
from regnet_jax.training.data import Volumes
from regnet_jax.training.heldout import make_evaluation, overall
from regnet_jax.training.logs import Journal, NoJournal
from regnet_jax.training.losses import Loss
from regnet_jax.training.parallel import local
from regnet_jax.training.state import TrainState, init_state, make_optimizer
from regnet_jax.training.step import (
    QUANTITIES,
    make_draw,
    make_train_steps,
    make_update,
)


@contextlib.contextmanager
def halting() -> Iterator[Callable[[], bool]]:
    """Notes SIGTERM instead of dying of it.

    Yields:
        A function to be asked between steps: whether to stop there. If several
        processes train together it is to be asked equally often in all of them, and
        answers all alike, whichever of them was sent the signal.
    """
    calls, came = itertools.count(), threading.Event()

    def halted():
        if parallel.told_to_stop(next(calls)):
            came.set()
        return came.is_set()

    # Python handles signals in the main thread alone, and JAX those of several
    # processes.
    main = threading.current_thread() is threading.main_thread()
    if not main or parallel.several():
        yield halted
        return
    before = signal.signal(signal.SIGTERM, lambda *_: came.set())
    try:
        yield halted
    finally:
        signal.signal(signal.SIGTERM, before)


def begin(
    config: ExperimentConfig, folder: Path, state: TrainState, train: Callable
) -> TrainState:
    """Given weights, those of a start in the plane, or random ones, in this order.

    Args:
        config: of the run.
        folder: of the run; a start in the plane has its folder ``plane``.
        state: with random weights.
        train: ``train(config, folder)``, for a start in the plane.

    Returns:
        The state at step 0.

    Raises:
        InputError: if the given weights are not of the same network.
    """
    if config.init_from:
        variables = _given(config, state.variables)
    elif config.plane_steps:
        # A 3D network learns where to look in slices, at a small part of the cost.
        train(in_the_plane(config), folder / "plane")
        variables = inflate(restore_variables(folder / "plane"), state.variables)
    else:
        return state
    average = jax.tree.map(jnp.copy, variables["params"]) if state.average else ()
    return state._replace(variables=variables, average=average)


def _given(config, fresh):
    """The weights to start from, which must be those of the same network."""
    _, variables = read_trained(config.init_from)
    shapes, wanted = (jax.tree.map(jnp.shape, tree) for tree in (variables, fresh))
    if shapes != wanted:
        raise InputError(
            f"init_from={config.init_from}: holds other layers than {config.model} of"
            " this experiment; name a network of the same kind"
        )
    return jax.tree.map(jnp.asarray, variables)


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


def train(
    config: ExperimentConfig,
    folder: Path,
    *,
    until: int | None = None,
    measure: Callable[[Mapping], Mapping] | None = None,
    cache: Path | None = None,
) -> dict:
    """Trains, or goes on with, the run in a folder.

    Writes checkpoints, ``config.json``, ``metrics.jsonl`` and pages for TensorBoard
    there, and the same in its folder ``plane`` where a 3D run starts in the plane. The
    result depends on the config alone: a run that was interrupted and resumed ends with
    the weights of one that was not. SIGTERM saves and ends the run early.

    Args:
        config: the experiment.
        folder: of the run; made if need be.
        until: step to stop at, before the end of the experiment; None for its end.
            A start in the plane is not counted.
        measure: ``measure(variables) -> {pair: {measure: number}}`` on real pairs,
            called whenever the network is evaluated.
        cache: folder for scans at the network's voxel sizes; None to keep none.

    Returns:
        The last evaluation on held-out pairs, family by family; nothing after
        SIGTERM.

    Raises:
        InputError: if the config cannot be run, or the folder holds another's run.
        DivergenceError: if a step computes something that is not finite. The newest
            checkpoint is then the state before it.
    """
    check(config, devices=jax.device_count())
    checkpoint.write_config(folder, config)
    run = prepare(config, measure)
    weight_key, stream = jax.random.split(jax.random.key(config.seed))
    state = init_state(weight_key, run.model, make_optimizer(config), config)
    end = config.steps if until is None else min(until, config.steps)
    with contextlib.ExitStack() as contexts:
        manager = contexts.enter_context(
            checkpoint.open_checkpoints(folder, clean=True)
        )
        if manager.latest_step() is None:
            state = begin(config, folder, state, train)
        state = parallel.replicate(state)
        state = checkpoint.restore_latest(manager, state)
        volumes = None
        if config.data.real:
            volumes = Volumes(config, parallel.replicate, cache=cache)
            contexts.enter_context(volumes)
        return _run(run, folder, manager, state, stream, volumes, end)


class Run(NamedTuple):
    """What a run computes with.

    Attributes:
        config: of the run.
        model: the network as it is trained.
        steps: from ``make_train_steps``, spread over the devices.
        evaluate: on held-out pairs, see ``make_evaluation``.
        measure: on real pairs, or None.
    """

    config: ExperimentConfig
    model: object
    steps: Callable
    evaluate: Callable
    measure: Callable | None


def prepare(config: ExperimentConfig, measure: Callable | None = None) -> Run:
    """Builds the functions of a run; nothing is computed yet.

    Args:
        config: a valid one.
        measure: as in ``train``.

    Returns:
        The run.
    """
    options = {"dimensions": len(config.data.shape), "axis_name": parallel.AXIS}
    if config.precision != "float32":
        options["dtype"] = jnp.dtype(config.precision)
    model = make_model(config.model, **options)
    draw = make_draw(model, make_generator(config.data), residuals=config.residuals)
    update = make_update(
        model,
        make_optimizer(config),
        parallel.sum_over_devices,
        loss=Loss(
            config.huber_delta,
            config.endpoint,
            config.bending,
            config.folding,
            config.data.stride,
        ),
        edges=config.balance,
        parts=config.parts,
        average=config.average,
    )
    steps = make_train_steps(
        draw, update, parallel.sum_over_devices, count=config.dispatch
    )
    steps = parallel.data_parallel(steps, samples=config.pairs)
    return Run(config, model, steps, make_evaluation(model, config), measure)


def _run(run, folder, manager, state: TrainState, stream, volumes, end) -> dict:
    """Steps until the end, or until SIGTERM; returns the last evaluation."""
    config, first, evaluation = run.config, int(parallel.local(state.step)), None
    journal = NoJournal()
    if parallel.is_main():
        journal = Journal(folder, config.name, first, end, pairs=config.pairs)
    with journal, halting() as halted:
        advance = make_advance(config, run.steps, stream, volumes, journal, halted)
        number = first
        while number < end and not halted():
            goal = _next_goal(config, number, end)
            state, number, fault = advance(state, number, goal)
            metrics = None
            evaluated = number % config.evaluate_every == 0 or number == end
            if evaluated and not fault:
                evaluation = _evaluate(run, journal, state, number)
                metrics = {checkpoint.RATIO: parallel.agree(overall(evaluation))}
            # Whatever made it come back, nothing is lost from here on.
            checkpoint.save(manager, state, metrics)
            if config.save_every == 1 or fault:
                manager.wait_until_finished()
            if fault:
                raise DivergenceError(_explain(config, folder, number, fault))
        manager.wait_until_finished()
    if number < end:
        return {}
    return evaluation or run.evaluate(parallel.local(state).best)


def _explain(config: ExperimentConfig, folder: Path, number: int, fault: str) -> str:
    """What to say of a fault in the step after ``number``, in one line."""
    remedies = [f"a learning_rate below {config.learning_rate:g}"]
    if not config.clip:
        remedies.append("clip=1")
    if config.precision != "float32":
        remedies.append("precision=float32")
    return (
        f"{folder}: the {fault} of step {number + 1} is not finite; the weights of step"
        f" {number} are kept, and the same command stops there again; train in another"
        f" --workdir with {' or '.join(remedies)}"
    )


def _next_goal(config, number: int, end: int) -> int:
    """The next step at which there is something to do beside steps."""
    # A checkpoint is complete when the next one is begun. Twice as many as promised:
    # what a crash costs is then never more than the interval.
    everies = (max(config.save_every // 2, 1), config.evaluate_every)
    return min(end, *((number // every + 1) * every for every in everies))


def _evaluate(run, journal, state, number) -> dict:
    """On held-out pairs, and on real ones if there are any."""
    variables, panels = parallel.local(state).best, {}
    results = run.evaluate(variables, panels.__setitem__)
    journal.evaluation(number, results, panels)
    if run.measure:
        journal.real_pairs(number, run.measure(variables))
    return results
