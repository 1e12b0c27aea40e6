"""Methods side by side from the command line, against a known field."""

import csv
import json

import numpy as np
import pytest
from scipy import ndimage

from experiments.comparison import methods, runs, tables
from experiments.comparison.runs import measure
from regnet_jax.io import (
    LoadedPair,
    read_displacement,
    read_pairs,
    write_displacement,
    write_points,
)
from regnet_jax.io.images import write_image
from regnet_jax.spatial import Frame, Image, displacement_to_world, to_world
from tests.helpers.optional import needs

TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
FRAMES = {
    2: Frame((61, 70), (2.0, 2.0), (5.0, -3.0), TURN[:2, :2]),
    3: Frame((30, 33, 36), (2.0, 2.0, 2.0), (5.0, -3.0, 9.0), TURN),
}
COLUMNS = (
    *("name", "fixed", "moving", "fixed_points", "moving_points"),
    *("fixed_labels", "moving_labels", "displacement"),
)


def texture(shape):
    """HU with structures of some voxels everywhere."""
    noise = np.random.default_rng(2).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, 2.0, mode="wrap")
    return (300 * smooth / smooth.std() - 300).astype(np.float32)


def _at(image, points, order):
    places = np.moveaxis(points, -1, 0)
    return ndimage.map_coordinates(image, places, order=order, mode="nearest")


def known_pair(folder, d):
    """A pair in a turned frame and all that is known of it: its line."""
    frame = FRAMES[d]
    moving = texture(frame.shape)
    noise = np.random.default_rng(1).normal(size=(*frame.shape, d))
    u = ndimage.gaussian_filter(noise, (*(5,) * d, 0), mode="nearest")
    u *= 3.0 / np.abs(u).max()
    points = np.moveaxis(np.indices(frame.shape) + np.moveaxis(u, -1, 0), 0, -1)
    labels = (np.abs(moving - np.median(moving)) < 100).astype(np.uint8)
    images = {
        "fixed": _at(moving, points, 1),
        "moving": moving,
        "fixed_labels": _at(labels, points, 0),
        "moving_labels": labels,
    }
    for name, array in images.items():
        write_image(folder / f"{name}.nii.gz", array, frame)
    vectors = displacement_to_world(frame, u)
    write_displacement(folder / "displacement.nii.gz", vectors, frame)
    index = np.random.default_rng(0).integers(8, np.array(frame.shape) - 8, (9, d))
    places = to_world(frame, index)
    write_points(folder / "fixed_points.pts", places)
    write_points(folder / "moving_points.pts", places + vectors[tuple(index.T)])
    suffixes = {"fixed_points": ".pts", "moving_points": ".pts"}
    cells = [f"{name}{suffixes.get(name, '.nii.gz')}" for name in COLUMNS[1:]]
    return ["good", *cells]


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """Files of pairs in 2D and 3D, the first pair of each with an empty image."""
    made = {}
    for d in FRAMES:
        folder = tmp_path_factory.mktemp(f"compare{d}d")
        # What only the values tell is found when it is the pair's turn.
        nothing = np.zeros(FRAMES[d].shape, np.float32)
        write_image(folder / "nothing.nii.gz", nothing, FRAMES[d])
        bad = ["bad", "nothing.nii.gz", "moving.nii.gz", *[""] * 5]
        rows = [COLUMNS, bad, known_pair(folder, d)]
        with (folder / "pairs.csv").open("w") as file:
            csv.writer(file).writerows(rows)
        made[d] = folder / "pairs.csv"
    return made


def test_compare_measures_all_methods_on_a_pair(command, listed, tmp_path):
    names = ["affine", "demons"]
    result = command(
        "compare",
        *(f"--pairs={listed[2]}", f"--methods={','.join(names)}"),
        f"--out={tmp_path / 'out'}",
    )
    assert result.status == 0, result.err
    assert "failed: all on bad" in result.out
    report = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    assert [f["pair"] for f in report["failures"]] == ["bad"]
    summary = report["summary"]
    assert list(summary) == ["before", *names]
    for name in names:
        assert summary[name]["seconds"]["mean"] > 0
        assert 0.02 < summary[name]["memory"]["mean"] < 8
    before, after = summary["before"], summary["demons"]
    assert after["tre"]["mean"] < 0.8 * before["tre"]["mean"]
    assert {"endpoint", "hd95", "dice 1", "folding"} <= set(before)
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "Endpoint error" in page
    assert "all failed on bad" in page
    assert (tmp_path / "out" / "table.md").read_text("utf-8").count("\n") == 5


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("name", ["bspline", "elastix", "greedy"])
@pytest.mark.slow
def test_tool_reduces_the_error(listed, tmp_path, name, d):
    """In a process of its own: libraries of some tools crash in that of others."""
    package = methods.METHODS[name].package
    needs(methods.version(name) is not None, f"{package} is not installed")
    pair = read_pairs(listed[d])[1]
    truth, _ = read_displacement(pair.displacement)
    options = runs.Options("lung", "", 0, 300, str(tmp_path / "cache"))
    runs.run_method(name, pair, tmp_path, options)
    field = runs.read_field(tmp_path)
    inside = (slice(4, -4),) * d
    before, after = (
        np.linalg.norm(u - truth, axis=-1)[inside].mean() for u in (0 * truth, field)
    )
    assert after < 0.7 * before


def test_compare_goes_on_after_a_failing_network(command, listed, run3d, tmp_path):
    """A 3D network cannot register slices; the alignment can."""
    result = command(
        "compare",
        *(f"--pairs={listed[2]}", "--methods=regnet,affine", f"--model={run3d}"),
        f"--out={tmp_path}",
    )
    assert result.status == 0, result.err
    report = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert [f["method"] for f in report["failures"]] == ["all", "regnet"]
    assert "the network is 3D" in report["failures"][1]["reason"]
    assert set(report["summary"]) == {"before", "affine"}


@pytest.mark.slow
def test_compare_measures_network_and_refinement(command, listed, run2d, tmp_path):
    names = "regnet,regnet+refine"
    result = command(
        "compare",
        *(f"--pairs={listed[2]}", f"--methods={names}", f"--model={run2d}"),
        *(f"--out={tmp_path}", "--refine=2"),
    )
    assert result.status == 0, result.err
    summary = json.loads((tmp_path / "results.json").read_text("utf-8"))["summary"]
    assert list(summary) == ["before", "regnet", "regnet+refine"]
    plain, refined = (summary[name]["endpoint"]["mean"] for name in names.split(","))
    assert np.isfinite([plain, refined]).all()
    assert plain != refined


@pytest.mark.parametrize(
    ("flags", "fact"),
    [
        (["--methods=sorcery"], "sorcery: unknown"),
        (["--pairs=none.csv"], "no such file"),
        (["--setting=heart"], "setting"),
        (["--methods="], "none of them"),
    ],
)
def test_compare_refuses_bad_flags_in_one_line(command, listed, tmp_path, flags, fact):
    given = [f"--pairs={listed[2]}", f"--out={tmp_path / 'o'}", "--methods=affine"]
    result = command("compare", *given, *flags)
    assert result.status == 2
    assert len(result.errors) == 1
    assert fact in result.errors[0]
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("d", [2, 3])
def test_measure_finds_no_error_in_the_true_field(d):
    frame = FRAMES[d]
    moving = Image(texture(frame.shape), frame, "moving")
    truth = displacement_to_world(frame, np.full((*frame.shape, d), 1.0))
    fixed = np.roll(moving.array, -1, axis=tuple(range(d)))
    known = LoadedPair(Image(fixed, frame, "fixed"), moving)
    measured = measure(known, truth, truth)
    assert measured.endpoint.max < 1e-9
    assert measured.jacobian.folding_fraction == 0
    still = measure(known, truth, 0 * truth)
    assert still.endpoint.mean == pytest.approx(2 * np.sqrt(d))


def test_table_has_means_over_pairs_and_empty_cells():
    rows = [
        {
            "pair": "a",
            "method": "x",
            "values": {"tre": 1.0, "dice": 0.5, "dice 2": 0.5},
        },
        {"pair": "b", "method": "x", "values": {"tre": 3.0}},
        {"pair": "a", "method": "y", "values": {"seconds": 4.0}},
    ]
    head, body = tables.table(rows)
    assert head == [
        *("method", "pairs", "TRE (mm)", "Dice", "Dice, label 2", "time (s)")
    ]
    assert body == [
        ["x", "2", "2.00 ± 1.41", "0.500", "0.500", ""],
        ["y", "1", "", "", "", "4.0"],
    ]
    assert tables.markdown(rows).splitlines()[3] == "| y | 1 |  |  |  | 4.0 |"
