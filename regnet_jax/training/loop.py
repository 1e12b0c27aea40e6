"""The training loop, which has all side effects of training.

``train`` runs from the config to the last checkpoint; the functions that it calls
follow in the order of the calls.
"""

import contextlib
import dataclasses
import itertools
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from regnet_jax.errors import DivergenceError, InputError
from regnet_jax.models import inflate, inflate_planes, make_model
from regnet_jax.models.corrnet import ERROR_LAYERS
from regnet_jax.pretrained import read_weights
from regnet_jax.synthesis.generator import make_generator, sample_patches
from regnet_jax.training import checkpoint, parallel
from regnet_jax.training.checks import check
from regnet_jax.training.config import ExperimentConfig
from regnet_jax.training.data import ScanPrefetcher
from regnet_jax.training.heldout import make_evaluation, overall_ratio
from regnet_jax.training.logs import Journal, NoJournal
from regnet_jax.training.losses import make_loss
from regnet_jax.training.state import (
    TrainState,
    init_state,
    make_optimizer,
    make_schedule,
)
from regnet_jax.training.step import (
    QUANTITIES,
    make_batch_sampler,
    make_train_steps,
    make_update,
)

# Number of times that the sampling of pairs is timed at the start of a run.
_REHEARSALS = 3


def train(
    config: ExperimentConfig,
    folder: Path,
    *,
    until: int | None = None,
    minutes: float | None = None,
    measure: Callable[[Mapping], Mapping] | None = None,
    cache: Path | None = None,
    sample: Callable = sample_patches,
) -> dict:
    """Train the network of a config, or resume the run in the folder.

    Checkpoints, ``config.json``, ``metrics.jsonl`` and event files for TensorBoard are
    written there. The result depends on the config alone: an interrupted and resumed
    run ends with the same weights as an uninterrupted one, bit for bit. On SIGTERM and
    at the end of ``minutes`` the run saves and ends early.

    Args:
        config: the experiment.
        folder: of the run; it is made if it does not exist.
        until: step to stop at before the end of the experiment; None for its end.
        minutes: time after which to stop, compilation included; None for no limit. Only
            for a single process, since several would not stop at the same step.
        measure: ``measure(variables) -> {pair: {measure: number}}`` on real pairs,
            called whenever the network is evaluated.
        cache: folder for scans at the network's voxel sizes; None to keep none.
        sample: as in ``synthesis.generator.make_generator``.

    Returns:
        The last evaluation on held-out pairs, family by family; empty if the run was
        stopped by SIGTERM or the time.

    Raises:
        InputError: if the config cannot be run, or the folder holds a run of another
            config or on other scans.
        DivergenceError: if a step computes something that is not finite. The newest
            checkpoint is then the state before it.
    """
    check(config, devices=jax.device_count())
    if minutes is not None and minutes <= 0:
        raise InputError(f"minutes={minutes:g}: give a positive number")
    if minutes is not None and parallel.is_distributed():
        raise InputError("minutes: is for a single process; give steps instead")
    deadline = math.inf if minutes is None else time.monotonic() + 60.0 * minutes
    checkpoint.check_config(folder, config)
    program = build_program(config, sample=sample)
    weight_key, stream = jax.random.split(jax.random.key(config.seed))
    state = init_state(weight_key, program.model, program.optimizer, config)
    end = config.steps if until is None else min(until, config.steps)

    with contextlib.ExitStack() as contexts:
        manager = contexts.enter_context(
            checkpoint.open_checkpoints(folder, clean=True)
        )
        if manager.latest_step() is None and (config.init_from or config.init_planes):
            state = start_from(config, state)
        state = parallel.replicate(state)
        state = checkpoint.restore_latest(manager, state)
        scans = None
        if config.data.scan_probability:
            scans = ScanPrefetcher(config, parallel.replicate, cache=cache)
            contexts.enter_context(scans)
            checkpoint.check_scans(folder, scans.describe())
        # After all that can be refused, as it is then the folder of this config.
        checkpoint.write_config(folder, config)
        number, evaluation = int(parallel.local_values(state.step)), None
        # Where a step to stop at is given, the bar counts up to it.
        limit = minutes if until is None else None
        journal = _open_journal(config, folder, number, end, minutes=limit)
        journal = contexts.enter_context(journal)
        must_stop = contexts.enter_context(watch_for_stop(deadline))
        runner = StepRunner(config, program.steps, stream, scans, journal, must_stop)

        while number < end and not must_stop():
            goal = _next_goal(config, number, end)
            state, number, fault = runner.advance(state, number, goal)
            metrics = None
            if not fault and (number % config.evaluation.every == 0 or number == end):
                evaluation = _evaluate(program, measure, journal, state, number)
                ratio = parallel.broadcast_from_main(overall_ratio(evaluation))
                metrics = {checkpoint.RATIO: ratio}
            # Save whatever ended the steps: the goal, SIGTERM or a fault.
            checkpoint.save(manager, state, metrics)
            if config.checkpoint_every == 1 or fault:
                manager.wait_until_finished()
            if fault:
                raise DivergenceError(_explain(config, folder, number, fault))
        manager.wait_until_finished()

        if number < end:
            return {}
        variables = parallel.local_values(state).inference_variables
        return evaluation or program.evaluate(variables)


class Program(NamedTuple):
    """The functions of a run; building them computes nothing.

    Attributes:
        model: Flax module, in the precision and with the axis of the training.
        optimizer: optax transformation.
        steps: from ``make_train_steps``, spread over the devices.
        evaluate: on held-out pairs, see ``make_evaluation``.
    """

    model: Any
    optimizer: optax.GradientTransformation
    steps: Callable
    evaluate: Callable


def build_program(
    config: ExperimentConfig, *, sample: Callable = sample_patches
) -> Program:
    """Build the functions of a run.

    Args:
        config: a valid one.
        sample: as in ``train``.

    Returns:
        The program.
    """
    options = {"dimensions": config.dimensions, "axis_name": parallel.AXIS}
    if config.precision != "float32":
        options["dtype"] = jnp.dtype(config.precision)
    model = make_model(config.model, **options)
    optimizer = make_optimizer(config.optimizer, make_schedule(config))
    sampler = make_batch_sampler(
        model,
        make_generator(config.data, config.targets, sample=sample),
        residual_probability=config.residual_probability,
        at_once=config.pairs_at_once,
    )
    update = make_update(
        model,
        optimizer,
        parallel.sum_over_devices,
        loss=make_loss(config.loss, stride=config.targets.stride),
        balance_edges=config.loss.balance_edges,
        microbatches=config.microbatches,
        ema_decay=config.optimizer.ema_decay,
    )
    steps = make_train_steps(
        sampler, update, parallel.sum_over_devices, count=config.steps_per_call
    )
    steps = parallel.data_parallel(steps, samples=config.batch_size)
    evaluate = make_evaluation(model, config, sample=sample)
    return Program(model, optimizer, steps, evaluate)


def start_from(config: ExperimentConfig, state: TrainState) -> TrainState:
    """Put the weights of ``init_from`` or ``init_planes`` into a fresh state.

    Args:
        config: of the run.
        state: with random weights, on the host or a single device.

    Returns:
        The state at step 0.

    Raises:
        InputError: if the weights do not fit the network of the config.
    """
    fresh, key = state.variables, "init_planes" if config.init_planes else "init_from"
    try:
        variables = _initial_variables(config, fresh)
        fits = jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, fresh)
    except (KeyError, IndexError, ValueError):
        fits = False
    if not fits:
        raise InputError(
            f"{key}={_text(getattr(config, key))}: holds other layers than"
            f" {config.model} of this experiment; name a network of the same kind"
        )
    variables = jax.tree.map(jnp.asarray, variables)
    # A copy, since the step donates the state and no array can be donated twice.
    average = jax.tree.map(jnp.copy, variables["params"]) if state.average else ()
    return state._replace(variables=variables, average=average)


def _initial_variables(config: ExperimentConfig, fresh):
    """Return the variables of the networks that a run starts from."""
    if config.init_planes:
        planes = dict(plane.split("=", 1) for plane in config.init_planes)
        read = {axis: read_weights(name)[1] for axis, name in planes.items()}
        return inflate_planes(read, fresh)
    _, given = read_weights(config.init_from)
    if config.inflate:
        return inflate(given, fresh)
    # A network that estimates errors may start from one that does not, or the reverse.
    own, given_params = fresh["params"], given["params"]
    errors = {k: given_params.get(k, own[k]) for k in ERROR_LAYERS if k in own}
    others = {k: v for k, v in given_params.items() if k not in ERROR_LAYERS}
    return {**given, "params": others | errors}


def _text(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else ",".join(value)


def _open_journal(
    config, folder: Path, first: int, end: int, *, minutes: float | None
) -> Journal | NoJournal:
    """Open the log of the run in the main process, and none in the others."""
    if not parallel.is_main():
        return NoJournal()
    options = {"batch_size": config.batch_size, "minutes": minutes}
    return Journal(folder, config.name, first, end, **options)


@contextlib.contextmanager
def watch_for_stop(deadline: float = math.inf) -> Iterator[Callable[[], bool]]:
    """Watch for SIGTERM and a deadline, so that the run can save and end.

    Args:
        deadline: of ``time.monotonic``; only for a single process.

    Yields:
        ``must_stop()``, to be called between steps. Where several processes train
        together, all must call it equally often; it returns the same in all of them,
        whichever received the signal.
    """
    calls, received = itertools.count(), threading.Event()

    def must_stop():
        if parallel.is_preempted(next(calls)):
            received.set()
        return received.is_set() or time.monotonic() >= deadline

    # Python handles signals only in the main thread; with several processes JAX does.
    main = threading.current_thread() is threading.main_thread()
    if not main or parallel.is_distributed():
        yield must_stop
        return
    before = signal.signal(signal.SIGTERM, lambda *_: received.set())
    try:
        yield must_stop
    finally:
        signal.signal(signal.SIGTERM, before)


def _next_goal(config: ExperimentConfig, number: int, end: int) -> int:
    """Return the next step after which to save or evaluate."""
    # A checkpoint is only sure to be complete when the next one is started, so they are
    # written twice as often as the number of steps that a crash may lose.
    intervals = (max(config.checkpoint_every // 2, 1), config.evaluation.every)
    return min(end, *((number // every + 1) * every for every in intervals))


class _Pending(NamedTuple):
    """Steps that were dispatched but not awaited.

    Attributes:
        first: number of steps before them.
        count: number of these steps.
        sums: their metrics.
    """

    first: int
    count: int
    sums: Mapping


@dataclasses.dataclass
class StepRunner:
    """Runs the steps between two goals and logs the numbers of each step.

    Attributes:
        config: of the run.
        steps: of its ``Program``.
        stream: random key of the run.
        scans: the scans that pairs are made from, if any.
        journal: log of the run.
        must_stop: from ``watch_for_stop``.
        rehearsals: number of times that the sampling of pairs is still to be timed.
    """

    config: ExperimentConfig
    steps: Callable
    stream: jax.Array
    scans: ScanPrefetcher | None
    journal: Journal | NoJournal
    must_stop: Callable[[], bool]
    rehearsals: int = _REHEARSALS

    def advance(self, state: TrainState, number: int, goal: int):
        """Take steps until the goal, SIGTERM or a fault.

        While the devices compute steps, the host logs the numbers of the ones before.

        Args:
            state: after ``number`` steps; its memory is reused.
            number: number of finished steps.
            goal: number of steps to finish.

        Returns:
            ``(state, number, fault)``; ``fault`` names the quantity that was not finite
            in the step after ``number``, and is empty otherwise.
        """
        clock, pending, fault = time.perf_counter(), None, ""
        waited = 0.0  # since the time of the clock
        while number < goal and not fault and not self.must_stop():
            scans, change = (), None
            if self.scans:
                began = time.perf_counter()
                scans = self.scans.scans_at(number)
                waited += time.perf_counter() - began
                change = self.scans.next_change(number)
            stop = min(goal, number + self.config.steps_per_call, change or goal)
            state, sums = self.steps(state, self.stream, scans, np.int32(stop))
            if pending:
                fault = self._settle(pending, clock, waited)
                clock, waited = time.perf_counter(), 0.0
            pending, number = _Pending(number, stop - number, sums), stop
            if not fault and self.rehearsals:
                self.rehearsals -= 1
                fault, pending = self._settle(pending, clock, waited), None
                if not fault:
                    state = self._rehearse(state, number, scans)
                clock, waited = time.perf_counter(), 0.0
        if pending and not fault:
            fault = self._settle(pending, clock, waited)
        # A fault leaves the state unchanged, also in the steps dispatched after it.
        if fault:
            number = int(parallel.local_values(state.step))
        return state, number, fault

    def _rehearse(self, state: TrainState, number: int, scans) -> TrainState:
        """Time the sampling of pairs, by steps that leave the state unchanged."""
        jax.block_until_ready(state)
        began = time.perf_counter()
        state, sums = self.steps(state, self.stream, scans, np.int32(number))
        jax.block_until_ready(sums)
        seconds = time.perf_counter() - began
        self.journal.log_generation(seconds / self.config.steps_per_call)
        return state

    def _settle(self, pending: _Pending, clock: float, waited: float) -> str:
        """Wait for steps that started at the time ``clock``, and log their numbers.

        Args:
            pending: the steps.
            clock: time of the last call.
            waited: seconds since then for which scans were awaited.

        Returns:
            The first quantity that is not finite, after which no step is logged; empty
            without a fault.
        """
        sums = {name: np.asarray(values) for name, values in pending.sums.items()}
        seconds = (time.perf_counter() - clock) / pending.count
        for index in range(pending.count):
            of_step = {name: values[index] for name, values in sums.items()}
            means = _means(self.config, of_step)
            number = pending.first + index + 1
            if of_step["fault"]:
                fault = QUANTITIES[int(of_step["fault"]) - 1]
                self.journal.log_fault(number, means, fault)
                return fault
            share = waited / pending.count
            self.journal.log_step(number, means, seconds, waited=share)
        return ""


def _means(config: ExperimentConfig, sums: Mapping) -> dict:
    """Return the means of a step from its sums, on the host."""
    weight = max(float(sums["weight"]), 1.0)
    error = config.data.spacing * float(sums["error"]) / weight
    zero = config.data.spacing * float(sums["zero_error"]) / weight
    ratio = error / zero if zero else 0.0
    loss = float(sums["loss"]) / weight
    return {"loss": loss, "error_mm": error, "zero_mm": zero, "ratio": ratio}


def _evaluate(program: Program, measure, journal, state: TrainState, number) -> dict:
    """Evaluate on held-out pairs, and on real ones if there are any.

    Every process evaluates on held-out pairs, which ``train`` returns. What is only
    logged is left to the main process.
    """
    variables = parallel.local_values(state).inference_variables
    if not parallel.is_main():
        return program.evaluate(variables)
    panels: dict[str, np.ndarray] = {}
    results = program.evaluate(variables, panels.__setitem__)
    journal.log_evaluation(number, results, panels)
    if measure:
        journal.log_real_pairs(number, measure(variables))
    return results


def _explain(config: ExperimentConfig, folder: Path, number: int, fault: str) -> str:
    """Return a one-line message for a fault in the step after ``number``."""
    remedies = [f"an optimizer.learning_rate below {config.optimizer.learning_rate:g}"]
    if not config.optimizer.max_grad_norm:
        remedies.append("optimizer.max_grad_norm=1")
    if config.precision != "float32":
        remedies.append("precision=float32")
    return (
        f"{folder}: the {fault} of step {number + 1} is not finite; the weights of step"
        f" {number} are kept, and the same command stops there again; train in another"
        f" --workdir with {' or '.join(remedies)}"
    )
