"""Manifests of scans: checksums, patients and roles, and what is refused."""

import hashlib
from pathlib import Path

import pytest

from regnet_jax.errors import InputError
from regnet_jax.io import ListedScan, checksum, read_scans, write_scans

COLUMNS = "path,sha256,patient,role,source\n"


def digest(*contents):
    return hashlib.sha256(b"".join(contents)).hexdigest()


@pytest.fixture
def folder(tmp_path):
    """Files whose content is their name."""
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in "abcde":
        (scans / name).write_text(name)
    return tmp_path


def row(name, patient, role, *, path=None, sha256=None):
    sha256 = sha256 or digest(name.encode())
    return f"{path or f'scans/{name}'},{sha256},{patient},{role},\n"


def listed(folder, *rows, columns=COLUMNS):
    path = folder / "scans.csv"
    path.write_text(columns + "".join(rows), "utf-8")
    return path


ROWS = [
    *(row("a", "p1", "test"), row("b", "p1", "test"), row("c", "p2", "training")),
    row("d", "p3", "validation"),
]


@pytest.mark.parametrize(
    ("role", "names"), [("test", "ab"), ("training", "c"), ("validation", "d")]
)
def test_the_scans_of_a_role_are_read(folder, role, names):
    found = read_scans(listed(folder, "# frozen\n", *ROWS), role)
    assert [scan.path for scan in found] == [folder / "scans" / n for n in names]
    assert [scan.sha256 for scan in found] == [digest(n.encode()) for n in names]
    assert {scan.role for scan in found} == {role}


def test_only_the_scans_of_the_role_have_to_be_there(folder):
    path = listed(folder, *ROWS)
    (folder / "scans" / "c").unlink()
    assert len(read_scans(path, "test")) == 2
    with pytest.raises(InputError, match="does not exist"):
        read_scans(path, "training")


def test_a_plain_list_has_no_roles(folder):
    path = folder / "list.txt"
    path.write_text("scans/a\nscans/b\n")
    assert read_scans(path, "training") == [
        ListedScan(folder / "scans" / name) for name in "ab"
    ]


def test_a_changed_scan_is_refused_with_both_digests(folder):
    path = listed(folder, *ROWS)
    (folder / "scans" / "b").write_text("B")
    with pytest.raises(InputError) as caught:
        read_scans(path, "test")
    text = str(caught.value)
    assert "\n" not in text
    for fact in (folder / "scans" / "b", path, digest(b"b"), digest(b"B")):
        assert str(fact) in text


@pytest.mark.parametrize(
    ("rows", "fact"),
    [
        ([row("a", "p", "test"), row("b", "p", "training")], "p is there for test and"),
        ([row("a", "p", "test"), row("b", "P", "training")], "P is there for test and"),
        ([row("a", "p", "test"), row("a", "q", "training")], "same scan as .*for test"),
        ([row("a", "p", "test"), row("a", "p", "test")], "line 3: is the same scan"),
        (
            [row("a", "p", "test"), row("b", "p", "test", path="scans/../scans/a")],
            "line 3: is the same scan",
        ),
        ([row("a", "p", "training")], "no scan for test, but 1 for training"),
        ([row("a", "p", "tests")], "'tests' is no role; there are training"),
        ([row("a", "p", "test", sha256="abc")], "'abc' is no sha256"),
        ([row("a", "", "test")], "line 2: has no patient"),
        ([row("a", "p", "")], "line 2: has no role"),
        (["scans/a,b\n"], "more or fewer cells"),
    ],
)
def test_a_manifest_with_errors_is_refused_in_one_line(folder, rows, fact):
    path = listed(folder, *rows)
    with pytest.raises(InputError, match=fact) as caught:
        read_scans(path, "test")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "fact"),
    [
        ("path,sha256,patient,part\n", "'part' is unknown; there are path, sha256"),
        ("path,sha256,patient\n", "has no role"),
        ("patient,path,role\n", "has no sha256"),
    ],
)
def test_columns_are_those_of_a_manifest(folder, columns, fact):
    cells = {"path": "scans/a", "sha256": digest(b"a"), "role": "test"}
    names = columns.strip().split(",")
    line = ",".join(cells.get(name, "p") for name in names)
    with pytest.raises(InputError, match=fact):
        read_scans(listed(folder, line, columns=columns), "test")


def test_what_is_written_is_read_wherever_the_manifest_lies(folder):
    names = ("#1.nii", " a, b.nii ", "~/c.nii", 'd "e".nii', "été.nii")
    scans = []
    for number, name in enumerate(names):
        path = folder / "scans" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
        scans.append(ListedScan(path, checksum(path), f"p{number}", "test", 'CC, "4"'))
    (folder / "lists").mkdir()
    for manifest in (folder / "lists" / "m.csv", folder / "scans" / "m.csv"):
        write_scans(manifest, scans)
        found = read_scans(manifest, "test")
        assert [s.path.resolve() for s in found] == [s.path for s in scans]
        assert [s.source for s in found] == ['CC, "4"'] * len(names)
        assert [s.sha256 for s in found] == [s.sha256 for s in scans]


def test_a_manifest_of_a_patient_in_two_roles_is_not_written(folder):
    scans = [
        ListedScan(Path(folder, "scans", name), digest(name.encode()), "p", role)
        for name, role in (("a", "test"), ("b", "training"))
    ]
    with pytest.raises(InputError, match="the patient p is there for test"):
        write_scans(folder / "m.csv", scans)
    assert not (folder / "m.csv").exists()


def test_checksums_are_those_of_sha256sum_over_all_files_of_a_scan(folder):
    scans = folder / "scans"
    assert checksum(scans / "a") == digest(b"a")
    assert checksum(scans) == digest(b"a", b"b", b"c", b"d", b"e")
    assert checksum(f"{scans}::2") == digest(b"a", b"b", b"c", b"d", b"e", b"2")
    header = b"NDims = 3\nElementDataFile = a\n"
    (folder / "scans" / "x.mhd").write_bytes(header)
    assert checksum(scans / "x.mhd") == digest(header, b"a")
    (folder / "scans" / "x.nhdr").write_bytes(b"NRRD0004\ndata file: b\n\n")
    assert checksum(scans / "x.nhdr") == digest(b"NRRD0004\ndata file: b\n\n", b"b")
    local = b"ElementDataFile = LOCAL\n123"
    (folder / "scans" / "x.mhd").write_bytes(local)
    assert checksum(scans / "x.mhd") == digest(local)
    (folder / "scans" / "x.mhd").write_bytes(b"ElementDataFile = LIST\na\nb\n")
    with pytest.raises(InputError, match="does not name one file of its values"):
        checksum(scans / "x.mhd")
    with pytest.raises(InputError, match="does not exist"):
        checksum(scans / "gone")
