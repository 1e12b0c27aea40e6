"""Reading and writing shipped weights: plain arrays, checked before use."""

import hashlib
import io
from pathlib import Path

import numpy as np
from flax import traverse_util

from regnet_jax.errors import InputError

_HOME = Path(__file__).parent
_WEIGHTS, _CONFIG, _SUM, CARD = "weights.npz", "config.json", "sha256", "CARD.md"


def names() -> list[str]:
    """The shipped networks, in alphabetical order."""
    return sorted(path.parent.name for path in _HOME.glob(f"*/{_WEIGHTS}"))


def summary(name: str, home: Path = _HOME) -> str:
    """What a shipped network is for: the first paragraph of its card.

    Args:
        name: one of ``names()``.
        home: folder of the folders.

    Returns:
        One line.
    """
    card = home / name / CARD
    text = card.read_text("utf-8") if card.exists() else "\n\nno card yet"
    return " ".join(text.split("\n\n")[1].split())


def read(name: str, home: Path = _HOME):
    """A shipped network.

    Args:
        name: one of ``names()``.
        home: folder of the folders.

    Returns:
        The JSON of the config of its training, and its variables.

    Raises:
        InputError: if the weights are not what was shipped.
    """
    folder = home / name
    content = (folder / _WEIGHTS).read_bytes()
    expected = (folder / _SUM).read_text().strip()
    if hashlib.sha256(content).hexdigest() != expected:
        raise InputError(
            f"{folder / _WEIGHTS}: is not the file that was shipped (checksum);"
            " install the package again"
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        flat = {key: arrays[key].astype(np.float32) for key in arrays.files}
    variables = traverse_util.unflatten_dict(flat, sep="/")
    return (folder / _CONFIG).read_text(), variables


def write(name: str, config: str, variables, home: Path = _HOME) -> Path:
    """Puts a trained network among the shipped ones, in half precision.

    Args:
        name: of its folder; what it held before is replaced.
        config: JSON of the config of its training.
        variables: of the model.
        home: folder of the folders.

    Returns:
        The folder. A model card, ``CARD.md``, is for its author to write.
    """
    folder = home / name
    folder.mkdir(parents=True, exist_ok=True)
    flat = traverse_util.flatten_dict(variables, sep="/")
    buffer = io.BytesIO()
    # A weight keeps three digits, which is less than one step of training changes.
    halves = {key: np.asarray(value, np.float16) for key, value in flat.items()}
    np.savez_compressed(buffer, **halves)
    content = buffer.getvalue()
    (folder / _WEIGHTS).write_bytes(content)
    (folder / _SUM).write_text(hashlib.sha256(content).hexdigest() + "\n")
    (folder / _CONFIG).write_text(config)
    return folder
