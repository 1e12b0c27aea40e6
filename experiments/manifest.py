r"""Freeze a list of scans: checksums, patients, and what each patient is for.

Example:
    python -m experiments.manifest --scans folder --out scans.csv \
        --source "hospital A, 2026, CC BY 4.0"

Every CT below --scans is listed in --out, a CSV file with the columns path (from the
folder of --out), sha256, patient, role and source. A folder directly below --scans is a
patient; a file directly below is a patient, too. Whole patients become training,
validation or test at random, in the proportions of --split; with --split 0,0,1 all are
test. --seed decides the choice. Change roles, patients and sources by hand before the
first use, and nothing after it: an existing file is not replaced. experiments.assess
reads it as --volumes, trainings read it as scans.file, and both refuse scans that have
changed.
"""

from collections import Counter
from pathlib import Path

from absl import flags

from experiments.heldout.splits import find_usable, patient_of, split_patients
from regnet_jax.cli import common
from regnet_jax.errors import InputError
from regnet_jax.files import check_output
from regnet_jax.io import (
    ROLES,
    ListedScan,
    checksum,
    read_ct,
    write_scans,
)

_SCANS = flags.DEFINE_string(
    "scans", None, "Folder that holds scans, also in its folders.", required=True
)
_OUT = flags.DEFINE_string("out", None, "CSV file to write.", required=True)
_SPLIT = flags.DEFINE_list(
    "split", ["4", "1", "1"], f"Proportions of patients for {', '.join(ROLES)}."
)
_SOURCE = flags.DEFINE_string("source", "", "Origin and licence of the scans.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the choice of patients.")


def _shares() -> tuple[int, ...]:
    """Parse and check --split."""
    values = _SPLIT.value
    if len(values) != len(ROLES) or not all(value.isdecimal() for value in values):
        raise InputError(
            f"--split {','.join(values)}: give three whole numbers, for"
            f" {', '.join(ROLES)}"
        )
    shares = tuple(map(int, values))
    if not any(shares):
        raise InputError(f"--split {','.join(values)}: give one of them more than 0")
    return shares


def main():
    """Find the scans, choose their roles and write the manifest."""
    shares, folder, out = _shares(), Path(_SCANS.value), Path(_OUT.value)
    check_output(out)
    if out.exists():
        raise InputError(f"{out}: exists, and manifests do not change; name another")
    # The images themselves would fill the memory.
    paths, _ = find_usable(folder, lambda path: read_ct(path).frame)
    patients = [patient_of(folder, path) for path in paths]
    roles = split_patients(patients, shares, _SEED.value)
    scans = [
        ListedScan(path, checksum(path), patient, roles[patient], _SOURCE.value)
        for path, patient in zip(paths, patients, strict=True)
    ]
    write_scans(out, scans)
    for role in ROLES:
        count = Counter(scan.patient for scan in scans if scan.role == role)
        print(f"{role:12s}patients: {len(count)}, scans: {count.total()}")
    print(f"wrote {out}")


if __name__ == "__main__":
    common.run(main)
