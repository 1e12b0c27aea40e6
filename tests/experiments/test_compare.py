"""Methods side by side from the command line, against a known field."""

import csv
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from experiments.comparison import (
    elastix_parameters,
    greedy,
    methods,
    records,
    results,
    runs,
    tables,
)
from experiments.comparison.measures import (
    find_regions,
    flatten,
    measure,
    read_truth,
)
from experiments.comparison.methods import Task, Variant
from experiments.comparison.records import describe_run
from experiments.comparison.simpleitk import demons
from regnet_jax.errors import InputError
from regnet_jax.io import (
    LoadedPair,
    PairPaths,
    read_displacement,
    read_pairs,
    write_displacement,
    write_points,
)
from regnet_jax.io.images import write_image
from regnet_jax.spatial import (
    Frame,
    Image,
    affine_transform,
    displacement_to_world,
    map_points,
    sample_transform,
    to_world,
)
from tests.helpers.commands import ROOT
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
    assert result.status == 2
    assert "1 of its registrations failed, which" in result.errors[-1]
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
    assert "neither is accuracy" in page
    text = (tmp_path / "out" / "table.md").read_text("utf-8")
    assert "**TRE (mm)**" in text
    # Of the pairs, the bad one counts as failed.
    assert re.search(r"\| demons +\| +1 \| +1 \| +1 \| +0 \|", text)
    assert "TRE (mm)" in result.out


def test_compare_goes_on_where_it_stopped(command, listed, tmp_path):
    """With another method it registers by that one alone, and damage is repaired."""
    out = tmp_path / "out"
    given = ("compare", f"--pairs={listed[2]}", f"--out={out}")
    command(*given, "--methods=affine")
    first = (out / "pairs" / "good" / "affine.json").read_text("utf-8")
    result = command(*given, "--methods=affine,demons")
    assert "note: results and times of earlier runs: 1" in result.out
    assert (out / "pairs" / "good" / "affine.json").read_text("utf-8") == first
    fresh = json.loads((out / "results.json").read_text("utf-8"))
    result = command(*given, "--methods=affine,demons")
    assert "of earlier runs: 2" in result.out
    again = json.loads((out / "results.json").read_text("utf-8"))
    assert again["summary"] == fresh["summary"]
    assert [row.pop("reused", None) for row in again["rows"]] == [None, True, True]
    assert [row.pop("reused", None) for row in fresh["rows"]] == [None, True, False]
    assert again["rows"] == fresh["rows"]
    record, drawing = (out / "pairs" / "good" / f"demons.{s}" for s in ("json", "npy"))
    record.write_text(record.read_text("utf-8")[:99], "utf-8")
    assert "of earlier runs: 1" in command(*given, "--methods=affine,demons").out
    drawing.write_bytes(b"")
    assert "of earlier runs: 1" in command(*given, "--methods=affine,demons").out


def test_another_alignment_is_another_registration(listed, tmp_path, monkeypatch):
    """Of the methods that start from it, and not of the others."""
    ran = {"seconds": 1.0, "registration_seconds": 1.0, "cpu_seconds": 1.0}
    ran |= {"peak_gib": 0.1, "notes": []}
    field = np.zeros((*FRAMES[2].shape, 2))
    calls, start = [], {"matrix": np.eye(3).tolist()}

    def run(variant, pair, options, log, initial=None):
        calls.append(variant.label)
        return ran | {"alignment": start}, field

    monkeypatch.setattr(results, "_run", run)
    pair = read_pairs(listed[2])[1]
    options = runs.Options("lung", "", 300, "cache")
    variants = [Variant("greedy"), Variant("greedy", "full", "own")]
    compared = results.compare_on(pair, variants, options, tmp_path)
    assert [row.get("reused") for row in compared.rows] == [None, False, False]
    compared = results.compare_on(pair, variants, options, tmp_path)
    # The alignment was not asked for, but its time is in that of greedy.
    assert (compared.reused, len(calls)) == (3, 3)
    start["matrix"] = (2 * np.eye(3)).tolist()
    (tmp_path / "affine.json").unlink()
    calls.clear()
    results.compare_on(pair, variants, options, tmp_path)
    assert calls == ["affine", "greedy"]


def test_a_failed_alignment_fails_the_methods_that_start_from_it(
    listed, tmp_path, monkeypatch
):
    ran = {"seconds": 1.0, "registration_seconds": 1.0, "cpu_seconds": 1.0}
    ran |= {"peak_gib": 0.1, "notes": []}
    field = np.zeros((*FRAMES[2].shape, 2))

    def run(variant, pair, options, log, initial=None):
        if variant.method == "affine":
            raise InputError("took more than 1 s")
        assert initial is None
        return ran, field

    monkeypatch.setattr(results, "_run", run)
    pair = read_pairs(listed[2])[1]
    options = runs.Options("lung", "", 1, "cache")
    variants = [Variant(m) for m in ("affine", "greedy")]
    variants.append(Variant("greedy", "full", "own"))
    compared = results.compare_on(pair, variants, options, tmp_path)
    assert [row["method"] for row in compared.rows] == [
        *("before", "greedy, own alignment")
    ]
    assert [failure["method"] for failure in compared.failures] == ["affine", "greedy"]
    assert all("took more than 1 s" in one["reason"] for one in compared.failures)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("shape", lambda n: n - 1),
        ("spacing", lambda s: 1.05 * s),
        ("origin", lambda x: x + 0.1),
        ("direction", lambda cosine: -cosine),
    ],
)
@pytest.mark.parametrize("d", [2, 3])
def test_a_truth_on_another_grid_is_refused(tmp_path, d, name, change):
    frame = FRAMES[d]
    changed = [change(value) for value in getattr(frame, name)]
    other = dataclasses.replace(frame, **{name: changed})
    vectors = np.ones((*other.shape, d))
    write_displacement(tmp_path / "u.mha", vectors, other)
    pair = PairPaths("p", "fixed.mha", "moving.mha", displacement=tmp_path / "u.mha")
    with pytest.raises(InputError, match="is not on the grid of"):
        read_truth(pair, frame)
    np.testing.assert_allclose(read_truth(pair, other), vectors, atol=1e-6)


def test_demons_continue_their_field_to_the_edge_of_a_finer_level():
    """On sizes that the levels do not divide, where ITK's resampling writes zero."""
    frame = Frame((35, 51, 35), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), np.eye(3))
    moving = texture(frame.shape)
    u = np.zeros((*frame.shape, 3)) + 4.0
    points = np.moveaxis(np.indices(frame.shape), 0, -1) + u / 2.0
    images = [Image(a, frame, "image") for a in (_at(moving, points, 1), moving)]
    field = demons(Task(*images, setting="lung", initial=np.eye(4)))
    error = np.linalg.norm(field - u, axis=-1)
    last = error[-1].mean(), error[:, -1].mean(), error[..., -1].mean()
    assert max(last) < 0.15, last


def test_records_depend_on_the_packages_that_compute(monkeypatch):
    options = runs.Options("lung", "lung", 60.0, "cache")
    start = {"matrix": np.eye(4).tolist()}

    def described(method, initial):
        return describe_run(Variant(method), "1", options, 3, initial)

    cases = [("greedy", start), ("affine", None), ("regnet", start)]
    usual = [described(*case) for case in cases]
    version = records.metadata.version
    for package, changes in {
        "jax": [False, True, True],
        "scipy": [True, True, True],
        "absl-py": [False, False, False],
    }.items():
        monkeypatch.setattr(
            records.metadata,
            "version",
            lambda name, package=package: version(name) + "x" * (name == package),
        )
        now = [described(*case) for case in cases]
        assert [a != b for a, b in zip(now, usual, strict=True)] == changes


def test_records_depend_on_what_a_method_uses_alone(run2d, run3d):
    def described(method, resolution="full", **changes):
        options = runs.Options("lung", str(run3d), 60.0, "cache")
        variant = Variant(method, resolution)
        return describe_run(variant, "1", options._replace(**changes), 3)

    other = {"model": str(run2d)}
    for method, uses_model in (("demons", False), ("regnet-fast", True)):
        usual = described(method)
        assert (described(method, **other) != usual) == uses_model
        assert described(method, setting="default") != usual
        assert described(method, patience=9.0, cache="elsewhere") == usual
    network = described("demons", "network")
    assert network != described("demons")
    assert network != described("demons", "network", **other)


def test_records_depend_on_the_code_behind_them(monkeypatch):
    """That of the alignment counts where its result is not known."""
    read = Path.read_bytes
    start = {"matrix": np.eye(4).tolist()}

    def described(method, changed, initial=start):
        def changing(path):
            return read(path) + b"#" * path.as_posix().endswith(changed)

        monkeypatch.setattr(Path, "read_bytes", changing)
        records.code_checksum.cache_clear()
        options = runs.Options("lung", "lung", 60.0, "cache")
        return describe_run(Variant(method), "1", options, 3, initial)

    for changed, counts in {
        "evaluation/landmarks.py": {"greedy", "regnet", "affine"},
        "comparison/worker.py": {"greedy", "regnet", "affine"},
        "registration/alignment/linear.py": {"regnet", "affine"},
        "comparison/tables.py": set(),
        "training/loop.py": set(),
    }.items():
        for method in ("greedy", "regnet", "affine"):
            initial = None if method == "affine" else start
            differs = described(method, changed, initial) != described(
                method, "nothing", initial
            )
            assert differs == (method in counts), (changed, method)
    records.code_checksum.cache_clear()


def _started(d):
    """A linear alignment that is 3 mm off and shears a little, as a run returns it."""
    matrix = np.eye(d + 1)
    matrix[0, 1], matrix[1, d] = 0.02, 3.0
    matrix[:d, d] -= (matrix[:d, :d] - np.eye(d)) @ FRAMES[d].centre
    return {"matrix": matrix.tolist(), "seconds": 100.0, "cpu_seconds": 0.0}


def _errors(listed, d, folder, variant, **given):
    """What a run returns, and mean errors where it starts and where it ends."""
    pair = read_pairs(listed[d])[1]
    truth, _ = read_displacement(pair.displacement)
    options = runs.Options("lung", "", 300, str(folder / "cache"))
    log = folder / "run.log"
    ran = runs.run_method(variant, pair, folder, options, log=log, **given)
    assert not log.exists()
    field = runs.read_field(folder)
    start = 0 * truth
    if variant.alignment == "shared" and "initial" in given:
        start = affine_transform(given["initial"]["matrix"])
        start = sample_transform(start, FRAMES[d])
    inside = (slice(4, -4),) * d
    before, after = (
        np.linalg.norm(u - truth, axis=-1)[inside].mean() for u in (start, field)
    )
    return ran, before, after


@pytest.mark.parametrize(
    ("name", "d", "alignment"),
    [
        ("bspline", 2, "shared"),
        ("bspline", 3, "shared"),
        ("elastix-short", 2, "own"),
        ("elastix-short", 3, "shared"),
        ("greedy", 2, "shared"),
        ("greedy", 3, "own"),
        ("ants", 2, "own"),
        ("ants", 3, "shared"),
        ("convexadam", 3, "shared"),
    ],
)
@pytest.mark.slow
def test_tool_reduces_the_error(listed, tmp_path, name, d, alignment):
    """In a process of its own: libraries of some tools crash in that of others."""
    package = methods.METHODS[name].package
    if name in ("ants", "convexadam") and methods.version(name) is None:
        # CI does not install them: antspyx allows other versions than the lock.
        pytest.skip(f"{package} is not installed")
    needs(methods.version(name) is not None, f"{package} is not installed")
    variant = Variant(name, "full", alignment)
    ran, before, after = _errors(listed, d, tmp_path, variant, initial=_started(d))
    assert after < (0.4 if alignment == "shared" else 0.7) * before
    # The time of a shared alignment is that of its user, too.
    assert (ran["seconds"] > 100) == (alignment == "shared")


def test_tool_at_the_voxels_of_a_network_gives_a_field_on_the_fixed_grid(
    listed, tmp_path
):
    variant = Variant("demons", "network")
    ran, before, after = _errors(listed, 3, tmp_path, variant, spacing=2.3)
    assert after < 0.8 * before
    assert np.shape(ran["alignment"]["matrix"]) == (4, 4)


# Par0011 takes minutes; what it does is the same in fewer iterations.
_FEW_ITERATIONS = """
import sys
from experiments.comparison import elastix, worker
import json

stages = elastix.par0011_stages
elastix.par0011_stages = lambda frames: [
    stage | {"MaximumNumberOfIterations": 40} for stage in stages(frames)
]
worker._register(json.load(open(sys.argv[1])))
"""


@pytest.mark.slow
def test_par0011_reduces_the_error_without_lungs_and_says_so(
    listed, tmp_path, monkeypatch
):
    needs(methods.version("elastix") is not None, "itk-elastix is not installed")
    start = [sys.executable, "-c", _FEW_ITERATIONS]
    run = subprocess.run

    def shorter(command, **options):
        return run([*start, command[-1]], cwd=ROOT, **options)

    monkeypatch.setattr(runs.subprocess, "run", shorter)
    variant = Variant("elastix", "full", "own")
    ran, before, after = _errors(listed, 2, tmp_path, variant)
    assert after < 0.7 * before
    assert ran["notes"] == ["no lungs are found, so elastix ran without a lung mask"]


def test_par0011_has_the_figures_of_its_authors():
    """Of the parameter files of the elastix model zoo."""
    frame = Frame((200, 300, 300), (1, 1, 1), (0, 0, 0), np.eye(3))
    affine, coarse, fine = elastix_parameters.par0011_stages([frame, frame])
    transforms = ["AffineTransform", "BSplineTransform", "BSplineTransform"]
    assert [s["Transform"] for s in (affine, coarse, fine)] == transforms
    iterations = [s["MaximumNumberOfIterations"] for s in (affine, coarse, fine)]
    assert iterations == [1000, 1000, 2000]
    for stage in (affine, coarse, fine):
        assert stage["NumberOfResolutions"] == 5
        assert stage["NumberOfSpatialSamples"] == 2000
        assert len(stage["ImagePyramidSchedule"]) == 15
    assert coarse["ImagePyramidSchedule"][::3] == [16, 8, 4, 2, 1]
    assert fine["ImagePyramidSchedule"][::3] == [4, 3, 2, 1, 1]
    assert coarse["FinalGridSpacingInPhysicalUnits"] == [10, 10, 10]
    assert fine["FinalGridSpacingInPhysicalUnits"] == [5, 5, 5]
    assert coarse["GridSpacingSchedule"] == [8, 8, 4, 2, 1]
    assert fine["GridSpacingSchedule"] == [16, 8, 4, 2, 1]
    assert fine["ErodeMask"] == ["false", "false", "true", "true", "true"]
    assert fine["Metric"][0] == "AdvancedNormalizedCorrelation"
    assert coarse["Metric1RelativeWeight"] == fine["Metric1RelativeWeight"] == 0.05


def test_par0011_leaves_out_levels_without_voxels():
    large, thin = (Frame((n, 90), (1, 1), (0, 0), np.eye(2)) for n in (90, 20))
    affine, coarse, fine = elastix_parameters.par0011_stages([large, thin])
    assert affine["ImagePyramidSchedule"] == [8, 8, 4, 4, 2, 2, 1, 1]
    assert coarse["GridSpacingSchedule"] == [8, 4, 2, 1]
    assert fine["NumberOfResolutions"] == 5


def test_greedy_gets_its_metric_and_smoothing_by_name():
    lines = greedy.commands("f", 3, "lung", aligned=False, given=("fixed", "gm"))
    align, deform, join = lines
    assert "-a -dof 12" in align
    assert "-m NCC 2x2x2 " in align
    assert "-m NCC 2x2x2 -n 100x50x10 -gm gm -s 1.732vox 0.7071vox" in deform
    assert "-it f/affine.mat" in deform
    assert "-r f/warp.nii.gz f/affine.mat" in join
    started = greedy.commands("f", 2, "default", aligned=True, given=("fixed",))
    assert len(started) == 2
    assert "-m NCC 4x4 " in started[0]


def test_greedy_matrix_maps_points_with_negated_axes():
    matrix = np.eye(4) + np.random.default_rng(0).normal(size=(4, 4)) / 9
    matrix[3] = 0, 0, 0, 1
    point = np.array([[3.0, -4.0, 5.0]])
    flip = np.array([-1, -1, 1])
    expected = flip * map_points(affine_transform(matrix), flip * point)
    found = greedy.nifti_matrix(matrix) @ [*point[0], 1]
    np.testing.assert_allclose(found[:3], expected[0])


@pytest.mark.parametrize(
    ("resolution", "alignment", "labels"),
    [
        ("full", "shared", ["regnet", "demons", "elastix"]),
        (
            *("both", "both"),
            [
                *("regnet", "demons", "demons, network's voxels", "elastix"),
                *("elastix, network's voxels", "elastix, own alignment"),
            ],
        ),
        (
            *("network", "both"),
            [
                *("regnet", "demons, network's voxels", "elastix, network's voxels"),
                "elastix, network's voxels, own alignment",
            ],
        ),
        ("full", "own", ["regnet", "demons", "elastix, own alignment"]),
    ],
)
def test_variants_differ_from_the_first_in_one_thing(resolution, alignment, labels):
    made = methods.variants(
        ["regnet", "demons", "elastix"],
        resolution=resolution,
        alignment=alignment,
    )
    assert [variant.label for variant in made] == labels


def test_compare_goes_on_after_a_failing_network(command, listed, run3d, tmp_path):
    """A 3D network cannot register slices; the alignment can."""
    result = command(
        "compare",
        *(f"--pairs={listed[2]}", "--methods=regnet,affine", f"--model={run3d}"),
        f"--out={tmp_path}",
    )
    assert result.status == 2
    assert "2 of its registrations failed, which" in result.errors[-1]
    report = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert [f["method"] for f in report["failures"]] == ["all", "regnet"]
    reason = report["failures"][1]["reason"]
    assert "the network is 3D" in reason
    log = Path(reason.partition("(its output: ")[2].removesuffix(")"))
    assert "the network is 3D" in log.read_text("utf-8")
    assert set(report["summary"]) == {"before", "affine"}


@pytest.mark.slow
def test_compare_measures_the_presets(command, listed, run2d, tmp_path):
    names = "regnet-fast,regnet-accurate"
    result = command(
        "compare",
        *(f"--pairs={listed[2]}", f"--methods={names}", f"--model={run2d}"),
        f"--out={tmp_path}",
    )
    assert result.status == 2
    summary = json.loads((tmp_path / "results.json").read_text("utf-8"))["summary"]
    assert list(summary) == ["before", *names.split(",")]
    plain, refined = (summary[name]["endpoint"]["mean"] for name in names.split(","))
    assert np.isfinite([plain, refined]).all()
    assert plain != refined


@pytest.mark.parametrize(
    ("flags", "fact"),
    [
        (["--methods=sorcery"], "sorcery: unknown"),
        (["--pairs=none.csv"], "no such file"),
        (["--setting=heart"], "setting"),
        (["--methods="], "--methods: is empty; give a value"),
        (["--resolution=network"], "depend on the images with --setting default"),
    ],
)
def test_compare_refuses_bad_flags_in_one_line(command, listed, tmp_path, flags, fact):
    given = [f"--pairs={listed[2]}", f"--out={tmp_path / 'o'}", "--methods=affine"]
    result = command("compare", *given, *flags)
    assert result.status == 2
    assert len(result.errors) == 1
    assert fact in result.errors[0]
    assert not (tmp_path / "o").exists()


def test_compare_refuses_masks_that_not_all_methods_take(command, tmp_path):
    (tmp_path / "pairs.csv").write_text("name,fixed,moving,immobile\na,b,c,d.mha\n")
    result = command(
        "compare", f"--pairs={tmp_path / 'pairs.csv'}", f"--out={tmp_path / 'o'}"
    )
    assert result.status == 2
    assert "has immobile, which not all methods take" in result.errors[0]


@pytest.mark.parametrize("d", [2, 3])
def test_measure_finds_no_error_in_the_true_field(d):
    frame = FRAMES[d]
    moving = Image(texture(frame.shape), frame, "moving")
    truth = displacement_to_world(frame, np.full((*frame.shape, d), 1.0))
    fixed = np.roll(moving.array, -1, axis=tuple(range(d)))
    known = LoadedPair(Image(fixed, frame, "fixed"), moving)
    regions = find_regions(known, truth)
    found = measure(known, truth, regions, truth)
    assert found.errors["endpoint"].max() < 1e-9
    assert found.measures.jacobian.folding_fraction == 0
    still = measure(known, truth, regions, 0 * truth)
    assert still.errors["endpoint"].mean() == pytest.approx(2 * np.sqrt(d))
    values = flatten(still, None)
    assert values["endpoint_under_2mm"] == 0
    assert values["endpoint_p95"] == pytest.approx(2 * np.sqrt(d))


def test_errors_count_where_both_images_show_the_body_and_in_lungs():
    """A block of tissue in air with a lung and a vessel; all moves by 8 slices."""
    frame = Frame((40, 50, 50), (4, 4, 4), (0, 0, 0), np.eye(3))
    body, lungs = np.zeros((2, *frame.shape), bool)
    body[:, 10:40, 10:40] = True
    lungs[5:35, 15:35, 15:35] = True
    image = np.where(lungs, -850.0, np.where(body, 40.0, -1000.0)).astype(np.float32)
    image[8:32, 24:26, 24:26] = 40.0
    pair = LoadedPair(Image(image, frame, "fixed"), Image(image, frame, "moving"))
    voxels = np.zeros((*frame.shape, 3))
    voxels[..., 0] = 8
    regions = find_regions(pair, displacement_to_world(frame, voxels))
    seen = np.arange(40)[:, None, None] <= 31
    np.testing.assert_array_equal(regions["endpoint"], body & seen)
    np.testing.assert_array_equal(regions["endpoint_closed_lungs"], lungs & seen)


def _row(pair, patient, method, **values):
    return {"pair": pair, "patient": patient, "method": method, "values": values}


def test_tables_count_pairs_patients_and_failures():
    tre = {"tre_median": 1.0, "tre_p95": 4.0, "tre_under_2mm": 0.5}
    rows = [
        _row("a", "p", "before", tre=4.0, **tre),
        _row("a", "p", "x", tre=1.0, **tre, seconds=3.0),
        _row("b", "p", "before", tre=2.0, **tre),
        _row("b", "p", "x", tre=3.0, **tre, seconds=5.0),
        _row("c", "q", "before", tre=2.0, **tre),
        _row("e", "r", "before", folding=0.0),
    ]
    failures = [{"pair": "c", "method": "x"}, {"pair": "d", "method": "all"}]
    failures.append({"pair": "a", "method": "never"})
    # Without landmarks there is no TRE to miss.
    failures += [{"pair": "e", "method": method} for method in ("x", "other")]
    accuracy, _, costs = tables.make_tables(rows, failures)
    assert accuracy.title == "TRE (mm)"
    assert accuracy.body[1] == [
        *("x", "2", "1", "2", "1", "2.00 ± 1.41", "1.00", "4.00", "50.0")
    ]
    assert accuracy.body[2] == ["never", "0", "0", "2", "0", *[""] * 4]
    assert costs.body == [["x", "2", "4.0 ± 1.4"]]
    lines = tables.markdown([accuracy]).splitlines()
    assert lines[5].replace(" ", "").startswith("|x|2|1|2|1|")
    assert "worse than before" in tables.plain([accuracy])


def test_labels_follow_their_mean_and_a_smaller_dice_is_worse():
    rows = [
        _row("a", "a", "before", **{"dice": 0.5, "dice 2": 0.5}),
        _row("a", "a", "x", **{"dice": 0.4, "dice 2": 0.6}),
    ]
    mean, label = tables.make_tables(rows, [])
    assert (mean.title, label.title) == ("Dice", "Dice, label 2")
    assert mean.body[1] == ["x", "1", "1", "0", "1", "0.400"]
    assert label.body[1] == ["x", "1", "1", "0", "0", "0.600"]


def test_numbers_that_do_not_exist_are_no_success():
    """Of three pairs one loses its distance, and one never had any."""
    rows = [
        _row("a", "p", "before", hd95=4.0),
        _row("b", "q", "before", hd95=4.0),
        _row("c", "r", "before", hd95=np.nan),
        _row("a", "p", "x", hd95=3.0),
        _row("b", "q", "x", hd95=np.nan),
        _row("c", "r", "x", hd95=2.0),
    ]
    found = tables.summarise(rows, [])["x"]["hd95"]
    assert (found["n"], found["undefined"], found["patients"]) == (2, 1, 2)
    assert found["worse"] == 1


def test_difference_is_that_of_the_means_and_draws_patients():
    """Patient p has two pairs and q one; only what both methods did counts."""
    known = {"x": {"a": 3.0, "b": 5.0, "c": 4.0, "d": 9.0}}
    known["regnet"] = {"a": 1.0, "b": 1.0, "c": 3.0, "e": 1.0}
    patients = {"a": "p", "b": "p", "c": "q", "d": "r", "e": "r"}

    def compare(pairs):
        rows = [
            _row(pair, patients[pair], method, hd95=value)
            for method, values in known.items()
            for pair, value in values.items()
            if pair in pairs
        ]
        return tables.summarise(rows, [])["x"]["hd95"].get("difference")

    difference = compare("abcde")
    assert difference["mean"] == pytest.approx((2 + 4 + 1) / 3)
    # Half of the resamples of two patients are of one of them alone.
    assert (difference["patients"], difference["ci95"]) == (2, (1.0, 3.0))
    assert compare("a") == {"mean": 2.0, "patients": 1, "ci95": None}
    assert compare("de") is None


def test_difference_stands_beside_each_method():
    rows = [
        _row("a", "a", "before", dice=0.5),
        _row("a", "a", "regnet", dice=0.8),
        _row("a", "a", "x", dice=0.7),
    ]
    (table,) = tables.make_tables(rows, [])
    assert table.head[-1] == "minus regnet"
    assert [line[-1] for line in table.body] == ["-0.300", "", "-0.100"]
