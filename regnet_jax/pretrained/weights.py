"""Weights of trained networks: shipped ones, and those of training runs.

A shipped network has a folder here with ``weights.npz`` (plain arrays in half
precision), its ``sha256``, ``inference.json``, a model card, and ``config.json`` as a
record of the training.
"""

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from regnet_jax.errors import InputError
from regnet_jax.files import staged_folder
from regnet_jax.pretrained.inference import (
    INFERENCE,
    InferenceConfig,
    read_inference,
    write_inference,
)
from regnet_jax.pretrained.runs import restore_variables

_HOME = Path(__file__).parent
_WEIGHTS, _SUM = "weights.npz", "sha256"
CARD = "CARD.md"
CONFIG = "config.json"


def names() -> list[str]:
    """Return the names of the shipped networks, in alphabetical order."""
    return sorted(path.parent.name for path in _HOME.glob(f"*/{_WEIGHTS}"))


def summary(name: str, home: Path = _HOME) -> str:
    """Return the first paragraph of a shipped network's card, which states its use.

    Args:
        name: one of ``names()``.
        home: folder that holds the networks' folders.

    Returns:
        One line.
    """
    card = home / name / CARD
    text = card.read_text("utf-8") if card.exists() else "\n\nno card yet"
    return " ".join(text.split("\n\n")[1].split())


def read_weights(name: str | Path) -> tuple[InferenceConfig, dict]:
    """Read a trained network.

    Args:
        name: of a shipped network, or the ``--workdir`` of a run, whose newest
            checkpoint is read.

    Returns:
        How the network is used, and the variables that its ``apply`` takes; these are
        empty if there is a network per voxel size.

    Raises:
        InputError: if no shipped network has the name and the folder holds no run or
            no checkpoint, or if the shipped weights are damaged.
    """
    if str(name) in names():
        return read_shipped(str(name))
    folder = Path(name)
    # An empty text would be the current folder.
    if not str(name) or not os.path.exists(folder):
        known = ", ".join(names()) or "none"
        raise InputError(
            f"{str(name) or '(empty)'}: neither a folder nor a shipped network;"
            f" there are: {known}"
        )
    if not any((folder / file).is_file() for file in (CONFIG, INFERENCE)):
        raise InputError(f"{folder}: no {CONFIG} here; name the --workdir of a run")
    config = read_inference(folder)
    return config, {} if config.stage_weights else restore_variables(folder)


def read_shipped(name: str, home: Path = _HOME) -> tuple[InferenceConfig, dict]:
    """Read a shipped network.

    Args:
        name: one of ``names()``.
        home: folder that holds the networks' folders.

    Returns:
        How the network is used, and its variables.

    Raises:
        InputError: if the weights do not match their checksum.
    """
    folder = home / name
    content = (folder / _WEIGHTS).read_bytes()
    expected = (folder / _SUM).read_text("utf-8").strip()
    if hashlib.sha256(content).hexdigest() != expected:
        raise InputError(
            f"{folder / _WEIGHTS}: is not the file that was shipped (checksum);"
            " install the package again"
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        flat = {key: arrays[key].astype(np.float32) for key in arrays.files}
    return read_inference(folder), traverse_util.unflatten_dict(flat, sep="/")


def write_shipped(
    config: InferenceConfig, variables, *, training: str, home: Path = _HOME
) -> Path:
    """Add a trained network to the shipped ones, in half precision.

    Args:
        config: how the network is used; its ``name`` names the folder, whose earlier
            files are replaced.
        variables: of the model.
        training: JSON of the config of its training, kept as a record.
        home: folder that holds the networks' folders.

    Returns:
        The folder. The author writes the model card, ``CARD.md``.
    """
    folder = home / config.name
    flat = traverse_util.flatten_dict(variables, sep="/")
    buffer = io.BytesIO()
    # Half precision keeps three digits; a training step changes weights by more.
    halves: dict[str, Any] = {k: np.asarray(v, np.float16) for k, v in flat.items()}
    np.savez_compressed(buffer, **halves)
    content = buffer.getvalue()
    # Weights and checksum must not part if the writing is interrupted.
    with staged_folder(folder) as stage:
        (stage / _WEIGHTS).write_bytes(content)
        (stage / _SUM).write_text(hashlib.sha256(content).hexdigest() + "\n", "utf-8")
        (stage / CONFIG).write_text(training, "utf-8")
        write_inference(stage, config)
    return folder
