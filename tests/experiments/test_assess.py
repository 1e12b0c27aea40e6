"""Held-out scans from the command line: what is measured, and of what."""

import csv
import itertools
import json
import shutil
from collections import Counter

import jax
import numpy as np
import pytest
from scipy import ndimage

from experiments.heldout.artificial import (
    Case,
    Found,
    make_cases,
    make_plan,
    measure_case,
    warp_mask,
)
from experiments.heldout.calibration import as_text as calibration_text
from experiments.heldout.calibration import compare_errors, summarise
from experiments.heldout.tables import as_csv, as_json, as_text, make_tables
from experiments.heldout.volumes import Volume, make_volume, uniform_mask
from regnet_jax.errors import InputError
from regnet_jax.evaluation import ErrorEstimate
from regnet_jax.geometry import warp
from regnet_jax.io import ListedScan, checksum, write_scans
from regnet_jax.io.images import write_image
from regnet_jax.spatial import Frame
from regnet_jax.synthesis import FAMILIES, ArtificialPair

NAMES = ["affine", "zero"]
HOW = {"spacing": 2.0, "d": 2}


def slab(shape, seed=5):
    """Textured tissue in air."""
    rng = np.random.default_rng(seed)
    image = np.full(shape, -1000.0, np.float32)
    inside = tuple(slice(6, n - 6) for n in shape[-2:])
    image[(..., *inside)] = rng.normal(50, 30, image[(..., *inside)].shape)
    return image


def volume(name, patient=None, shape=(58, 64)):
    patient = patient or name
    return make_volume(name, slab(shape), 2.0, patient=patient, identity=f"of {name}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three scans of two patients and one to train on, a list and a manifest."""
    folder = tmp_path_factory.mktemp("assess")
    frame = Frame((9, 40, 44), (2.0, 2.0, 3.0), (0, 0, 0), np.eye(3))
    scans = []
    for number, (patient, role) in enumerate(
        [("p1", "test"), ("p1", "test"), ("p2", "test"), ("p3", "training")]
    ):
        path = folder / f"scan{number}.nii.gz"
        write_image(path, slab(frame.shape, number), frame)
        scans.append(ListedScan(path, checksum(path), patient, role))
    write_scans(folder / "scans.csv", scans)
    (folder / "scans.txt").write_text("scan0.nii.gz\n")
    return folder


@pytest.fixture(scope="module")
def assessed(command, run2d, folder):
    """Two networks, which are the same."""
    shutil.copytree(run2d, folder / "other")
    out = folder / "measures.json"
    result = command(
        "assess",
        *(f"--volumes={folder / 'scans.csv'}", f"--out={out}"),
        f"--model={run2d},{folder / 'other'}",
        *("--count=3", f"--families={','.join(NAMES)}", "--seed=3"),
    )
    assert result.status == 0, result.err
    return result, json.loads(out.read_text("utf-8"))


def test_networks_are_measured_on_the_test_scans_of_a_manifest(assessed, run2d, folder):
    result, report = assessed
    names = {one["name"]: one["patient"] for one in report["volumes"]}
    assert names == {"scan0.nii.gz": "p1", "scan1.nii.gz": "p1", "scan2.nii.gz": "p2"}
    assert (report["role"], report["seed"]) == ("test", 3)
    assert report["list_sha256"] == checksum(folder / "scans.csv")
    first, other = map(str, (run2d, folder / "other"))
    assert report["model"] == [first, other]
    methods = ["before", first, other]
    (warning,) = report["warnings"]
    assert warning.startswith("--count 3: 4 pairs are made")
    assert warning in result.err
    pairs = report["pairs"]
    assert [pair["family"] for pair in pairs] == np.repeat(NAMES, 2).tolist()
    assert sorted(pair["patient"] for pair in pairs) == ["p1", "p1", "p2", "p2"]
    for pair in pairs:
        assert list(pair["errors"]) == methods
        assert pair["errors"][first] == pair["errors"][other]
    total = [line for line in report["summary"] if line["group"] == "all"]
    assert [line["method"] for line in total] == methods
    assert {(line["pairs"], line["patients"]) for line in total} == {(4, 2)}
    before, after, same = total
    assert before["ratio"] == 1
    assert after["mean"] == pytest.approx(
        np.mean([pair["errors"][first]["body"]["mean"] for pair in pairs])
    )
    assert "difference_mean" not in after
    assert same["difference_mean"] == 0
    assert same["difference_mean_ci95"] == [0, 0]


def test_tables_are_printed_and_written_as_csv(assessed, folder):
    result, report = assessed
    with (folder / "measures.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(report["summary"])
    for row, line in zip(rows, report["summary"], strict=True):
        assert row["group"] == line["group"]
        for name in ("mean", "ratio", "worse_fraction"):
            want = line[name]
            assert row[name] == ("" if want is None else str(want))
        assert float(row["mean_ci95_low"]) == line["mean_ci95"][0]
    for text in ("Families", "Regions", "True displacements", "Error minus that of"):
        assert text in result.out
    assert "measures.csv" in result.out
    still = next(line for line in report["summary"] if line["group"] == "zero")
    assert (still["mean"], still["ratio"], still["worse_fraction"]) == (0, None, None)


def test_a_plain_list_of_one_scan_is_measured_with_warnings(command, run2d, folder):
    out = folder / "plain.json"
    result = command(
        "assess",
        *(f"--volumes={folder / 'scans.txt'}", f"--model={run2d}", f"--out={out}"),
        *("--count=1", "--families=translation", "--refine=1"),
    )
    assert result.status == 0, result.err
    report = json.loads(out.read_text("utf-8"))
    assert report["role"] is None
    methods = ["before", str(run2d), f"{run2d}+refine"]
    assert list(report["pairs"][0]["errors"]) == methods
    assert [one["patient"] for one in report["volumes"]] == ["scan0.nii.gz"]
    assert "is a plain list" in result.err
    assert "there is one patient alone" in result.err
    assert len(report["warnings"]) == 2
    assert report["summary"][0]["interval_over"] == "pairs"
    assert "says nothing of others" in result.out


@pytest.mark.parametrize(
    ("flags", "fact"),
    [
        (["--families=breath"], "breath: unknown; there are"),
        (["--families="], "--families: is empty"),
        (["--families=low,low"], "name each once"),
        (["--volumes=none.txt"], "no such file"),
        (["--spacing=nan"], "millimetres"),
        (["--count=0"], "--count"),
        (["--role=training"], "is a plain list without roles"),
        (["--role=heldout"], "--role"),
        (["--model=lung,lung2d"], "measure them one by one"),
        (["--out=m.csv"], "is the place of the table"),
    ],
)
def test_bad_flags_give_one_line(command, run2d, folder, tmp_path, flags, fact):
    listed = folder / "scans.txt"
    result = command(
        "assess",
        *(f"--volumes={listed}", f"--model={run2d}", f"--out={tmp_path / 'm.json'}"),
        *flags,
    )
    assert result.status == 2
    assert len(result.errors) == 1
    assert fact in result.errors[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("out", ["scans.json", "scan0.json"])
def test_the_list_and_the_scans_are_not_replaced(command, folder, tmp_path, out):
    """The table has the name of --out and the suffix .csv."""
    for path in folder.glob("scan*"):
        shutil.copy(path, tmp_path)
    shutil.copy(tmp_path / "scans.csv", tmp_path / "scan0.csv")
    given = tmp_path / out.replace(".json", ".csv")
    before = given.read_bytes()
    result = command("assess", f"--volumes={given}", f"--out={tmp_path / out}")
    assert result.status == 2
    (line,) = result.errors
    assert "is read, and a result would replace it" in line
    assert given.read_bytes() == before
    assert not (tmp_path / out).exists()


def test_scans_that_changed_are_refused_before_any_work(command, folder, tmp_path):
    for path in folder.glob("scan*"):
        shutil.copy(path, tmp_path)
    shutil.copy(tmp_path / "scan3.nii.gz", tmp_path / "scan1.nii.gz")
    # Nothing is said about the model, which does not exist.
    flags = ("--model=gone", f"--out={tmp_path / 'm.json'}")
    result = command("assess", f"--volumes={tmp_path / 'scans.csv'}", *flags)
    assert result.status == 2
    (line,) = result.errors
    for fact in ("scan1.nii.gz: is not the file that was frozen", "scans.csv says"):
        assert fact in line
    assert checksum(tmp_path / "scan3.nii.gz") in line
    # A plain list may not name a scan twice either.
    (tmp_path / "twice.txt").write_text("scan1.nii.gz\nscan3.nii.gz\n")
    flags = ("--model=lung2d", f"--out={tmp_path / 'm.json'}")
    result = command("assess", f"--volumes={tmp_path / 'twice.txt'}", *flags)
    assert result.status == 2
    assert "scan3.nii.gz: is the same scan as" in result.errors[-1]


@pytest.mark.parametrize("families", [1, 2, 5, 12])
@pytest.mark.parametrize("patients", [1, 2, 3, 5, 11, 13])
def test_pairs_are_spread_evenly(families, patients):
    """Every second patient has two scans."""
    names = list(FAMILIES)[:families]
    scans = [
        volume(f"{number}{scan}", patient=f"p{number}")
        for number in range(patients)
        for scan in "ab"[: 1 + number % 2]
    ]
    plan = make_plan(scans, names, 60)
    assert len(plan) == 60
    assert set(Counter(place.family for place in plan).values()) == {60 // families}
    of_patient = Counter(place.volume.patient for place in plan)
    assert len(of_patient) == patients
    assert max(of_patient.values()) - min(of_patient.values()) <= 1
    of_scan = Counter(place.volume.name for place in plan)
    for number in range(1, patients, 2):
        assert abs(of_scan[f"{number}a"] - of_scan[f"{number}b"]) <= 1
    for family in names:
        inside = [place.volume.patient for place in plan if place.family == family]
        numbers = [inside.count(f"p{number}") for number in range(patients)]
        assert max(numbers) - min(numbers) <= 1
    places = {(place.volume.name, place.family, place.number) for place in plan}
    assert len(places) == 60
    assert make_plan(scans[::-1], names, 60) == plan
    assert len(make_plan(scans, names, 61 - families)) == 60


def test_a_pair_depends_on_its_scan_and_not_on_the_others():
    """Nor on their order; no two pairs share a field."""

    def fields(names, count, seed=1):
        plan = make_plan([volume(name) for name in names], NAMES, count)
        cases = make_cases(jax.random.key(seed), plan, **HOW)
        return {
            (place.volume.name, place.family, place.number): pair.displacement
            for place, pair, _ in cases
            if place.family != "zero"
        }

    alone, both, other = fields("a", 4), fields("ba", 8), fields("a", 2, seed=2)
    assert set(alone) == {("a", "affine", 0), ("a", "affine", 1)}
    assert set(alone) < set(both)
    for place, field in alone.items():
        np.testing.assert_array_equal(field, both[place])
    every = [*both.values(), *other.values()]
    for number, field in enumerate(every):
        assert all(np.abs(field - rest).max() > 0.1 for rest in every[:number])


def test_cases_are_volumes_and_warped_volumes_of_two_scanners():
    volumes = [volume("a"), volume("b")]
    cases = list(
        make_cases(jax.random.key(1), make_plan(volumes, NAMES, 4), **HOW),
    )
    assert {(place.volume.name, place.family) for place, *_ in cases} == {
        (name, family) for name in "ab" for family in NAMES
    }
    for place, pair, regions in cases:
        largest = 2.0 * np.abs(pair.displacement).max()
        assert largest <= 1.001 * FAMILIES[place.family].amplitude
        # Images differ from volume and warped volume by what their scanners add.
        added = []
        image = place.volume.image[..., None]
        for noisy, clean in (
            (pair.moving, image),
            (pair.fixed, warp(image, pair.displacement)),
        ):
            added.append((noisy - clean).ravel())
            assert 1 < np.std(added[-1]) < 150
            assert np.corrcoef(noisy.ravel(), np.ravel(clean))[0, 1] > 0.9
        assert abs(np.corrcoef(*added)[0, 1]) < 0.5
        assert set(regions) == {"body", "uniform"}


def test_crops_are_boxes_of_the_volume_and_of_its_regions():
    """Deformed by nothing, a crop is the volume at some place, as a scanner sees it."""
    noise = np.random.default_rng(0).normal(size=(40, 9, 30))
    image = 4000.0 * ndimage.gaussian_filter(noise, 2.0).astype(np.float32)
    scan = Volume("v", "v", "v", image, {"body": image > 0})
    plan = make_plan([scan], ["zero"], 6)
    places = set()
    for case in make_cases(jax.random.key(1), plan, spacing=2.0, d=3, crop=16):
        moving = case.pair.moving[..., 0]
        assert moving.shape == (16, 9, 16)
        boxes = np.lib.stride_tricks.sliding_window_view(image, moving.shape)
        error = np.abs(boxes - moving).mean(axis=(3, 4, 5))
        place = np.unravel_index(error.argmin(), error.shape)
        assert error[place] < 0.3 * image.std()
        np.testing.assert_array_equal(case.regions["body"], boxes[place] > 0)
        places.add(place)
    assert len(places) > 2


def test_masks_are_carried_along_and_end_with_the_moving_image():
    mask = np.zeros((20, 30), bool)
    mask[5:15, :20] = True
    u = np.zeros((20, 30, 2), np.float32)
    u[8, 10] = u[8, 11] = (0, -11)
    u[16, 3] = (-2.4, 0.4)
    u[5, 25] = (3.0, -5.2)
    u[19, 29] = (0.2, 0)
    seen = warp_mask(mask, u)
    assert not seen[8, 10]
    assert seen[8, 11]
    assert seen[16, 3]
    assert not seen[5, 25]
    assert not seen[19, 29]
    u[...] = 0
    np.testing.assert_array_equal(warp_mask(mask, u), mask)


def test_masks_are_carried_as_the_image_is_warped():
    rng = np.random.default_rng(0)
    mask = np.zeros((11, 15, 13), bool)
    mask[3:8, 4:11, 3:9] = True
    u = rng.uniform(-2, 2, (1, 1, 1, 3)) * np.ones((*mask.shape, 1))
    moved = warp(mask.astype(np.float32)[..., None], np.rint(u).astype(np.float32))
    inside = np.zeros(mask.shape, bool)
    inside[2:-2, 2:-2, 2:-2] = True
    np.testing.assert_array_equal(
        warp_mask(mask, u)[inside], moved[..., 0][inside] > 0.5
    )


@pytest.fixture
def measured():
    """A case whose displacement is 3 mm in the body and 30 mm in the lung."""
    body = np.zeros((9, 10), bool)
    body[2:8, 2:8] = True
    lung = np.zeros(body.shape, bool)
    lung[3:5, 3:5] = True
    u = np.zeros((9, 10, 2), np.float32)
    u[body] = (1.5, 0)
    u[lung] = (0, 15)
    image = np.zeros((9, 10, 1), np.float32)
    regions = {"body": body, "lung": lung, "vessels": lung & ~lung}
    scan = Volume("v", "p", "id", image[..., 0], regions)
    place = make_plan([scan], ["low"], 1)[0]
    return Case(place, ArtificialPair(image, image, u, None), regions)


def test_errors_are_of_each_region_and_size(measured):
    truth = 2.0 * measured.pair.displacement
    methods = {"half": lambda _: Found(truth / 2), "worse": lambda _: Found(-truth)}
    row = measure_case(measured, methods, 2.0)
    assert (row["volume"], row["patient"], row["family"]) == ("v", "p", "low")
    want = {"body": 36, "lung": 4, "2 to 5 mm": 32, "20 mm and more": 4}
    for errors in row["errors"].values():
        assert {name: one["voxels"] for name, one in errors.items()} == want
    assert row["errors"]["before"]["body"]["mean"] == pytest.approx(6.0)
    assert row["errors"]["half"]["lung"]["mean"] == pytest.approx(15.0)
    assert row["errors"]["half"]["body"]["under_2mm"] == pytest.approx(32 / 36)
    assert row["errors"]["worse"]["2 to 5 mm"]["mean"] == pytest.approx(6.0)
    tables = make_tables([row])
    groups = dict.fromkeys((line["table"], line["group"]) for line in tables)
    assert list(groups) == [
        *(("family", "low"), ("family", "all"), ("region", "body")),
        *(("region", "lung"), ("displacement", "2 to 5 mm")),
        ("displacement", "20 mm and more"),
    ]
    lung = [line for line in as_json(tables) if line["group"] == "lung"]
    assert [line["ratio"] for line in lung] == pytest.approx([1.0, 0.5, 2.0])
    assert [line["worse"] for line in lung] == [0, 0, 1]
    assert lung[2]["difference_mean"] == pytest.approx(45.0)
    assert "nan" not in as_csv(tables) + as_text(tables)


def test_stated_errors_are_compared_with_those_found(measured):
    """Errors of 1 mm where the stated ones have a median of 1 mm, and of 9 mm."""
    truth = 2.0 * measured.pair.displacement
    shape = measured.regions["body"].shape
    wrong = truth + np.where(measured.regions["lung"], 9.0, 1.0)[..., None] * [1.0, 0]
    frame = Frame(shape, (2.0, 2.0), (0.0, 0.0), np.eye(2))
    known = np.ones(shape, bool)
    known[2, 2] = False
    stated = ErrorEstimate(np.zeros(shape), np.full(shape, 0.5), known, frame)
    methods = {"mine": lambda _: Found(wrong, stated), "other": lambda _: Found(truth)}
    row = measure_case(measured, methods, 2.0, compare_errors)
    assert set(row["calibration"]) == {"mine"}
    found = row["calibration"]["mine"]
    assert set(found) == {"body", "lung", "2 to 5 mm"}  # bounds of 2.28 mm
    assert found["body"] == found["2 to 5 mm"]
    assert found["body"]["voxels"] == 35
    assert found["body"]["within"] == pytest.approx(31 / 35)
    assert found["body"]["stated"] == pytest.approx(np.exp(0.5 * 1.6449), rel=1e-3)
    assert found["lung"]["found"] == pytest.approx(9.0, rel=1e-5)
    assert found["lung"]["within"] == 0
    # The logarithm of 9 mm is where the 95th percentile ought to be.
    assert found["lung"]["width"] == pytest.approx(np.log(9.0) / 0.5 / 1.6449, rel=1e-3)
    (body, lung, bounds) = summarise([row])
    assert [line["group"] for line in (body, lung, bounds)] == list(found)
    assert body["within"] == found["body"]["within"]
    text = calibration_text([body, lung, bounds])
    assert "88.6 %" in text
    assert summarise([measure_case(measured, {}, 2.0, compare_errors)]) == []


def methods_half(case):
    return Found(case.pair.displacement)


def test_a_method_that_fails_counts_as_the_zero_field(measured):
    def fail(case):
        raise InputError("the field is not finite")

    row = measure_case(measured, {"lung": fail}, 2.0)
    assert row["failed"] == {"lung": "the field is not finite"}
    assert row["errors"]["lung"] == row["errors"]["before"]
    tables = make_tables([row, measure_case(measured, {"lung": methods_half}, 2.0)])
    counts = {(x["group"], x["method"]): x["failed"] for x in as_json(tables)}
    assert counts["lung", "lung"] == 1
    assert counts["lung", "before"] == 0
    assert "failed" in as_csv(tables).splitlines()[0]
    assert as_text(tables).splitlines()[1].endswith("failed")


def test_regions_of_a_chest_are_found():
    _, y, x = np.indices((20, 40, 60)) * 3.0
    image = np.where((y - 60) ** 2 / 50**2 + (x - 90) ** 2 / 80**2 < 1, 40.0, -1000.0)
    image[(y - 60) ** 2 / 35**2 + (x - 90) ** 2 / 60**2 < 1] = -850.0
    vessel = np.hypot(y - 60, x - 90) < 4.0
    image[vessel] = 0.0
    scan = make_volume("chest", image, 3.0, patient="p", identity="i")
    assert set(scan.regions) == {"body", "lung", "vessels", "uniform"}
    np.testing.assert_array_equal(scan.regions["vessels"], vessel)
    assert scan.regions["lung"][vessel].all()
    assert not (scan.regions["lung"] & ~scan.regions["body"]).any()
    # The middle of the chest wall has one value within 5 mm.
    inner = np.hypot((y - 60) / 35, (x - 90) / 60) > 1.2
    wall = inner & (np.hypot((y - 60) / 50, (x - 90) / 80) < 0.85)
    assert wall.any()
    assert scan.regions["uniform"][wall].all()
    assert not (scan.regions["uniform"] & scan.regions["lung"]).any()


@pytest.mark.parametrize("shape", [(17, 20), (9, 11, 12)])
@pytest.mark.parametrize(("spacing", "size"), [(2.0, 5), (3.0, 5), (5.0, 3), (12.0, 3)])
def test_surroundings_are_uniform_by_their_standard_deviation(shape, spacing, size):
    rng = np.random.default_rng(3)
    image = rng.normal(900.0, rng.uniform(10, 30, shape))
    found = uniform_mask(image, spacing)
    seen = set()
    for index in itertools.product(*(range(2, n - 2) for n in shape)):
        box = tuple(slice(i - size // 2, i + size // 2 + 1) for i in index)
        deviation = image[box].std()
        if abs(deviation - 20.0) > 1e-6:
            assert found[index] == (deviation < 20.0)
            seen.add(bool(found[index]))
    assert seen == {False, True}
