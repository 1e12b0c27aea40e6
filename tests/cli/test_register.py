"""A registration from the command line: five files that agree with each other."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax import pretrained
from tests.helpers.networks import smooth_image

FILES = {
    "warped.nii.gz",
    "displacement.nii.gz",
    "transform.h5",
    "report.json",
    "report.html",
}
ANGLE = 0.3
# A turn in the plane, and a flip in the moving image: neither is the default.
TURN = np.array([[np.cos(ANGLE), -np.sin(ANGLE)], [np.sin(ANGLE), np.cos(ANGLE)]])
PAIRS = {
    2: (
        ((70, 90), (1.5, 2.0), (-60.0, 25.0), TURN),
        ((80, 76), (1.8, 1.6), (-50.0, 30.0), TURN @ np.diag([1, -1])),
    ),
    3: (
        ((40, 44, 48), (2.0, 2.0, 2.5), (10.0, -20.0, 30.0), np.eye(3)),
        ((48, 44, 40), (2.0, 2.0, 2.0), (10.0, 70.0, 30.0), np.diag([1, -1, 1])),
    ),
}


def store(path, seed, shape, spacing, origin, direction):
    image = sitk.GetImageFromArray(smooth_image(shape, seed).astype(np.int16))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(np.ravel(direction).tolist())
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture(scope="module")
def results(command, run2d, run3d, tmp_path_factory):
    """Folder, images and what was printed, for each dimension, made once."""
    made = {}

    def get(d):
        if d not in made:
            folder = tmp_path_factory.mktemp(f"pair{d}d")
            fixed, moving = (
                store(folder / f"{name}.nii.gz", seed, *grid)
                for seed, (name, grid) in enumerate(
                    zip(("fixed", "moving"), PAIRS[d], strict=True)
                )
            )
            arguments = [
                f"--fixed={fixed}",
                f"--moving={moving}",
                f"--model={run2d if d == 2 else run3d}",
                f"--out={folder / 'out' / 'deep'}",
                f"--initial={'center' if d == 3 else 'affine'}",
            ]
            result = command("register", *arguments)
            assert result.status == 0, result.err
            made[d] = folder / "out" / "deep", fixed, moving, arguments, result
        return made[d]

    return get


dimensions = pytest.mark.parametrize("d", [2, 3])


@dimensions
def test_register_writes_five_files_and_prints_their_place(results, d):
    out, _, _, _, printed = results(d)
    assert {path.name for path in out.iterdir()} == FILES
    # Nothing temporary remains beside them.
    assert {path.name for path in out.parents[1].iterdir()} == {
        "fixed.nii.gz",
        "moving.nii.gz",
        "out",
    }
    assert str(out) in printed.out
    assert "Traceback" not in printed.err
    # The two images have nothing in common: all that is said of it is in the report.
    warnings = json.loads((out / "report.json").read_text("utf-8"))["warnings"]
    assert len(printed.errors) == len(warnings)
    for warning in warnings:
        assert any(warning in line for line in printed.errors), warning


@dimensions
def test_displacement_file_agrees_with_the_transform(results, d):
    out, *_ = results(d)
    field = sitk.ReadImage(str(out / "displacement.nii.gz"), sitk.sitkVectorFloat64)
    transform = sitk.ReadTransform(str(out / "transform.h5"))
    size = np.array(field.GetSize())
    rng = np.random.default_rng(0)
    voxels = rng.integers(0, size, (200, d))
    between = rng.uniform(0, size - 1, (200, d))
    interpolate = sitk.DisplacementFieldTransform(sitk.Image(field))
    lengths = []
    differences = []
    for index in (*voxels.tolist(), *between.tolist()):
        point = field.TransformContinuousIndexToPhysicalPoint(index)
        mapped = transform.TransformPoint(point)
        differences.append(np.subtract(interpolate.TransformPoint(point), mapped))
        lengths.append(np.subtract(mapped, point))
    # Between voxels both interpolate the same field, over other cells.
    at_voxels, elsewhere = np.abs(np.split(np.array(differences), 2))
    assert at_voxels.max() < 1e-3
    assert elsewhere.mean() < 0.01 * np.abs(lengths).mean()
    for index in voxels.tolist():
        point = np.array(field.TransformIndexToPhysicalPoint(index))
        mapped = transform.TransformPoint(point.tolist())
        np.testing.assert_allclose(point + field[index], mapped, atol=1e-3)
    # The comparison means something: the field is neither zero nor constant.
    assert np.linalg.norm(lengths, axis=1).max() > 1.0
    assert np.std(lengths, axis=0).max() > 0.1


@dimensions
def test_displacement_and_warped_lie_on_the_fixed_grid(results, d):
    out, path, *_ = results(d)
    fixed = sitk.ReadImage(str(path))
    for name in ("displacement.nii.gz", "warped.nii.gz"):
        image = sitk.ReadImage(str(out / name))
        assert image.GetSize() == fixed.GetSize()
        np.testing.assert_allclose(image.GetSpacing(), fixed.GetSpacing(), rtol=1e-6)
        np.testing.assert_allclose(image.GetOrigin(), fixed.GetOrigin(), atol=1e-4)
        np.testing.assert_allclose(
            image.GetDirection(), fixed.GetDirection(), atol=1e-6
        )


@dimensions
def test_warped_file_is_the_moving_image_through_the_transform(results, d):
    out, fixed, moving, *_ = results(d)
    warped = sitk.ReadImage(str(out / "warped.nii.gz"))
    assert warped.GetPixelID() == sitk.sitkInt16
    moving = sitk.ReadImage(str(moving))
    transform = sitk.ReadTransform(str(out / "transform.h5"))
    expected = sitk.Resample(
        sitk.Cast(moving, sitk.sitkFloat64),
        sitk.ReadImage(str(fixed)),
        transform,
        sitk.sitkLinear,
        float(sitk.GetArrayViewFromImage(moving).min()),
    )
    difference = sitk.GetArrayFromImage(warped) - sitk.GetArrayFromImage(expected)
    # Half a unit is rounding. Where a point falls on the very edge of the moving
    # image, the last bit decides whether it is in.
    assert np.quantile(np.abs(difference), 0.999) <= 0.51


@dimensions
def test_report_holds_times_similarity_and_versions(results, d):
    out, *_ = results(d)
    report = json.loads((out / "report.json").read_text("utf-8"))
    phases = dict(report["seconds"])
    total = phases.pop("total")
    assert total == pytest.approx(sum(phases.values()))
    assert set(phases) == {"alignment", "prediction", "resampling"}
    assert report["model"].endswith(f"run{d}d0")
    for moment in ("before", "after"):
        assert -1 <= report["similarity"][moment]["correlation"] <= 1
    assert report["jacobian"]["min"] <= 1
    assert 0 <= report["jacobian"]["folding_fraction"] <= 1
    assert {"regnet_jax", "python", "jax", "SimpleITK"} <= set(report["versions"])
    affine = np.array(report["affine"])
    assert affine.shape == (d + 1, d + 1)
    assert "<html" in (out / "report.html").read_text("utf-8")[:500].lower()


def test_report_holds_no_nan_that_json_lacks(results):
    """NaN and Infinity are no JSON."""

    def refuse(word):
        raise AssertionError(word)

    out, *_ = results(2)
    json.loads((out / "report.json").read_text("utf-8"), parse_constant=refuse)


def test_second_run_replaces_the_results_and_keeps_other_files(results, command):
    out, fixed, _, arguments, _ = results(2)
    kept = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "notes.txt").write_text("my own")
    others = [flag for flag in arguments if not flag.startswith("--moving=")]
    changed = [*others, "--initial=none", f"--moving={fixed}"]
    try:
        assert command("register", *changed).status == 0
        assert {path.name for path in out.iterdir()} == FILES | {"notes.txt"}
        assert (out / "notes.txt").read_text("utf-8") == "my own"
        for name in FILES:
            assert (out / name).read_bytes() != kept[name], name
        assert (
            json.loads((out / "report.json").read_text("utf-8"))["affine"]
            == np.eye(3).tolist()
        )
    finally:
        (out / "notes.txt").unlink()
        for name, data in kept.items():
            (out / name).write_bytes(data)


def test_affine_of_a_file_is_kept_with_a_mask(results, command, tmp_path):
    _, fixed, _, arguments, _ = results(2)
    affine = sitk.AffineTransform(2)
    affine.SetMatrix([1.05, 0.02, -0.03, 0.97])
    affine.SetCenter((3.0, 4.0))
    affine.SetTranslation((2.5, -1.5))
    sitk.WriteTransform(affine, str(tmp_path / "affine.tfm"))
    mask = sitk.ReadImage(str(fixed)) > -5000
    sitk.WriteImage(mask, str(tmp_path / "mask.mha"))
    result = command(
        "register",
        *arguments,
        f"--out={tmp_path / 'out'}",
        f"--initial={tmp_path / 'affine.tfm'}",
        f"--fixed_mask={tmp_path / 'mask.mha'}",
    )
    assert result.status == 0, result.err
    found = np.array(
        json.loads((tmp_path / "out/report.json").read_text("utf-8"))["affine"]
    )
    for point in np.random.default_rng(0).normal(scale=50, size=(5, 2)):
        expected = affine.TransformPoint(point.tolist())
        np.testing.assert_allclose(found[:2, :2] @ point + found[:2, 2], expected)


def test_masks_limit_the_field_and_the_report_says_so(results, command, tmp_path):
    """On grids of their own; the same of a list of pairs, which then is finished."""
    _, fixed, moving, arguments, _ = results(2)
    image, other = (sitk.ReadImage(str(path)) for path in (fixed, moving))
    paths = {}
    for name, corner, owner in (
        ("ignore_fixed", 20, image),
        ("ignore_moving", 40, other),
        ("immobile", 5, image),
    ):
        inside = np.zeros(owner.GetSize()[::-1], np.uint8)
        inside[corner : corner + 14, 50:64] = 1
        mask = sitk.GetImageFromArray(inside)
        mask.CopyInformation(owner)
        finer = [2 * n for n in mask.GetSize()]
        spacing = [s / 2 for s in mask.GetSpacing()]
        mask = sitk.Resample(
            *(
                mask,
                finer,
                sitk.Transform(2, sitk.sitkIdentity),
                sitk.sitkNearestNeighbor,
            ),
            *(mask.GetOrigin(), spacing, mask.GetDirection()),
        )
        paths[name] = tmp_path / f"{name}.mha"
        sitk.WriteImage(mask, str(paths[name]))
    masks = [f"--{name}={path}" for name, path in paths.items()]
    result = command("register", *arguments, f"--out={tmp_path / 'out'}", *masks)
    assert result.status == 0, result.err
    report = json.loads((tmp_path / "out/report.json").read_text("utf-8"))
    assert {name: report["request"][name] for name in paths} == {
        name: str(path) for name, path in paths.items()
    }
    described = report["parameters"]["masks"]
    assert list(described) == list(paths)
    assert described["immobile"]["transition_mm"] >= 10.0
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert "the linear alignment alone moves these voxels" in page
    field = sitk.ReadImage(str(tmp_path / "out/displacement.nii.gz"))
    affine = np.asarray(report["affine"])
    for index in ((50, 5), (57, 12), (63, 18)):
        point = np.asarray(image.TransformIndexToPhysicalPoint(index))
        expected = affine[:2, :2] @ point + affine[:2, 2] - point
        np.testing.assert_allclose(field[index], expected, atol=1e-3)
    row = {"name": "out", "fixed": fixed, "moving": moving} | paths
    lines = ",".join(row), ",".join(map(str, row.values()))
    (tmp_path / "list.csv").write_text("\n".join(lines))
    flags = [a for a in arguments if a.startswith(("--model", "--initial"))]
    listed = f"--pairs={tmp_path / 'list.csv'}"
    result = command("register", *flags, listed, f"--out={tmp_path}")
    assert result.status == 0, result.err
    assert "1 finished before" in result.out


def test_model_list_prints_the_shipped_networks(command):
    result = command("register", "--model=list")
    assert result.status == 0, result.err
    names = [line.split()[0] for line in result.out.splitlines()]
    assert names == pretrained.names()
    assert "lung" in names


def test_deformation_of_a_file_is_the_start_and_more_is_written(
    results, command, tmp_path
):
    """Of a pair that is registered already: what is written is the total."""
    first, fixed, moving, arguments, _ = results(2)
    result = command(
        *("register", *arguments, f"--out={tmp_path / 'out'}"),
        f"--initial={first / 'displacement.nii.gz'}",
        *("--write", "inverse", "jacobian", "--format=elastix"),
    )
    assert result.status == 0, result.err
    assert "--write elastix inverse jacobian" in result.out
    added = {"inverse_transform.h5", "inverse_displacement.nii.gz", "jacobian.nii.gz"}
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == (
        FILES | added | {"transform_elastix.txt"}
    )
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert report["parameters"]["initial"] == "given"
    assert report["request"]["initial"].endswith("displacement.nii.gz")
    # The linear part of the start is kept.
    before = json.loads((first / "report.json").read_text("utf-8"))["affine"]
    assert np.abs(np.subtract(report["affine"], before)[:, :2]).max() < 0.1
    transform = sitk.ReadTransform(str(out / "transform.h5"))
    field = sitk.ReadImage(str(out / "displacement.nii.gz"), sitk.sitkVectorFloat64)
    other = sitk.DisplacementFieldTransform(sitk.Image(field))
    size = np.array(field.GetSize())
    for index in np.random.default_rng(0).uniform(0.4, 0.6, (9, 2)) * size:
        point = field.TransformContinuousIndexToPhysicalPoint(index.tolist())
        moved = transform.TransformPoint(point)
        np.testing.assert_allclose(other.TransformPoint(point), moved, atol=1e-3)
    warped = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "warped.nii.gz")))
    expected = sitk.Resample(
        sitk.ReadImage(str(moving), sitk.sitkFloat64), sitk.ReadImage(str(fixed)),
        transform, sitk.sitkLinear,
        float(sitk.GetArrayFromImage(sitk.ReadImage(str(moving))).min()),
    )  # fmt: skip
    difference = np.abs(warped - sitk.GetArrayFromImage(expected))
    assert np.quantile(difference, 0.99) <= 0.51
    inverse = sitk.ReadTransform(str(out / "inverse_transform.h5"))
    name = str(out / "inverse_displacement.nii.gz")
    back = sitk.ReadImage(name, sitk.sitkVectorFloat64)
    assert back.GetSize() == sitk.ReadImage(str(moving)).GetSize()
    for index in np.random.default_rng(0).integers(0, back.GetSize(), (9, 2)).tolist():
        point = back.TransformIndexToPhysicalPoint(index)
        expected = np.add(point, back.GetPixel(index))
        np.testing.assert_allclose(inverse.TransformPoint(point), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--initial=elastic", "'elastic' is no alignment and no file"),
        ("--initial=gone.h5,inverse:b.mat", "initial: gone.h5: does not exist"),
        ("--write=ventilation", "do not both show lungs"),
        ("--write=pdf", "pdf"),
    ],
)
def test_register_refuses_what_it_cannot_start_from_or_write(
    results, command, tmp_path, flag, message
):
    _, _, _, arguments, _ = results(2)
    result = command("register", *arguments, f"--out={tmp_path / 'out'}", flag)
    assert result.status == 2
    assert len(result.errors) == 1
    assert message in result.errors[0]
    assert not (tmp_path / "out").exists()
