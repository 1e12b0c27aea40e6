"""Lists of pairs: what is read, and what is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.io import PairPaths, read_pair, read_pairs

CSV = """\
name, fixed, moving, fixed_points, moving_points, patient
one, a.nii.gz, /else/b.nii.gz, , ,
two, sub/c.mha, d.mha, c.csv, d.csv, P/7
"""


def test_csv_and_json_give_the_same_pairs(tmp_path):
    (tmp_path / "pairs.csv").write_text(CSV)
    rows = [
        {"name": "one", "fixed": "a.nii.gz", "moving": "/else/b.nii.gz"},
        {
            "name": "two",
            "fixed": "sub/c.mha",
            "moving": "d.mha",
            "fixed_mask": None,
            "fixed_points": "c.csv",
            "moving_points": "d.csv",
            "patient": "P/7",
        },
    ]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    expected = [
        PairPaths("one", tmp_path / "a.nii.gz", Path("/else/b.nii.gz")),
        PairPaths(
            "two",
            tmp_path / "sub/c.mha",
            tmp_path / "d.mha",
            fixed_points=tmp_path / "c.csv",
            moving_points=tmp_path / "d.csv",
            patient="P/7",
        ),
    ]
    assert read_pairs(tmp_path / "pairs.csv") == expected
    assert read_pairs(tmp_path / "pairs.json") == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("first", ["", "sep=;\n", '"SEP=;"\n'])
def test_read_pairs_reads_tables_of_spreadsheets(tmp_path, encoding, first):
    """Marks of encodings, the line of Excel, and columns named by people."""
    table = f"{first}Name;FIXED;Moving ;Fixed mask\nÄ;b;c;d\n"
    (tmp_path / "pairs.csv").write_text(table, encoding)
    names = ("b", "c", "d")
    expected = PairPaths("Ä", *(tmp_path / name for name in names))
    assert read_pairs(tmp_path / "pairs.csv") == [expected]


NAMES = (
    *(
        "patient #2.nii",
        "50 % of it.mha",
        "été, Müller; 肺.nii",
        "a\\b.nii",
        "a\tb.nii",
    ),
    *("no\u00a0break \u2028 x\x85y.nii", 'a "b" c.nii', "x::1.2.3", "~tilde.nii"),
)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_read_pairs_takes_any_file_name_and_delimiter(tmp_path, delimiter, end):
    path = tmp_path / "pairs.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        file.write(f"# pairs{end}")
        # An empty column, as spreadsheets leave them.
        table = csv.writer(file, delimiter=delimiter, lineterminator=end)
        table.writerow(["name", "fixed", "moving", ""])
        for k, name in enumerate(NAMES):
            table.writerow([f"pair{k}", name, f"./#{name}", ""])
        file.write(delimiter * 3 + end)
    pairs = read_pairs(path)
    assert [pair.fixed for pair in pairs] == [tmp_path / name for name in NAMES]
    assert [pair.moving for pair in pairs] == [tmp_path / f"#{name}" for name in NAMES]


def test_read_pairs_expands_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/some one")
    for suffix, text in (
        ("csv", "name,fixed,moving\na,~/b.nii,~c.nii\n"),
        ("json", '[{"name": "a", "fixed": "~/b.nii", "moving": "~c.nii"}]'),
    ):
        (tmp_path / f"pairs.{suffix}").write_text(text)
        pair = read_pairs(tmp_path / f"pairs.{suffix}")[0]
        assert pair.fixed == Path("/home/some one/b.nii")
        assert pair.moving == tmp_path / "~c.nii"


@pytest.mark.parametrize(
    ("name", "content", "fact"),
    [
        ("p.csv", "", "lists no pair"),
        ("p.csv", "name,fixed,moving\n", "lists no pair"),
        ("p.csv", "name,fixed\na,b\n", "line 2: has no moving"),
        ("p.csv", "name,fixed,moving\n,b,c\n", "line 2: has no name"),
        ("p.csv", "name,fixed,moving\na,b\n", "line 2: has more or fewer cells"),
        ("p.csv", "name,fixed,moving\na,b,c,d\n", "line 2: has more or fewer cells"),
        ("p.csv", "name,fixed,moving,wrong\na,b,c,d\n", "'wrong' is unknown"),
        ("p.csv", "name,fixed,moving\n../a,b,c\n", "cannot name a folder"),
        ("p.csv", "name,fixed,moving\na,b,c\na,d,e\n", "a is there twice"),
        ("p.csv", "name,fixed,moving\nPat,b,c\npat,d,e\n", "Pat is there twice"),
        (
            "p.csv",
            "name,fixed,moving,fixed_labels\na,b,c,d\n",
            "line 2: has no moving_labels",
        ),
        ("p.csv", "name,fixed,moving,fixed\na,b,c,d\n", "two columns 'fixed'"),
        ("p.csv", "name,fixed,moving,Fixed\na,b,c,d\n", "two columns 'fixed'"),
        ("p.csv", "a,b.nii,c.nii\n", "first line names the columns, and 'a' is"),
        ("p.csv", "name,fixed,moving\na,b,c\n".encode("utf-16-le"), "not UTF-8 text"),
        ("p.csv", 'name,fixed,moving\na,"b,c\nd,e,f\n', "is not valid CSV"),
        ("p.csv", "name,fixed,moving\n\n# a\na,b\n", "line 4: has more or fewer"),
        ("p.csv", b"\xff\xfe\x00", "is not UTF-8 text"),
        (
            "p.csv",
            b"name,fixed,moving\na,M\xfcller.nii,c\n",
            "not UTF-8 text, see line 2",
        ),
        ("p.json", "{", "is not valid JSON"),
        ("p.json", "[" * 100_000, "is not valid JSON"),
        ("p.json", '[{"name": ' + "9" * 5000 + "}]", "is not valid JSON"),
        ("p.json", '[{"name": "a", "name": "b"}]', "has 'name' twice"),
        ("p.json", "[]", "lists no pair"),
        ("p.json", "{}", "not a list of objects"),
        ("p.json", '[{"name": 3}]', "pair 1: give text"),
        ("p.json", '[{"name": "a", "fixed": "b"}]', "pair 1: has no moving"),
    ],
)
def test_read_pairs_refuses_malformed_lists(tmp_path, name, content, fact):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=fact) as error:
        read_pairs(path)
    assert str(path) in str(error.value)


def test_labels_of_the_same_size_in_another_place_get_a_warning(tmp_path, caplog):
    for name, spacing in (("a", 2.0), ("b", 2.0), ("labels", 2.0), ("plain", 1.0)):
        array = np.random.default_rng(0).integers(0, 99, (5, 6, 7)).astype(np.int16)
        image = sitk.GetImageFromArray(array + (name == "b"))
        image.SetSpacing([spacing] * 3)
        sitk.WriteImage(image, tmp_path / f"{name}.mha")
    a, b, labels, plain = (tmp_path / f"{n}.mha" for n in ("a", "b", "labels", "plain"))
    read_pair(PairPaths("pair", a, b, fixed_labels=labels, moving_labels=labels))
    assert not caplog.records
    read_pair(PairPaths("pair", a, b, fixed_labels=labels, moving_labels=plain))
    assert [m.partition(":")[0] for m in caplog.messages] == [str(plain)]
    assert "lies up to 8.77 mm elsewhere" in caplog.text


def test_read_pairs_refuses_a_missing_list(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_pairs(tmp_path / "none.csv")
