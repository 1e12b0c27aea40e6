"""Many pairs in one run: rows, failures that stay alone, and what is done is done."""

import csv
import json
import os

import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.registration import RegistrationOptions, load_network
from regnet_jax.registration.batch import run_batch
from tests.helpers.networks import smooth_image

FILES = {
    "displacement.nii.gz",
    "report.html",
    "report.json",
    "transform.h5",
    "warped.nii.gz",
}


def store(path, array):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 2.0))
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images, landmarks and labels of planes, and a list of pairs of them."""
    folder = tmp_path_factory.mktemp("batch")
    for seed, name in enumerate("ab"):
        store(folder / f"{name}.mha", smooth_image((30, 34), seed))
        labels = (smooth_image((30, 34), seed) > -300).astype(np.uint8)
        store(folder / f"{name}_labels.mha", labels)
        points = "point\n3\n10 12\n30 20\n24 31.5\n"
        (folder / f"{name}.pts").write_text(points)
    store(folder / "level.mha", np.full((30, 34), 7.0, np.float32))
    # Their headers are those of any image.
    store(folder / "nan.mha", np.full((30, 34), np.nan, np.float32))
    (folder / "pairs.csv").write_text(
        "name,fixed,moving,fixed_points,moving_points,fixed_labels,moving_labels\n"
        "one,a.mha,b.mha,a.pts,b.pts,a_labels.mha,b_labels.mha\n"
        "two,nan.mha,b.mha,,,,\n"
        "three,b.mha,a.mha,,,,\n"
        "four,a.mha,level.mha,,,,\n"
    )
    return folder


@pytest.fixture(scope="module")
def batch(command, run2d, folder):
    def run(out, *arguments, pairs="pairs.csv"):
        return command(
            "register",
            f"--pairs={folder / pairs}",
            f"--out={folder / out}",
            f"--model={run2d}",
            "--initial=center",
            *arguments,
        )

    return run


def test_whole_list_is_checked_before_the_first_pair(batch, folder):
    (folder / "broken.mha").write_text("no image")
    (folder / "twice.pts").write_text("point\n1\n10 12\n")
    volume = sitk.GetImageFromArray(smooth_image((6, 7, 8), 0))
    sitk.WriteImage(volume, str(folder / "volume.mha"))
    (folder / "bad.csv").write_text(
        "name,fixed,moving,fixed_mask,immobile,fixed_points,moving_points\n"
        "good,a.mha,b.mha,,,,\n"
        "broken,broken.mha,b.mha,,,,\n"
        "gone,a.mha,gone.mha,,,,\n"
        "mask,a.mha,b.mha,volume.mha,away.mha,,\n"
        "points,a.mha,b.mha,,,a.pts,twice.pts\n"
    )
    result = batch("refused", pairs="bad.csv")
    assert result.status == 2
    assert len(result.errors) == 1
    assert "bad.csv: 4 of 5 pairs cannot be used" in result.errors[0]
    for fact in (
        "broken: ",
        "gone.mha: does not exist",
        "volume.mha: is 3D where 2D is needed",
        "away.mha: does not exist",
        "points: ",
    ):
        assert fact in result.errors[0]
    assert not (folder / "refused").exists()


def rows(path):
    with path.open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def times(folder):
    return {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}


@pytest.fixture(scope="module")
def first(batch, folder):
    """The first run, in which two pairs fail."""
    return batch("out"), folder / "out"


def test_failed_pairs_are_listed_and_the_others_registered(first):
    result, out = first
    assert result.status == 2
    assert "2 of 4 pairs failed (two, four)" in result.errors[-1]
    table = rows(out / "pairs.csv")
    assert list(table) == ["one", "two", "three", "four"]
    assert [row["status"] for row in table.values()] == [
        *("registered", "failed", "registered", "failed"),
    ]
    assert "nan.mha: all of its values are NaN" in table["two"]["error"]
    assert "level.mha: has the same value everywhere" in table["four"]["error"]
    assert {p.name for p in out.iterdir()} == {"one", "three", "pairs.csv"}
    for name in ("one", "three"):
        assert {p.name for p in (out / name).iterdir()} == FILES


def test_rows_agree_with_the_reports(first):
    _, out = first
    row = rows(out / "pairs.csv")["one"]
    report = json.loads((out / "one" / "report.json").read_text("utf-8"))
    for moment in ("before", "after"):
        dice = report["overlap"][moment]["1"]["dice"]
        correlation = report["similarity"][moment]["correlation"]
        error = report["tre"][moment]["mean"]
        assert float(row[f"dice_{moment}"]) == pytest.approx(dice, rel=1e-5)
        assert float(row[f"correlation_{moment}"]) == pytest.approx(
            correlation, rel=1e-5
        )
        assert float(row[f"tre_{moment}"]) == pytest.approx(error, abs=1e-5)
    assert float(row["tre_before"]) == 0.0
    assert float(row["tre_after"]) > 0.1
    page = (out / "one" / "report.html").read_text("utf-8")
    assert "Landmark errors" in page
    assert "HD95 after, mm" in page
    assert "Landmark errors" not in (out / "three" / "report.html").read_text("utf-8")


def test_second_run_leaves_finished_pairs_alone(first, batch, folder):
    _, out = first
    before = times(out / "one")
    pairs = (folder / "pairs.csv").read_text("utf-8").replace("nan.mha", "a.mha")
    (folder / "mended.csv").write_text(pairs.replace("level", "b"))
    result = batch("out", pairs="mended.csv")
    assert result.status == 0, result.err
    assert "2 finished before, 2 registered" in result.out
    assert times(out / "one") == before
    table = rows(out / "pairs.csv")
    assert table["one"]["status"] == "finished before"
    assert table["one"]["tre_after"] != ""
    assert {row["error"] for row in table.values()} == {""}
    # Another request is another result.
    result = batch("out", "--initial=none", "--shard=1/4", pairs="mended.csv")
    assert "1 registered" in result.out
    again = "out", "--initial=none", "--shard=1/4"
    assert "1 finished before" in batch(*again, pairs="mended.csv").out
    # So is that of a file that was changed since.
    image = folder / "a.mha"
    time = image.stat().st_mtime
    os.utime(image, (time + 1e4, time + 1e4))
    assert "1 registered" in batch(*again, pairs="mended.csv").out
    os.utime(image, (time, time))
    assert times(out / "one") != before
    # So is that of a file in its place, also of one that is older than the report.
    assert "1 registered" in batch(*again, pairs="mended.csv").out
    aside = image.rename(folder / "aside.mha")
    image.write_bytes(aside.read_bytes())
    os.utime(image, (time - 1e6, time - 1e6))
    assert "1 registered" in batch(*again, pairs="mended.csv").out
    image.unlink()
    aside.rename(image)
    assert "1 registered" in batch(*again, pairs="mended.csv").out
    assert "1 finished before" in batch(*again, pairs="mended.csv").out
    # So is one of which a file was lost.
    further = *again, "--write=jacobian"
    assert "1 registered" in batch(*further, pairs="mended.csv").out
    assert "1 finished before" in batch(*further, pairs="mended.csv").out
    (out / "one" / "jacobian.nii.gz").unlink()
    assert "1 registered" in batch(*further, pairs="mended.csv").out
    # So is one of another version.
    report = out / "one" / "report.json"
    assert "1 finished before" in batch(*further, pairs="mended.csv").out
    content = json.loads(report.read_text("utf-8"))
    content["versions"]["regnet_jax"] = "0.0.1"
    report.write_text(json.dumps(content), "utf-8")
    assert "1 registered" in batch(*further, pairs="mended.csv").out


def test_shards_divide_the_pairs(batch, folder):
    (folder / "good.json").write_text(
        json.dumps(
            [
                {"name": name, "fixed": "a.mha", "moving": "b.mha"}
                for name in ("p1", "p2", "p3")
            ]
        )
    )
    found = []
    for part in (1, 2):
        result = batch("parts", f"--shard={part}/2", pairs="good.json")
        assert result.status == 0, result.err
        found.append(list(rows(folder / "parts" / f"pairs-{part}-of-2.csv")))
    assert found == [["p1", "p3"], ["p2"]]
    result = batch("parts", "--shard=4/4", pairs="good.json")
    assert result.status == 0
    assert "none in this shard" in result.out
    assert rows(folder / "parts" / "pairs-4-of-4.csv") == {}


def test_planes_and_volumes_of_a_list_take_the_networks_of_their_dimension(
    run2d, run3d, folder, tmp_path, monkeypatch, caplog
):
    """A list without a model may hold both, and the reports say which was taken."""
    for seed, name in enumerate("cd"):
        volume = sitk.GetImageFromArray(smooth_image((6, 8, 10), seed))
        volume.SetSpacing((4.0, 4.0, 4.0))
        sitk.WriteImage(volume, str(tmp_path / f"{name}.mha"))
    listed = tmp_path / "pairs.csv"
    plane = f"plane,{folder / 'a.mha'},{folder / 'b.mha'}"
    listed.write_text(f"name,fixed,moving\n{plane}\nvolume,c.mha,d.mha\n")
    networks = {"lung2d": load_network(run2d), "lung": load_network(run3d)}
    out, options = tmp_path / "out", RegistrationOptions(initial="none")
    load = networks.__getitem__
    run_batch(listed, out, options, load=load)
    notice = "the images are 2D and no model was named, so lung2d was used"
    said = [r.getMessage() for r in caplog.records]
    assert said.count(f"{folder / 'a.mha'}: {notice}") == 1
    for name, model in (("plane", "lung2d"), ("volume", "lung")):
        report = json.loads((out / name / "report.json").read_text("utf-8"))
        assert report["model"] == model
        assert (notice in report["warnings"]) == (name == "plane")
    run_batch(listed, out, options, load=load)
    states = {name: row["status"] for name, row in rows(out / "pairs.csv").items()}
    assert states == dict.fromkeys(("plane", "volume"), "finished before")
    # Only pages that are wanted and not there have to be made.
    (out / "plane" / "report.html").unlink()
    run_batch(listed, out, options, load=load, page=False)
    states = {name: row["status"] for name, row in rows(out / "pairs.csv").items()}
    assert states == dict.fromkeys(("plane", "volume"), "finished before")
    run_batch(listed, out, options, load=load)
    states = {name: row["status"] for name, row in rows(out / "pairs.csv").items()}
    assert states == {"plane": "registered", "volume": "finished before"}
    assert (out / "plane" / "report.html").is_file()
    # A model that is named is for all of them.
    named = RegistrationOptions(model="lung", initial="none")
    with pytest.raises(InputError, match=r"1 of 2 pairs .*plane: .* is 2D where 3D is"):
        run_batch(listed, out, named, load=load)


def test_coordinates_of_points_are_said_for_a_pair_and_for_a_list(
    batch, command, run2d, folder, tmp_path
):
    """Points of a file that does not tell: in mm RAS, where voxels would lie outside.

    Both images have the same points, so the error is what the transform does to them.
    """
    points = np.array([[10.5, 12.0], [30.0, 20.0], [24.0, 31.5]])
    np.savetxt(folder / "ras.csv", -points, "%g", ",")
    (folder / "points.csv").write_text(
        "name,fixed,moving,fixed_points,moving_points\n"
        "ras,a.mha,b.mha,ras.csv,./ras.csv\n"
    )
    result = batch("coordinates", pairs="points.csv")
    assert result.status == 2
    assert "lies outside of its image" in result.errors[-1]
    result = batch("coordinates", "--point_coordinates=ras", pairs="points.csv")
    assert result.status == 0, result.err
    alone = command(
        "register", f"--fixed={folder / 'a.mha'}", f"--moving={folder / 'b.mha'}",
        f"--fixed_points={folder / 'ras.csv'}", "--initial=center",
        f"--moving_points={folder / 'ras.csv'}", f"--model={run2d}",
        f"--out={tmp_path / 'alone'}", "--point_coordinates=ras",
    )  # fmt: skip
    assert alone.status == 0, alone.err
    for out in (folder / "coordinates" / "ras", tmp_path / "alone"):
        report = json.loads((out / "report.json").read_text("utf-8"))
        transform = sitk.ReadTransform(str(out / "transform.h5"))
        moved = [np.subtract(transform.TransformPoint(p), p) for p in points.tolist()]
        expected = np.linalg.norm(moved, axis=1).mean()
        assert report["tre"]["after"]["mean"] == pytest.approx(expected, abs=1e-4)
        assert report["tre"]["before"]["mean"] == 0.0
        assert report["request"]["point_coordinates"] == "ras"
        assert not any("does not say" in line for line in report["warnings"])


def test_plane_without_a_model_takes_lung2d_and_warns_once(command, folder, tmp_path):
    result = command(
        "register", f"--fixed={folder / 'a.mha'}", f"--moving={folder / 'b.mha'}",
        f"--out={tmp_path}", "--initial=none",
    )  # fmt: skip
    assert result.status == 0, result.err
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    # Each warning is printed once.
    assert len(result.errors) == len(report["warnings"]) > 0
    for line, warning in zip(result.errors, report["warnings"], strict=True):
        assert f"a.mha: {warning}" in line
    assert report["model"] == "lung2d"
    assert "so lung2d was used" in report["warnings"][0]
    assert "so lung2d was used" in (tmp_path / "report.html").read_text("utf-8")


def test_formats_write_further_files_and_profile_prints_the_phases(
    command, run2d, folder, tmp_path
):
    result = command(
        "register", f"--fixed={folder / 'a.mha'}", f"--moving={folder / 'b.mha'}",
        f"--out={tmp_path}", f"--model={run2d}", "--initial=none", "--profile",
        "--format=ants", "--format=elastix", "--inverse_consistent",
        "--intensity=5,95", "--noreport",
    )  # fmt: skip
    assert result.status == 0, result.err
    assert f"wrote {tmp_path}/report.json, transform.h5" in result.out
    assert {p.name for p in tmp_path.iterdir()} == FILES - {"report.html"} | {
        *("ants_1Warp.nii.gz", "ants_0GenericAffine.mat", "transform_elastix.txt"),
    }
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert report["parameters"]["intensity"] == {
        "fixed": "5,95",
        "moving": "5,95",
        "network": "auto",
        "given": True,
    }
    assert report["parameters"]["disagreement"]["mean_mm"] > 0
    assert report["request"]["formats"] == ["ants", "elastix"]
    lines = [line.split() for line in result.out.splitlines()]
    seconds = {" ".join(w[:-4]): float(w[-4]) for w in lines if w[-1:] == ["%"]}
    total = seconds.pop("all of these")
    assert {"network", "reading", "alignment", "prediction"} <= set(seconds)
    assert total == pytest.approx(sum(seconds.values()), abs=0.05)
    assert lines[-1][-1] == "GiB"


BAD = {
    "no-list": (["--pairs=gone.csv"], "gone.csv"),
    "one-of-a-pair": (["--pairs=gone.csv", "--fixed=a.mha"], "--fixed"),
    "mask-of-a-pair": (["--pairs=gone.csv", "--moving_mask=a.mha"], "--moving_mask"),
    "shard": (["--pairs=PAIRS", "--shard=3/2"], "--shard 3/2"),
    "shard-zero": (["--pairs=PAIRS", "--shard=0/2"], "--shard 0/2"),
    "shard-word": (["--pairs=PAIRS", "--shard=half"], "--shard half"),
    "shard-alone": (["--fixed=a", "--moving=b", "--shard=1/2"], "--shard"),
    "column": (["--pairs=COLUMN"], "'colour' is unknown"),
    "intensity": (["--pairs=PAIRS", "--intensity=pet"], "pet"),
    "format": (["--pairs=PAIRS", "--format=minc"], "minc"),
    "points": (["--fixed=a", "--moving=b", "--fixed_points=c"], "--moving_points"),
    "model": (["--pairs=PAIRS", "--model=gone"], "gone"),
    "initial": (["--pairs=PAIRS", "--initial=a.tfm,gone.tfm"], "a.tfm: does not exist"),
    "initial-word": (["--pairs=PAIRS", "--initial=elastic"], "'elastic' is no alignm"),
    "coordinates": (
        ["--pairs=PAIRS", "--point_coordinates=mm"],
        "is 'mm'; give one",
    ),
    "coordinates-alone": (
        ["--fixed=a", "--moving=b", "--point_coordinates=lps"],
        "--point_coordinates: is for landmarks",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line(command, tmp_path, case):
    (tmp_path / "PAIRS").write_text("name,fixed,moving\none,a.mha,b.mha\n")
    (tmp_path / "COLUMN").write_text("name,fixed,moving,colour\none,a,b,red\n")
    arguments, names = BAD[case]
    arguments = [a.replace("--pairs=", f"--pairs={tmp_path}/") for a in arguments]
    out = tmp_path / "out"
    result = command("register", f"--out={out}", *arguments)
    assert result.status == 2, result
    assert len(result.errors) == 1, result.err
    assert names in result.errors[0]
    assert not out.exists()
