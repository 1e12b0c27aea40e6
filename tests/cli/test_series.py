"""A series from the command line: a folder for each phase, maps, a table, a page."""

import base64
import csv
import dataclasses
import importlib
import io
import json
import re
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image as Picture
from scipy import stats

import regnet_jax
from regnet_jax.errors import InputError
from regnet_jax.evaluation import ErrorEstimate
from regnet_jax.registration import RegistrationOptions
from regnet_jax.registration.series_files import run_series
from tests.helpers.networks import fake, smooth_image

RESULTS = {
    *("displacement.nii.gz", "report.html", "report.json", "transform.h5"),
    "warped.nii.gz",
}
SUMMARY = {
    *("amplitude.nii.gz", "mid_position.nii.gz", "motion.csv", "path.nii.gz"),
    "report.html",
}
NAMES = ("T0", "T5", "T10")
POINTS = """# Markups fiducial file version = 4.11
# CoordinateSystem = LPS
# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID
1,12,30,0,0,0,0,1,1,1,0,carina,,
2,40,22,0,0,0,0,1,1,1,0,"dome, left",,
"""


def read(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def rows(out):
    with (out / "motion.csv").open(encoding="utf-8") as file:
        return {row["phase"]: row for row in csv.DictReader(file)}


def store(path, array, spacing=2.0):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([spacing] * array.ndim)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture(scope="module")
def phases(tmp_path_factory):
    """A folder with a plane for each phase, points and labels of the first."""
    folder = tmp_path_factory.mktemp("series")
    for number, name in enumerate(NAMES):
        array = np.roll(smooth_image((30, 38), 0), 2 * number, axis=0)
        store(folder / "phases" / f"{name}.mha", array.astype(np.int16))
    (folder / "points.fcsv").write_text(POINTS)
    labels = np.zeros((30, 38), np.uint8)
    labels[8:20, 10:24] = 3
    store(folder / "labels.mha", labels)
    return folder


@pytest.fixture(scope="module")
def series(command, run2d, phases):
    def run(out, *arguments, given=phases / "phases"):
        return command(
            "register", f"--series={given}", f"--out={phases / out}",
            f"--model={run2d}", "--initial=none", *arguments,
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def result(series, phases):
    """The folder of a series with points and labels, and what was printed."""
    printed = series(
        "out",
        f"--series_points={phases / 'points.fcsv'}",
        f"--series_labels={phases / 'labels.mha'}",
        "--write=jacobian",
    )
    assert printed.status == 0, printed.err
    return phases / "out", printed


def test_series_has_a_folder_for_each_phase_and_maps(result):
    out, printed = result
    assert {p.name for p in out.iterdir() if p.is_file()} == SUMMARY
    carried = {"points.fcsv", "labels.nii.gz"}
    assert {p.name for p in (out / "T0").iterdir()} == carried
    for name in NAMES[1:]:
        found = {p.name for p in (out / name).iterdir()}
        assert found == RESULTS | carried | {"jacobian.nii.gz"}
    assert (
        "reference: T0 (T0.mha), the first (--reference names another)" in printed.out
    )
    assert f"wrote {out}/report.html, motion.csv" in printed.out
    assert not list(out.parent.glob(".*"))


def test_maps_and_table_follow_from_the_displacements(result):
    out, _ = result
    fields = {n: read(out / n / "displacement.nii.gz") for n in NAMES[1:]}
    fields = [np.zeros_like(fields["T5"]), *fields.values()]
    lengths = np.linalg.norm(fields, axis=-1)
    amplitude = read(out / "amplitude.nii.gz")
    np.testing.assert_allclose(amplitude, lengths.max(axis=0), atol=1e-4)
    assert amplitude.max() > 1.0
    steps = np.linalg.norm(np.diff([*fields, fields[0]], axis=0), axis=-1)
    path = read(out / "path.nii.gz")
    np.testing.assert_allclose(path, steps.sum(axis=0), atol=1e-4)
    table = rows(out)
    assert list(table) == list(NAMES)
    assert [row["reference"] for row in table.values()] == ["yes", "no", "no"]
    for number, name in enumerate(NAMES[1:], 1):
        row = {key: value for key, value in table[name].items() if value}
        region = row["region"]
        assert region in ("body", "image")
        if region == "image":
            assert float(row["mean_mm"]) == pytest.approx(
                lengths[number].mean(), rel=1e-4
            )
        assert float(row["max_mm"]) <= lengths[number].max() + 1e-3
        report = json.loads((out / name / "report.json").read_text("utf-8"))
        similarity = report["similarity"]["after"]["correlation"]
        assert float(row["correlation_after"]) == pytest.approx(similarity, rel=1e-4)
        assert row["warnings"] == "; ".join(report["warnings"])
    mid, fixed = (
        sitk.ReadImage(str(p))
        for p in (out / "mid_position.nii.gz", out.parent / "phases" / "T0.mha")
    )
    assert mid.GetSize() == fixed.GetSize()
    assert mid.GetPixelID() == fixed.GetPixelID()


def test_page_has_an_animation_and_leads_to_the_phases(result, phases):
    out, _ = result
    page = (out / "report.html").read_text("utf-8")
    assert f"<h1>Series {phases / 'phases'}</h1>" in page
    assert re.findall('<a href="([^"]*)"', page) == [
        f"{name}/report.html" for name in NAMES[1:]
    ]
    (content,) = re.findall(r'src="data:image/gif;base64,([^"]*)"', page)
    animation = Picture.open(io.BytesIO(base64.b64decode(content)))
    assert animation.n_frames == len(NAMES)
    frames = []
    for number in range(animation.n_frames):
        animation.seek(number)
        frames.append(np.asarray(animation.convert("L"), float))
    left, right = np.array_split(np.array(frames), 2, axis=2)
    # The phases differ. Registered by random weights they do, too.
    assert np.abs(np.diff(left, axis=0)).mean() > 1
    assert right.std() > 1
    # Nothing is loaded from elsewhere.
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)


def test_points_and_labels_are_carried_to_every_phase(result, phases):
    out, _ = result
    before = [line.split(",") for line in POINTS.splitlines()[3:]]
    for name in NAMES:
        lines = (out / name / "points.fcsv").read_text("utf-8").splitlines()[3:]
        assert "dome, left" in lines[1]
        found = [line.split(",") for line in lines]
        assert [words[11] for words in found] == [words[11] for words in before]
        labels = read(out / name / "labels.nii.gz")
        assert labels.dtype == np.uint8
        given = sitk.ReadImage(str(phases / "labels.mha"))
        if name == "T0":
            np.testing.assert_array_equal(labels, sitk.GetArrayFromImage(given))
            continue
        transform = sitk.ReadTransform(str(out / name / "transform.h5"))
        for old, new in zip(before, found, strict=True):
            expected = transform.TransformPoint([float(x) for x in old[1:3]])
            np.testing.assert_allclose(
                [float(x) for x in new[1:3]], expected, atol=1e-4
            )
        # Through the transform they are the labels of the reference again.
        carried = sitk.ReadImage(str(out / name / "labels.nii.gz"))
        back = sitk.Resample(carried, given, transform, sitk.sitkNearestNeighbor)
        same = sitk.GetArrayFromImage(back) == sitk.GetArrayFromImage(given)
        assert set(np.unique(labels)) == {0, 3}
        assert same.mean() > 0.9


def test_finished_phases_are_kept(result, series, phases):
    """What is interrupted goes on with the phases that are missing."""
    out = phases / "again"
    shutil.copytree(result[0], out)
    times = {n: (out / n / "transform.h5").stat().st_mtime_ns for n in NAMES[1:]}
    (out / "T10" / "report.json").unlink()
    again = series("again", "--nocycle", "--write=jacobian")
    assert again.status == 0, again.err
    now = {n: (out / n / "transform.h5").stat().st_mtime_ns for n in NAMES[1:]}
    assert now["T5"] == times["T5"]
    assert now["T10"] > times["T10"]
    # What was carried by the registration that is gone is gone, too.
    assert {p.name for p in (out / "T10").iterdir()} == RESULTS | {"jacobian.nii.gz"}
    fields = [read(out / n / "displacement.nii.gz") for n in NAMES[1:]]
    steps = np.linalg.norm([fields[0], fields[1] - fields[0]], axis=-1)
    open_path = read(out / "path.nii.gz")
    np.testing.assert_allclose(open_path, steps.sum(axis=0), atol=1e-4)


def test_no_result_of_another_reference_remains(result, series, phases):
    out, fewer = phases / "other", phases / "fewer"
    fewer.mkdir()
    for name in NAMES[:2]:
        shutil.copy(phases / "phases" / f"{name}.mha", fewer)
    shutil.copytree(result[0] / "T5", out / "T5")
    for name in ("points.fcsv", "labels.nii.gz"):
        (out / "T5" / name).unlink()
    other = series("other", "--reference=T5.mha", given=fewer)
    assert other.status == 0, other.err
    assert "reference: T5 (T5.mha)\n" in other.out
    assert not (out / "T5").exists()
    assert {p.name for p in (out / "T0").iterdir()} == RESULTS
    assert [row["reference"] for row in rows(out).values()] == ["no", "yes"]


def test_4d_file_lies_on_the_grid_of_its_reference(tmp_path):
    """An oblique scan, of which the second phase is the reference.

    The network always says one voxel up, two to the back and three to the left. A
    corner of the reference is held.
    """
    cubes = []
    for number in range(2):
        array = np.roll(smooth_image((20, 22, 24), 1), number, axis=0)
        cube = sitk.GetImageFromArray(array.astype(np.int16))
        cube.SetSpacing((4.0, 5.0, 4.5))
        cube.SetOrigin((-40.0, 20.0, 100.0))
        cube.SetDirection((0.8, 0.6, 0, -0.6, 0.8, 0, 0, 0, 1))
        cubes.append(cube)
    path, out = tmp_path / "scan.nii.gz", tmp_path / "out"
    sitk.WriteImage(sitk.JoinSeries(cubes), str(path))
    network = fake(3, 4.0, lambda fixed, _: 0 * fixed + np.array([1.0, 2.0, 3.0]))
    options = RegistrationOptions(model="any", initial="none")
    held = np.zeros((20, 22, 24), np.uint8)
    held[:2, :2, :2] = 1
    mask = sitk.GetImageFromArray(held)
    mask.CopyInformation(cubes[1])
    sitk.WriteImage(mask, str(tmp_path / "held.nii.gz"))
    run_series(
        *(path, out, options),
        reference="1",
        masks={"immobile": tmp_path / "held.nii.gz"},
        load=lambda _: network,
    )
    assert {p.name for p in out.iterdir()} == SUMMARY | {"phase_0"}
    for name in ("amplitude", "path", "mid_position"):
        image = sitk.ReadImage(str(out / f"{name}.nii.gz"))
        assert image.GetSize() == cubes[1].GetSize()
        np.testing.assert_allclose(image.GetSpacing(), cubes[1].GetSpacing())
        np.testing.assert_allclose(image.GetOrigin(), cubes[1].GetOrigin(), atol=1e-4)
        np.testing.assert_allclose(
            image.GetDirection(), cubes[1].GetDirection(), atol=1e-6
        )
    expected = 4.0 * np.array([0.8 * 3 + 0.6 * 2, -0.6 * 3 + 0.8 * 2, 1])
    field = read(out / "phase_0" / "displacement.nii.gz")
    np.testing.assert_allclose(field[10, 11, 12], expected, atol=0.01)
    np.testing.assert_allclose(field[:2, :2, :2], 0, atol=1e-3)
    row = rows(out)["phase_0"]
    for axis, value in zip("xyz", expected, strict=True):
        assert float(row[f"mean_{axis}_mm"]) == pytest.approx(value, abs=0.5)
    warped = read(out / "phase_0" / "warped.nii.gz")
    assert warped.shape == (20, 22, 24)
    assert "phase_0/report.html" in (out / "report.html").read_text("utf-8")
    # Without reports of the phases, that of the series leads to none.
    run_series(path, tmp_path / "bare", options, load=lambda _: network, page=False)
    assert not (tmp_path / "bare" / "phase_1" / "report.html").exists()
    assert (tmp_path / "bare" / "phase_1" / "report.json").exists()
    page = (tmp_path / "bare" / "report.html").read_text("utf-8")
    assert "phase_1/report.html" not in page


BAD = {
    "one-phase": (["--series=ALONE"], "holds one phase where two or more"),
    "gone": (["--series=gone"], "does not exist"),
    "reference": (
        ["--reference=T60"],
        "'T60' is no phase of the series; give a number",
    ),
    "pairs": (["--pairs=a.csv"], "--series: is a job of its own"),
    "moving": (["--moving=a.mha"], "--moving: is for one pair"),
    "points": (["--series_points=gone.csv"], "gone.csv"),
    "labels": (["--series_labels=CUBE"], "is 3D and the phases are 2D"),
    "mask": (["--fixed_mask=CUBE"], "is 3D but its image is 2D"),
    "model": (["--model=gone"], "gone"),
    "dimension": (["--model=lung"], "is 3D and"),
    "initial": (["--initial=SHIFT"], "the transform is 3D and the images are 2D"),
    "format": (["--write=ventilation"], "do not both show lungs"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line(series, phases, tmp_path, case):
    names = {
        "ALONE": store(tmp_path / "alone.mha", smooth_image((8, 9, 7))),
        "CUBE": store(tmp_path / "cube.mha", np.ones((8, 9, 7), np.uint8)),
        "SHIFT": tmp_path / "shift.tfm",
    }
    sitk.WriteTransform(sitk.TranslationTransform(3), names["SHIFT"])
    given, words = BAD[case]
    for name, path in names.items():
        given = [text.replace(name, str(path)) for text in given]
    out = tmp_path / "out"
    result = series(out, *given)
    assert result.status == 2, result
    assert len(result.errors) == 1, result.err
    assert words in result.errors[0]
    assert not out.exists()


def test_files_of_others_stay_in_the_folders_of_phases(series, phases):
    kept = [
        phases / "kept" / NAMES[0] / "transform.h5",
        phases / "kept" / NAMES[1] / "labels.nii.gz",
        phases / "kept" / NAMES[1] / "ants_1Warp.nii.gz",
    ]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("of another program")
    result = series("kept")
    assert result.status == 0, result.err
    assert {path.read_text() for path in kept} == {"of another program"}


@pytest.mark.parametrize("axis", ["axial", "sagittal"])
def test_phases_of_one_slice_are_registered(command, phases, run2d, tmp_path, axis):
    """ITK drops the axis of a single slice in NIfTI, and a plane has one row."""
    for number in range(2):
        plane = np.roll(smooth_image((30, 38), 0), 2 * number, axis=0)
        array = plane[None] if axis == "axial" else plane[..., None]
        image = sitk.GetImageFromArray(array.astype(np.float32))
        image.SetSpacing((2.0, 2.0, 2.0))
        sitk.WriteImage(image, str(tmp_path / f"phases_{number}.nii.gz"))
    paths = [tmp_path / f"phases_{n}.nii.gz" for n in range(2)]
    for path in paths:
        (tmp_path / "phases").mkdir(exist_ok=True)
        path.rename(tmp_path / "phases" / path.name)
    result = command(
        "register", f"--series={tmp_path / 'phases'}", f"--out={tmp_path / 'out'}",
        f"--model={run2d}", "--initial=none", f"--slice_axis={axis}",
    )  # fmt: skip
    assert result.status == 0, result.err
    assert (tmp_path / "out" / "report.html").is_file()
    amplitude = sitk.ReadImage(str(tmp_path / "out" / "amplitude.nii.gz"))
    transform = sitk.ReadTransform(str(tmp_path / "out" / "phases_1" / "transform.h5"))
    points = 2.0 * np.stack(np.meshgrid(*map(range, array.shape[::-1])), -1)
    moved = np.array([transform.TransformPoint(p) for p in points.reshape(-1, 3)])
    lengths = np.linalg.norm(moved - points.reshape(-1, 3), axis=-1)
    assert lengths.max() > 0.1
    largest = sitk.GetArrayFromImage(amplitude).max()
    np.testing.assert_allclose(largest, lengths.max(), rtol=0.01)


def test_results_do_not_go_among_the_phases(series, phases):
    kept = sorted(p.name for p in (phases / "phases").iterdir())
    result = series("phases")
    assert result.status == 2
    assert "is the folder of the phases" in result.err
    assert sorted(p.name for p in (phases / "phases").iterdir()) == kept


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        ("--series_points={}", "T0/points.fcsv"),
        ("--series_labels={}", "T5/labels.nii.gz"),
        ("--ignore_fixed={}", "amplitude.nii.gz"),
        ("--initial={}", "T10/transform.h5"),
    ],
)
def test_a_series_does_not_replace_what_it_reads(
    series, phases, tmp_path, argument, name
):
    kept = tmp_path / "results" / name
    kept.parent.mkdir(parents=True)
    given = "points.fcsv" if name.endswith(".fcsv") else "labels.mha"
    shutil.copy(phases / given, kept)
    before = kept.read_bytes()
    result = series(tmp_path / "results", argument.format(kept))
    assert result.status == 2
    assert f"{kept}: is read, and a result would replace it" in result.errors[0]
    assert kept.read_bytes() == before
    assert [p for p in (tmp_path / "results").rglob("*") if p.is_file()] == [kept]


def test_python_registers_arrays_to_one_of_them(tmp_path):
    """A network that always says one voxel down and two to the side."""
    network = fake(2, 2.0, lambda fixed, _: 0 * fixed + np.array([1.0, 2.0]))
    arrays = np.stack([smooth_image((40, 44), k) for k in range(2)])
    result = regnet_jax.register_series(
        arrays, 1, network, spacing=2.0, initial="none", cycle=False
    )
    assert result.registrations[1] is None
    np.testing.assert_array_equal(result.displacement(1), 0)
    one = regnet_jax.register(*arrays[::-1], network, spacing=2.0, initial="none")
    np.testing.assert_allclose(result.displacement(0), one.displacement, atol=1e-5)
    lengths = np.linalg.norm(one.displacement, axis=-1)
    assert lengths.max() > 1
    np.testing.assert_allclose(result.amplitude, lengths, atol=1e-4)
    np.testing.assert_allclose(result.path, lengths, atol=1e-4)
    assert result.mid_position.array.shape == arrays[1].shape
    result.save(tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == SUMMARY | {"phase_0"}
    assert {p.name for p in (tmp_path / "out" / "phase_0").iterdir()} == RESULTS
    # Another reference: nothing of the first series stays.
    (tmp_path / "out" / "phase_0" / "labels.nii.gz").touch()
    again = regnet_jax.register_series(
        arrays, 0, network, spacing=2.0, initial="none", cycle=False
    )
    again.save(tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == SUMMARY | {"phase_1"}
    # Points of the reference of an earlier series do not stay beside new results.
    (tmp_path / "out" / "phase_0").mkdir()
    (tmp_path / "out" / "phase_0" / "points.csv").touch()
    again.save(tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == SUMMARY | {"phase_1"}
    there = dataclasses.replace(again, source=tmp_path / "out")
    with pytest.raises(InputError, match="is the folder of the phases"):
        there.save(tmp_path / "out")


def test_python_refuses_arguments_without_effect(phases):
    network = fake(2, 2.0, lambda fixed, _: 0 * fixed)
    folder = phases / "phases"
    with pytest.raises(InputError, match="spacing: is for phases that are bare arrays"):
        regnet_jax.register_series(folder, 0, network, spacing=7.0)
    with pytest.raises(InputError, match="spacing: is for phases that are bare arrays"):
        regnet_jax.register_series(sorted(folder.iterdir()), 0, network, spacing=7.0)
    with pytest.raises(InputError, match="cycle: is 'no'; give True or False"):
        regnet_jax.register_series(folder, 0, network, cycle="no")
    for given in (np.array(5.0), 5):
        with pytest.raises(InputError, match="series: is of type"):
            regnet_jax.register_series(given, 0, network)


def test_python_reads_masks_and_a_transform_once(tmp_path, monkeypatch):
    network = fake(2, 2.0, lambda fixed, _: 0 * fixed + np.array([1.0, 2.0]))
    arrays = np.stack([smooth_image((40, 44), k) for k in range(4)])
    inside = np.zeros(arrays[0].shape, np.uint8)
    inside[10:20, 10:30] = 1
    mask, start = store(tmp_path / "mask.mha", inside), tmp_path / "start.tfm"
    shift = sitk.TranslationTransform(2, (3.0, -2.0))
    sitk.WriteTransform(shift, str(start))
    read = []

    def counted(function):
        def counting(path, *given, **how):
            read.append(str(path))
            return function(path, *given, **how)

        return counting

    for module, name in (
        ("regnet_jax.io.images", "read_image"),
        ("regnet_jax.registration.series", "read_image"),
        ("regnet_jax.registration.start", "read_transform"),
    ):
        function = getattr(importlib.import_module(module), name)
        monkeypatch.setattr(f"{module}.{name}", counted(function))
    how = {"spacing": 2.0, "cycle": False}
    by_path = regnet_jax.register_series(
        arrays, 0, network, immobile=mask, initial=f"inverse:{start}", **how
    )
    assert sorted(read) == sorted([str(mask), f"inverse:{start}"])
    given = {"immobile": inside, "initial": shift.GetInverse()}
    by_object = regnet_jax.register_series(arrays, 0, network, **given, **how)
    for k in range(4):
        np.testing.assert_array_equal(
            by_path.displacement(k), by_object.displacement(k)
        )
    with pytest.raises(InputError, match="initial: 'gone' is no alignment and no file"):
        regnet_jax.register_series(arrays, 0, network, initial="gone", **how)


def test_table_has_the_bounds_of_the_estimated_errors(tmp_path):
    network = fake(2, 2.0, lambda fixed, _: 0 * fixed + np.array([1.0, 2.0]))
    arrays = [smooth_image((40, 44), k) for k in range(2)]
    result = regnet_jax.register_series(
        arrays, None, network, spacing=2.0, initial="none"
    )
    frame = result.fixed.frame
    everywhere = np.ones(frame.shape, bool)
    # Errors of about 1 mm with a logarithmic deviation of a half.
    estimate = ErrorEstimate(0.0 * everywhere, 0.5 * everywhere, everywhere, frame)
    one = dataclasses.replace(result.registrations[1], error_estimate=estimate)
    result = dataclasses.replace(result, registrations=(None, one))
    result.save(tmp_path / "out")
    row = rows(tmp_path / "out")["phase_1"]
    bound = stats.lognorm.ppf(0.95, 0.5)
    assert float(row["error_bound_body"]) == pytest.approx(bound, rel=0.01)
    assert row["error_bound_lungs"] == ""
