"""The scans below a folder, and the patients that are held out of the training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.heldout.splits import find_usable, patient_of, split_patients
from regnet_jax.errors import InputError
from regnet_jax.io import checksum, read_frame
from regnet_jax.training.data import read_anatomy

# One patient in six is held out, and at least one: of training, validation and test.
_SHARES = (5, 0, 1)


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
        InputError: if the folder does not exist, holds no usable scan, or holds a scan
            that two patients have.
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
    patients = {
        path: patient_of(folder, path) for path, ndim in usable.items() if ndim == most
    }
    _check_owners(patients)
    names = list(patients.values())
    roles = split_patients(names, _SHARES, seed) if len(set(names)) > 1 else {}
    held_out = [path for path, name in patients.items() if roles.get(name) == "test"]
    return Patients(
        tuple(path for path in patients if path not in held_out),
        tuple(held_out),
        tuple(left_out),
    )


def _check_owners(patients: Mapping[Path, str]) -> None:
    """Refuse a scan of two patients, one of whom might be held out and one not."""
    first: dict[str, Path] = {}
    for path, patient in patients.items():
        twin = first.setdefault(checksum(path), path)
        if patients[twin] != patient:
            raise InputError(
                f"{path}: is the same scan as {twin}, which is in the folder of another"
                " patient; keep one of them"
            )
