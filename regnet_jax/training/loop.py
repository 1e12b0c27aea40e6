"""The outermost loop of training, the only place with side effects."""

import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from tqdm import tqdm

from regnet_jax.errors import InputError
from regnet_jax.models import inflate, make_model
from regnet_jax.synthesis.generator import make_generator
from regnet_jax.training import checkpoint, parallel
from regnet_jax.training.config import ExperimentConfig, check, in_the_plane
from regnet_jax.training.heldout import make_evaluation
from regnet_jax.training.scans import load_scans
from regnet_jax.training.state import init_state, make_optimizer
from regnet_jax.training.step import make_train_step
from regnet_jax.training.trained import read_trained

METRICS = "metrics.jsonl"


def train(config: ExperimentConfig, folder: Path, *, until: int | None = None) -> dict:
    """Trains, or goes on with, the run in a folder.

    Writes checkpoints, ``config.json`` and ``metrics.jsonl`` there, and the same in
    its folder ``plane`` where a 3D run starts in the plane. The result
    depends on the config alone: a run that was interrupted and resumed ends with
    the weights of one that was not.

    Args:
        config: the experiment.
        folder: of the run; made if need be.
        until: step to stop at, before the end of the experiment; None for its end.
            A start in the plane is not counted.

    Returns:
        The last evaluation on held-out pairs, family by family.

    Raises:
        InputError: if the config cannot be run, or the folder holds another's run.
    """
    check(config, devices=jax.local_device_count())
    checkpoint.write_config(folder, config)
    model = make_model(
        config.model, dimensions=len(config.data.shape), axis_name=parallel.AXIS
    )
    optimizer = make_optimizer(config)
    weight_key, stream = jax.random.split(jax.random.key(config.seed))
    state = init_state(weight_key, model, optimizer, config)
    step = make_train_step(
        model,
        optimizer,
        make_generator(config.data),
        parallel.sum_over_devices,
        residuals=config.residuals,
        huber_delta=config.huber_delta,
    )
    step = parallel.data_parallel(step, samples=config.pairs)
    evaluate = make_evaluation(model, config)
    scans = parallel.replicate(load_scans(config)) if config.data.real else ()
    with checkpoint.open_checkpoints(folder) as manager:
        if manager.latest_step() is None:
            state = _begin(config, folder, state)
        state = parallel.replicate(checkpoint.restore_latest(manager, state))
        end = config.steps if until is None else min(until, config.steps)
        state, evaluation = _run(
            config,
            folder,
            manager,
            state,
            lambda s: step(s, stream, scans),
            evaluate,
            end,
        )
        checkpoint.save(manager, state)
    return evaluation


def _begin(config, folder, state):
    """The state of a run that has no checkpoint yet."""
    if config.init_from:
        return state._replace(variables=_given(config, state.variables))
    if config.plane_steps:
        return _start_in_the_plane(config, folder, state)
    return state


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


def _start_in_the_plane(config, folder, state):
    """A 3D network learns where to look in slices, at a small part of the cost."""
    folder = folder / "plane"
    train(in_the_plane(config), folder)
    variables = inflate(checkpoint.restore_variables(folder), state.variables)
    return state._replace(variables=variables)


def _run(config, folder, manager, state, step, evaluate, end):
    """Steps until the end; returns the state and the last evaluation."""
    evaluation = None
    first = int(state.step)
    progress = tqdm(total=end, initial=first, unit="step", desc=config.name)
    with progress, (folder / METRICS).open("a", buffering=1) as log:
        for number in range(first + 1, end + 1):
            began = time.perf_counter()
            state, sums = step(state)
            record = {"step": number, **_means(config, sums)}
            record["seconds"] = time.perf_counter() - began
            _write(log, record)
            progress.update()
            progress.set_postfix(
                loss=f"{record['loss']:.3f}", error=f"{record['ratio']:.2f} of zero's"
            )
            if number % config.save_every == 0:
                checkpoint.save(manager, state)
            if number % config.evaluate_every == 0 or number == end:
                evaluation = evaluate(state.variables)
                _write(log, {"step": number, "evaluation": evaluation})
                for family, result in evaluation.items():
                    progress.write(f"step {number}  {family:12s} {describe(result)}")
    return state, evaluation or evaluate(state.variables)


def _means(config, sums) -> dict:
    """Divides the sums once, on the host."""
    weight = max(float(sums["weight"]), 1.0)
    error = config.data.spacing * float(sums["error"]) / weight
    zero = config.data.spacing * float(sums["zero_error"]) / weight
    ratio = error / zero if zero else 0.0
    loss = float(sums["loss"]) / weight
    return {"loss": loss, "error_mm": error, "zero_mm": zero, "ratio": ratio}


def _write(log, record: dict) -> None:
    log.write(json.dumps(record) + "\n")


def describe(result: dict) -> str:
    """One line of an evaluation for people.

    Args:
        result: statistics of a family, from ``heldout.make_evaluation``.

    Returns:
        Endpoint error and zero field's, mean and standard deviation.
    """
    return (
        f"endpoint error {result['error_mm']:.2f} ± {result['error_sd_mm']:.2f} mm, "
        f"zero field {result['zero_mm']:.2f} ± {result['zero_sd_mm']:.2f} mm, "
        f"ratio {result['ratio']:.2f} (n = {result['n']})"
    )
