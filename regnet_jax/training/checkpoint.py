"""Checkpoints of a run on disk, and its config beside them."""

import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers as policies

from regnet_jax.errors import InputError
from regnet_jax.files import write_text
from regnet_jax.pretrained.inference import INFERENCE, write_inference
from regnet_jax.pretrained.runs import (
    CHECKPOINTS,
    RATIO,
    SUM_OF_WEIGHTS,
    checksum_of_values,
    ratio,
    restore_variables,
    weights_of,
)
from regnet_jax.training.config import (
    ExperimentConfig,
    difference,
    from_json,
    to_json,
)
from regnet_jax.training.inference import inference_config
from regnet_jax.training.parallel import broadcast_from_main, is_main, local_values

__all__ = [
    "RATIO",
    "check_config",
    "check_scans",
    "open_checkpoints",
    "read_config",
    "restore_latest",
    "restore_variables",
    "save",
    "write_config",
]

_CONFIG = "config.json"
_SCANS = "listed_scans.txt"
# Damaged checkpoints are moved to this folder, so that new ones can take their names.
DAMAGED = "damaged"
_SUM = "sha256"


def open_checkpoints(
    folder: Path, *, keep: int = 3, clean: bool = False
) -> ocp.CheckpointManager:
    """Open the checkpoints of a run.

    Args:
        folder: of the run; it is made if it does not exist.
        keep: number of the newest checkpoints that are kept, in addition to the best.
        clean: remove the incomplete checkpoint of a killed run; only safe while no
            other process writes to the folder.

    Returns:
        A manager, to be closed after use. It saves asynchronously and atomically: a
        checkpoint gets its name only when it is complete.
    """
    best = policies.BestN(get_metric_fn=ratio, reverse=True, n=1)
    options = ocp.CheckpointManagerOptions(
        # Orbax stores metrics only with a best_fn; without it they are lost on resume.
        best_fn=ratio,
        best_mode="min",
        preservation_policy=policies.AnyPreservationPolicy(
            [policies.LatestN(keep), best]
        ),
        create=True,
        cleanup_tmp_directories=clean,
    )
    return ocp.CheckpointManager((folder / CHECKPOINTS).resolve(), options=options)


def save(manager: ocp.CheckpointManager, state, metrics: Mapping | None = None) -> None:
    """Save a state under the number of its step, unless that is saved already.

    Args:
        manager: from ``open_checkpoints``.
        state: a ``TrainState``.
        metrics: with ``RATIO`` if the state was evaluated. A state without it, or with
            NaN, is never the best.
    """
    step = int(state.step)
    if step in manager.all_steps():
        return
    # Orbax would skip this checkpoint while it still writes the one before.
    manager.wait_until_finished()
    content = _content(state)
    manager.save(
        step,
        args=ocp.args.StandardSave(content),
        metrics={RATIO: ratio(metrics or {RATIO: math.inf})},
        custom_metadata={
            _SUM: _checksum(content),
            SUM_OF_WEIGHTS: _checksum(weights_of(content)),
        },
    )


def _content(state) -> dict:
    """Return the state as a dictionary, without the EMA if the run keeps none."""
    content = state._asdict()
    if not state.average:
        del content["average"]
    return content


def _checksum(content) -> str:
    """Return a checksum of all values; Orbax does not detect a flipped byte."""
    return checksum_of_values(local_values(content))


def restore_latest(manager: ocp.CheckpointManager, template):
    """Return the newest readable state, or the template if there are no checkpoints.

    Newer checkpoints that are damaged are named in a warning and set aside.

    Args:
        manager: from ``open_checkpoints``.
        template: a ``TrainState`` of the right structure, on the right devices.

    Returns:
        A ``TrainState``.

    Raises:
        InputError: if there are checkpoints but none can be read.
    """
    steps = sorted(manager.all_steps(), reverse=True)
    for tried, step in enumerate(steps):
        try:
            state = type(template)(**_restore(manager, step, _content(template)))
        # A damaged file can raise an exception of any kind.
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            logging.warning("checkpoint %d cannot be read: %s", step, reason)
            continue
        if tried:
            _set_aside(manager, steps[:tried])
        return state
    if steps:
        raise InputError(
            f"{manager.directory}: none of its checkpoints fits this run or can be"
            " read; remove the folder to begin again"
        )
    return template


def _restore(manager, step: int, template) -> dict:
    content = manager.restore(step, args=ocp.args.StandardRestore(template))
    written = (manager.metadata(step).custom_metadata or {}).get(_SUM)
    # Checkpoints of early versions have no checksum.
    if written is not None and written != _checksum(content):
        raise ValueError("its values are not those that were written (checksum)")
    if not _finite(content):
        raise ValueError("it holds values that are not finite")
    return content


def _finite(tree) -> bool:
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(local_values(tree)))


def _set_aside(manager, steps) -> None:
    folder = Path(manager.directory)
    if is_main():
        for step in steps:
            place = folder.parent / DAMAGED / str(step)
            place.parent.mkdir(exist_ok=True)
            while place.exists():
                place = place.with_name(f"{place.name}+")
            (folder / str(step)).rename(place)
            logging.warning("checkpoint %d was moved to %s", step, place)
    # All processes wait for the moves, then list the checkpoints again.
    broadcast_from_main(0.0)
    manager.reload()


def check_config(folder: Path, config: ExperimentConfig) -> None:
    """Refuse the folder of another config.

    Args:
        folder: of the run; it need not exist.
        config: of the run.

    Raises:
        InputError: if the folder holds a run of another config.
    """
    if (folder / _CONFIG).exists() and (present := read_config(folder)) != config:
        raise InputError(
            f"{folder}: holds a run of another config "
            f"({difference(present, config)}); take another --workdir"
        )


def write_config(folder: Path, config: ExperimentConfig) -> None:
    """Write the config beside its checkpoints, unless it is there.

    Args:
        folder: of the run; it is made if it does not exist.
        config: of the run.
    """
    if not is_main():
        return
    folder.mkdir(parents=True, exist_ok=True)
    # Runs of earlier versions lack the file.
    if not (folder / INFERENCE).exists():
        write_inference(folder, inference_config(config))
    if not (folder / _CONFIG).exists():
        write_text(folder / _CONFIG, to_json(config))


def check_scans(folder: Path, scans: Sequence[str]) -> None:
    """Record the scans of a run; refuse the folder of a run on others.

    The scans of a step follow from their place in the list, so that a run could not go
    on as it began.

    Args:
        folder: of the run.
        scans: a line for each scan, in the order of the list.

    Raises:
        InputError: if the folder holds a run on other scans.
    """
    path = folder / _SCANS
    if not path.exists():
        if is_main():
            write_text(path, "".join(f"{line}\n" for line in scans))
        return
    known = path.read_text("utf-8").splitlines()
    if known != list(scans):
        changed = next(a or b for a, b in zip_longest(known, scans) if a != b)
        raise InputError(
            f"{folder}: holds a run on other scans (of {len(known)} then and"
            f" {len(scans)} now, {changed} is the first that differs); restore the list"
            " or take another --workdir"
        )


def read_config(folder: Path) -> ExperimentConfig:
    """Read the config of a run.

    Args:
        folder: of the run.

    Returns:
        The experiment.

    Raises:
        InputError: if the folder holds no run.
    """
    path = folder / _CONFIG
    if not path.is_file():
        raise InputError(f"{folder}: no {_CONFIG} here; name the --workdir of a run")
    return from_json(path.read_text("utf-8"))
