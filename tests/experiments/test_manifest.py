"""A folder of scans becomes a manifest: whole patients, checksums, roles."""

import csv
from collections import Counter

import numpy as np
import pytest

from experiments.heldout.splits import split_patients
from regnet_jax.errors import InputError
from regnet_jax.io import ROLES, checksum, read_scans
from regnet_jax.io.images import write_image
from regnet_jax.spatial import Frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four patients with five CTs, and files that are none."""
    folder = tmp_path_factory.mktemp("scans")
    frame = Frame((5, 6, 7), (2.0, 2.0, 3.0), (0, 0, 0), np.eye(3))
    rng = np.random.default_rng(0)
    names = ("a/1.nii.gz", "a/deep/2.nii.gz", "b/1.nii.gz", "c.nii.gz", "d.mha")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image = rng.normal(0, 300, frame.shape)
        image[0] = -1000
        write_image(folder / name, image.astype(np.float32), frame)
    labels = rng.integers(0, 2, frame.shape).astype(np.uint8)
    write_image(folder / "a" / "labels.nii.gz", labels, frame)
    (folder / "b" / "notes.txt").write_text("inhale")
    return folder


def test_a_folder_becomes_a_manifest(command, folder, tmp_path):
    out = tmp_path / "scans.csv"
    flags = (f"--scans={folder}", f"--out={out}", "--split=2,1,1", "--source=A, CC BY")
    result = command("manifest", *flags)
    assert result.status == 0, result.err
    assert "left out: " in result.err
    assert "labels.nii.gz" in result.err
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    patients = {row["patient"]: row["role"] for row in rows}
    assert set(patients) == {"a", "b", "c.nii.gz", "d.mha"}
    assert Counter(patients.values()) == {"training": 2, "validation": 1, "test": 1}
    assert {row["source"] for row in rows} == {"A, CC BY"}
    for row in rows:
        path = out.parent / row["path"]
        assert row["sha256"] == checksum(path)
    assert len([scan for role in ROLES for scan in read_scans(out, role)]) == 5
    assert f"wrote {out}" in result.out
    # Once it is there it stays.
    before = out.read_bytes()
    again = command("manifest", *flags)
    assert again.status == 2
    assert "manifests do not change" in again.errors[-1]
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "fact"),
    [
        (["--split=1,1"], "give three whole numbers"),
        (["--split=1,1,-1"], "give three whole numbers"),
        (["--split=0,0,0"], "more than 0"),
        (["--scans=nowhere"], "is no folder"),
        (["--out=nowhere/scans.csv"], "its folder does not exist"),
    ],
)
def test_bad_flags_give_one_line(command, folder, tmp_path, flags, fact):
    out = tmp_path / "scans.csv"
    result = command("manifest", f"--scans={folder}", f"--out={out}", *flags)
    assert result.status == 2
    assert len(result.errors) == 1
    assert fact in result.errors[0]
    assert not out.exists()


def test_a_scan_that_is_there_twice_is_refused(command, folder, tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("x.nii.gz", "y.nii.gz"):
        (scans / name).write_bytes((folder / "c.nii.gz").read_bytes())
    out = tmp_path / "scans.csv"
    flags = (f"--scans={scans}", f"--out={out}", "--split=0,0,1")
    result = command("manifest", *flags)
    assert result.status == 2
    assert "y.nii.gz: is the same scan as" in result.errors[-1]
    assert not out.exists()


@pytest.mark.parametrize("count", [3, 4, 6, 12, 25])
@pytest.mark.parametrize("shares", [(4, 1, 1), (0, 0, 1), (1, 0, 1), (1, 1, 1)])
def test_patients_are_split_in_proportion(shares, count):
    names = [f"p{number}" for number in range(count)]
    roles = split_patients(names, shares, 0)
    assert set(roles) == set(names)
    found = Counter(roles.values())
    for role, share in zip(ROLES, shares, strict=True):
        exact = count * share / sum(shares)
        assert abs(found[role] - exact) < 1.5
        assert (found[role] > 0) == (share > 0)
    assert split_patients(names[::-1], shares, 0) == roles
    if count > 3 and sum(share > 0 for share in shares) > 1:
        assert any(split_patients(names, shares, s) != roles for s in range(1, 9))


def test_too_few_patients_for_the_roles_are_refused():
    with pytest.raises(InputError, match="needs 3 patients and there are 2"):
        split_patients(["a", "b", "b"], (4, 1, 1), 0)
