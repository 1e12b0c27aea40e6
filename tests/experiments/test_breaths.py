"""Breaths and fields from the command line, in files and in messages."""

import json
import re

import numpy as np
import pytest

from experiments.heldout.breaths import read_breath, sample_lungs
from regnet_jax.errors import InputError
from regnet_jax.evaluation import MotionStatistics

HEADER = "exhale_x,exhale_y,exhale_z,inhale_x,inhale_y,inhale_z"


def write_breath(path, matrix, count=70, header=HEADER, digits=3, side=200):
    fixed = np.random.default_rng(0).uniform(0, side, (count, 3)).round(digits)
    moving = (fixed @ np.transpose(matrix)).round(digits)
    rows = np.hstack([fixed, moving])
    np.savetxt(path, rows, "%.6g", ",", header=header, comments="")
    return path


def test_breaths_are_measured_beside_fields(command, tmp_path):
    """A breath in and its reverse, and linear fields, whose statistics are known."""
    grown = write_breath(tmp_path / "in.csv", np.diag([1, 1.1, 1.2]))
    shrunk = write_breath(tmp_path / "out.csv", np.diag([1, 1 / 1.1, 1 / 1.2]))
    out = tmp_path / "results"
    result = command(
        "breaths",
        f"--landmarks={grown},{shrunk}",
        "--families=affine",
        "--amplitudes=8",
        "--count=2",
        "--spacing=10",
        f"--out={out}",
    )
    assert result.status == 0, result.err
    assert result.errors == []
    found = json.loads((out / "statistics.json").read_text("utf-8"))
    assert list(found["breaths"]) == ["in", "out"]
    for breath in found["breaths"].values():
        assert breath["jacobian_median"] == pytest.approx(1.32, abs=1e-3)
        assert breath["irregular"] < 1e-4
        assert breath["correlation_near"] is None
        assert breath["left_right"] < 1e-6
    assert list(found["families"]) == ["affine 8 mm"]
    columns = found["families"]["affine 8 mm"]
    assert tuple(columns) == MotionStatistics._fields
    assert all(len(values) == 2 for values in columns.values())
    assert max(columns["irregular"]) < 1e-4
    assert max(columns["max"]) <= 8 * np.sqrt(3) + 1e-3
    np.testing.assert_allclose(columns["jacobian_p5"], columns["jacobian_p95"], 1e-4)
    assert min(columns["jacobian_p5"]) >= 1 - 1e-4
    table = (out / "table.md").read_text("utf-8")
    assert table in result.out
    assert len(table.splitlines()) == 2 + len(MotionStatistics._fields)
    assert re.search(r"\| determinant, median +\| +1.32 \| +1.32 \|", table)
    assert (out / "statistics.png").stat().st_size > 10_000
    assert f"to {out}" in result.out


@pytest.mark.parametrize(
    ("flags", "fact"),
    [
        (["--families=zero"], "--families zero: has no amplitude"),
        (["--families=other"], "--families other: has no amplitude"),
        (["--amplitudes=20,0"], "--amplitudes 0: give millimetres"),
        (["--amplitudes=wide"], "--amplitudes wide: give millimetres"),
        (["--landmarks=a.csv,a.csv"], "name each file once"),
        (["--landmarks="], "--landmarks: is empty; give a value"),
        (["--landmarks=nowhere.csv"], "does not exist"),
    ],
)
def test_bad_flags_give_one_line(command, tmp_path, flags, fact):
    path = write_breath(tmp_path / "a.csv", np.diag([1, 1, 1.2]))
    out = tmp_path / "results"
    result = command("breaths", f"--landmarks={path}", f"--out={out}", *flags)
    assert result.status == 2
    assert len(result.errors) == 1, result.err
    assert fact in result.errors[0]
    assert not out.exists()


BREATH = np.diag([1, 1, 1.2])


@pytest.mark.parametrize(
    ("matrix", "options", "fact"),
    [
        (np.eye(3), {}, "holds no motion"),
        (BREATH, {"count": 59}, "has 59 landmarks; give 60"),
        (BREATH, {"side": (200, 0, 200)}, "lie in one plane"),
        (BREATH, {"header": "a,b,c,d,e,f"}, "names no coordinates"),
        (BREATH, {"header": HEADER.replace("in", "ex")}, "names no coordinates"),
    ],
)
def test_landmarks_that_do_not_suffice_are_refused(tmp_path, matrix, options, fact):
    path = write_breath(tmp_path / "a.csv", matrix, **options)
    with pytest.raises(InputError, match=f"a.csv: .*{fact}"):
        read_breath(path)


def test_landmarks_of_a_plane_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    np.savetxt(path, np.ones((80, 4)), "%g", ",")
    with pytest.raises(InputError, match="holds landmarks of planes"):
        read_breath(path)


def test_whole_numbers_may_be_voxels_and_give_a_warning(command, tmp_path):
    path = write_breath(tmp_path / "a.csv", BREATH, digits=0)
    flags = (f"--landmarks={path},nowhere.csv", f"--out={tmp_path / 'results'}")
    result = command("breaths", *flags)
    assert result.status == 2
    warning, error = result.errors
    assert "a.csv: all of its coordinates are whole numbers" in warning
    assert "nowhere.csv: does not exist" in error


def test_fields_are_taken_in_the_lungs_and_in_millimetres():
    """A chest with lungs of another density than all around."""
    spacing, shape = 5.0, (24, 28, 32)
    image = np.full((*shape, 1), -1000.0)
    image[:, 3:-3, 3:-3] = 0.0
    image[4:20, 8:20, 6:14] = image[4:20, 8:20, 18:26] = -850.0
    field = np.moveaxis(np.indices(shape), 0, -1) / 10.0
    rng = np.random.default_rng(0)
    points, moves = sample_lungs(image, field, spacing, rng)
    assert points.shape == moves.shape == (300, 3)
    assert len(np.unique(points, axis=0)) == 300
    np.testing.assert_allclose(moves, points / 10)
    x, y, z = (points / spacing).T
    assert ((z >= 4) & (z < 20) & (y >= 8) & (y < 20)).all()
    assert (((x >= 6) & (x < 14)) | ((x >= 18) & (x < 26))).all()
