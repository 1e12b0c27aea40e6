"""Checkpoints on disk, with the config of the run beside them."""

import dataclasses
from pathlib import Path

import orbax.checkpoint as ocp

from regnet_jax.errors import InputError
from regnet_jax.training.config import ExperimentConfig, from_json, to_json
from regnet_jax.training.parallel import first_device

_CONFIG = "config.json"


def open_checkpoints(folder: Path, *, keep: int = 3) -> ocp.CheckpointManager:
    """The checkpoints of a run.

    Args:
        folder: of the run; made if need be.
        keep: how many of the newest stay.

    Returns:
        A manager to be closed after use; saving is asynchronous and a checkpoint
        appears under its name only once it is complete.
    """
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
    return ocp.CheckpointManager((folder / "checkpoints").resolve(), options=options)


def save(manager: ocp.CheckpointManager, state) -> None:
    """Saves a state under its step, unless it is there already.

    Args:
        manager: from ``open_checkpoints``.
        state: a ``TrainState``.
    """
    step = int(state.step)
    if step not in manager.all_steps():
        manager.save(step, args=ocp.args.StandardSave(state._asdict()))


def restore_latest(manager: ocp.CheckpointManager, template):
    """The newest state, or the template where there is none.

    Args:
        manager: from ``open_checkpoints``.
        template: a ``TrainState`` of the right structure.

    Returns:
        A ``TrainState``.
    """
    step = manager.latest_step()
    if step is None:
        return template
    restored = manager.restore(step, args=ocp.args.StandardRestore(template._asdict()))
    return type(template)(**restored)


def restore_variables(folder: Path):
    """The variables of the model in the newest checkpoint of a run.

    Args:
        folder: of the run.

    Returns:
        The pytree of arrays that the model's ``apply`` takes.

    Raises:
        InputError: if the folder holds no checkpoint.
    """
    if not (folder / "checkpoints").is_dir():
        raise InputError(f"{folder}: no checkpoints here; name the --workdir of a run")
    with open_checkpoints(folder) as manager:
        step = manager.latest_step()
        if step is None:
            raise InputError(f"{folder}: no finished checkpoint; train further")
        # A run on other devices than there are here ends up on the first of these.
        args = ocp.args.StandardRestore(fallback_sharding=first_device())
        state = manager.restore(step, args=args)
    return state["variables"]


def write_config(folder: Path, config: ExperimentConfig) -> None:
    """Keeps the config beside its checkpoints, and refuses another one's folder.

    Args:
        folder: of the run; made if need be.
        config: what the run is about to do.

    Raises:
        InputError: if the folder holds a run with other values.
    """
    path = folder / _CONFIG
    if path.exists():
        if (present := read_config(folder)) != config:
            raise InputError(
                f"{folder}: holds a run of another config "
                f"({_difference(present, config)}); take another --workdir"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(to_json(config))
    temporary.replace(path)


def read_config(folder: Path) -> ExperimentConfig:
    """The config of a run.

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
    return from_json(path.read_text())


def _difference(old, new) -> str:
    """The values that differ, as ``key: old -> new``."""
    old, new = _flat(dataclasses.asdict(old)), _flat(dataclasses.asdict(new))
    return "; ".join(f"{k}: {old[k]} -> {new[k]}" for k in new if old[k] != new[k])


def _flat(values: dict, prefix: str = "") -> dict:
    """A nested dictionary as one level, its keys joined by dots."""
    flat = {}
    for key, value in values.items():
        group = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{key}.") if group else {prefix + key: value}
    return flat
