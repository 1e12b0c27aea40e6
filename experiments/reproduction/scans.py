"""The scans below a folder, and the patients that are held out of the training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.heldout.splits import find_usable, patient_of
from regnet_jax.errors import InputError
from regnet_jax.io import read_frame
from regnet_jax.training.data import read_anatomy

# One patient in so many is held out, and at least one.
_HELD_OUT = 6


@dataclass(frozen=True)
class Patients:
    """The usable scans of a folder.

    Attributes:
        training: paths of the scans to train on.
        held_out: paths of the scans of other patients, to measure on.
        left_out: path and reason for each file that cannot be used.
    """

    training: tuple[Path, ...] = ()
    held_out: tuple[Path, ...] = ()
    left_out: tuple[tuple[Path, str], ...] = ()


def find_patients(
    folder: Path, spacing: float, *, dimensions: int, seed: int, cache: Path | None
) -> Patients:
    """Find the CTs below a folder, and hold out whole patients.

    A folder directly below is a patient; a file directly below is a patient, too.

    Args:
        folder: to search, with all folders below it.
        spacing: voxel size of the training, mm, at which the scans are read.
        dimensions: of the network; 2D networks take 2D and 3D scans, but one kind.
        seed: of the choice of the patients.
        cache: of ``training.data.read_anatomy``.

    Returns:
        The patients. A single one is not held out.

    Raises:
        InputError: if the folder does not exist or holds no usable scan.
    """

    def read(path: Path) -> int:
        ndim = read_frame(path).ndim
        if ndim < dimensions:
            raise InputError(f"{path}: is {ndim}D; give 3D scans")
        read_anatomy(path, [spacing], cache)
        return ndim

    usable, left_out = find_usable(folder, read)
    most = max(usable.values())
    left_out += [
        (path, "is 2D among 3D scans") for path, ndim in usable.items() if ndim != most
    ]
    paths = [path for path, ndim in usable.items() if ndim == most]
    chosen = choose_held_out([patient_of(folder, path) for path in paths], seed)
    return Patients(
        tuple(path for path in paths if patient_of(folder, path) not in chosen),
        tuple(path for path in paths if patient_of(folder, path) in chosen),
        tuple(left_out),
    )


def choose_held_out(patients: Sequence[str], seed: int) -> set[str]:
    """Choose the patients that no training sees.

    Args:
        patients: the patient of each scan.
        seed: of the choice.

    Returns:
        One in six of the patients, at least one; none of a single patient.
    """
    names = sorted(set(patients))
    if len(names) < 2:
        return set()
    count = max(1, round(len(names) / _HELD_OUT))
    order = np.random.default_rng(seed).permutation(len(names))
    return {names[i] for i in order[:count]}
