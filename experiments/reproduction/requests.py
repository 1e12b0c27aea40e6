"""What a reproduction was begun with: its flags, and the patients that it holds out."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from experiments.reproduction.scans import Patients, find_patients
from regnet_jax.errors import InputError
from regnet_jax.files import write_json
from regnet_jax.io import checksum

_FILE = "request.json"
# Below this key of the file are the patients; the other keys are the flags.
_PATIENTS = "patients"
_ROLES = ("training", "held_out")
# Voxel size at which the scans are tried, mm.
_SPACING = 2.0


class Request(NamedTuple):
    """The flags that may not change while a reproduction goes on.

    Attributes:
        dimensions: of the network.
        scans: folder of the scans; None for procedural chests.
        pairs: path of the list of pairs to register; None for artificial ones.
        axis: across the slices of 3D volumes.
        seed: of the random numbers.
    """

    dimensions: int
    scans: str | None
    pairs: str | None
    axis: str
    seed: int


def begin(out: Path, request: Request, cache: Path) -> Patients:
    """Record a request and its patients in a folder, or go on with those recorded.

    The scans are searched once. Another search could find other scans, and so hold out
    patients that were trained on.

    Args:
        out: folder of the reproduction.
        request: its flags.
        cache: of ``find_patients``.

    Returns:
        The patients. Without ``request.scans`` there are none.

    Raises:
        InputError: if the folder holds something else or a reproduction with other
            flags, if one of its scans is missing or has changed, or for the reasons of
            ``find_patients``.
    """
    path = out / _FILE
    if path.exists():
        return _recorded(path, request)
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out}: is not empty; take another --out")
    patients = Patients()
    if request.scans:
        patients = find_patients(
            Path(request.scans),
            _SPACING,
            dimensions=request.dimensions,
            seed=request.seed,
            cache=cache,
        )
    record = request._asdict() | {_PATIENTS: _as_record(patients)}
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, record)
    return patients


def _recorded(path: Path, request: Request) -> Patients:
    before = json.loads(path.read_text("utf-8"))
    asked = request._asdict()
    if changed := [key for key in asked if asked[key] != before.get(key)]:
        raise InputError(
            f"{path.parent}: holds a reproduction with other flags"
            f" ({', '.join(changed)}); take another --out"
        )
    if _PATIENTS not in before:
        raise InputError(
            f"{path}: does not say which patients are held out, as it is of an earlier"
            " version; take another --out"
        )
    return _from_record(before[_PATIENTS], path)


def _as_record(patients: Patients) -> dict:
    """Return the patients as values for JSON, with the checksums of their scans.

    Args:
        patients: from ``find_patients``.

    Returns:
        Absolute paths and checksums by role, and what was left out.
    """
    record = {
        role: [[str(path.absolute()), checksum(path)] for path in paths]
        for role, paths in zip(
            _ROLES, (patients.training, patients.held_out), strict=True
        )
    }
    left_out = [[str(path), reason] for path, reason in patients.left_out]
    return record | {"left_out": left_out}


def _from_record(record: Mapping, source: Path) -> Patients:
    """Return the patients that were recorded, whatever is in their folder now.

    Args:
        record: from ``_as_record``.
        source: the file with the record, for messages.

    Returns:
        The same patients in the same roles.

    Raises:
        InputError: if one of their scans is missing or has changed.
    """
    for path, before in itertools.chain(*(record[role] for role in _ROLES)):
        if checksum(path) != before:
            raise InputError(
                f"{path}: has changed since {source} recorded it; bring that file back,"
                " or take another --out"
            )
    training, held_out = (
        tuple(Path(path) for path, _ in record[role]) for role in _ROLES
    )
    left_out = tuple((Path(path), reason) for path, reason in record["left_out"])
    return Patients(training, held_out, left_out)
