"""Measures from the command line, against what is known of the transform."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from regnet_jax.io import write_points, write_transform
from regnet_jax.spatial import (
    Frame,
    affine_transform,
    composite,
    map_points,
    to_index,
    to_sitk,
    to_world,
)
from tests.helpers.chest import grown
from tests.helpers.networks import smooth_image

TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])


def about(centre, shape, spacing, direction):
    """A grid about a point."""
    frame = Frame(shape, spacing, (0,) * len(shape), direction)
    return Frame(shape, spacing, np.subtract(centre, frame.centre), direction)


# The moving grid holds the fixed one and more.
FRAMES = {
    2: (
        about((-60, 25), (40, 50), (1.5, 2.0), TURN[:2, :2]),
        about((-60, 25), (50, 60), (1.6, 1.9), TURN[:2, :2]),
    ),
    3: (
        about((10, -20, 30), (20, 24, 28), (2.0, 1.5, 3.0), TURN),
        about((10, -20, 30), (30, 34, 36), (2.0, 1.8, 2.5), TURN),
    ),
}
dimensions = pytest.mark.parametrize("d", [2, 3])


def some_transform(frame):
    noise = np.random.default_rng(1).normal(size=(*frame.shape, frame.ndim))
    field = ndimage.gaussian_filter(noise, (*(5,) * frame.ndim, 0), mode="nearest")
    affine = np.eye(frame.ndim + 1)
    affine[0, -1] = 3.0
    return composite(frame, 5 * field / np.abs(field).max(), affine)


def blobs(points):
    """Two labels, each an ellipsoid in the world, at any points."""
    centre = points.reshape(-1, points.shape[-1]).mean(0)
    distance = np.linalg.norm(points - centre, axis=-1)
    return np.where(distance < 9, 2, np.where(distance < 16, 5, 0)).astype(np.uint8)


def grid(frame):
    return to_world(frame, np.moveaxis(np.indices(frame.shape), 0, -1))


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Folder of a pair in which the transform is the truth, and its paths as flags."""
    made = {}

    def get(d):
        if d in made:
            return made[d]
        folder, (fixed, moving) = tmp_path_factory.mktemp(f"case{d}d"), FRAMES[d]
        transform = some_transform(fixed)
        write_transform(folder / "t.h5", transform)
        store = {"moving": (smooth_image(moving.shape), moving)}
        store["moving_labels"] = (blobs(grid(moving)), moving)
        for name, how in (("", sitk.sitkLinear), ("_labels", sitk.sitkNearestNeighbor)):
            source = to_sitk(*store[f"moving{name}"])
            like = to_sitk(np.zeros(fixed.shape, np.uint8), fixed)
            warped = sitk.Resample(source, like, transform, how)
            store[f"fixed{name}"] = (sitk.GetArrayFromImage(warped), fixed)
        for name, (array, frame) in store.items():
            sitk.WriteImage(to_sitk(array, frame), str(folder / f"{name}.mha"))
        rng = np.random.default_rng(0)
        points = to_world(fixed, rng.uniform(3, np.array(fixed.shape) - 4, (30, d)))
        write_points(folder / "fixed.pts", points)
        write_points(folder / "moving.pts", map_points(transform, points))
        made[d] = folder
        return folder

    return get


def image_flags(folder):
    return [f"--{name}={folder}/{name}.mha" for name in ("fixed", "moving")]


def label_flags(folder):
    names = ("fixed_labels", "moving_labels")
    return [f"--{name}={folder}/{name}.mha" for name in names]


def point_flags(folder):
    return [
        f"--fixed_points={folder}/fixed.pts",
        f"--moving_points={folder}/moving.pts",
    ]


@pytest.fixture
def evaluate(command, tmp_path):
    """Run the command and give what the file says and what was printed."""

    def refuse(word):
        raise AssertionError(word)

    def run(*arguments, notices=()):
        out = tmp_path / "measures.json"
        result = command("evaluate", *arguments, f"--out={out}")
        assert result.status == 0, result.err
        assert len(result.errors) == len(notices), result.err
        for words, line in zip(notices, result.errors, strict=True):
            assert words in line
        assert str(out) in result.out
        assert not list(tmp_path.glob(".*"))
        # NaN and Infinity are no JSON.
        return json.loads(out.read_text("utf-8"), parse_constant=refuse), result.out

    return run


@dimensions
def test_evaluate_measures_a_pair_with_known_truth(case, evaluate, d):
    folder = case(d)
    flags = image_flags(folder) + label_flags(folder) + point_flags(folder)
    found, printed = evaluate(f"--transform={folder}/t.h5", *flags)
    assert set(found) == {
        *("transform", "tre", "tre_snapped"),
        *("overlap", "similarity", "jacobian"),
    }
    assert found["tre"]["before"]["mean"] > 1.0
    assert found["tre"]["after"]["max"] < 1e-5
    assert found["tre"]["after"]["n"] == 30
    low, high = found["tre"]["before"]["mean_ci95"]
    assert low < found["tre"]["before"]["mean"] < high
    # Rounding to voxels moves a point by up to half a diagonal.
    half = np.linalg.norm(FRAMES[d][1].spacing) / 2
    assert 0.1 < found["tre_snapped"]["after"]["max"] <= half + 1e-5
    for label in ("2", "5"):
        assert found["overlap"]["after"][label] == {"dice": 1, "hd95": 0}
        assert found["overlap"]["before"][label]["dice"] < 0.97
        assert found["overlap"]["before"][label]["hd95"] > 0.5
    assert found["similarity"]["after"]["correlation"] > 0.999
    assert found["similarity"]["before"]["correlation"] < 0.999
    assert "lung_correlation" not in found["similarity"]["after"]
    assert 0 < found["jacobian"]["min"] < 1
    assert found["jacobian"]["folding_fraction"] == 0
    assert found["jacobian"]["sd_log"] > 0.01
    for word in ("TRE (mm) mean", "label 5 hd95", "correlation", "Jacobian min"):
        assert word in printed


@dimensions
def test_evaluate_tre_equals_numpys(case, evaluate, d):
    folder = case(d)
    found, _ = evaluate(f"--transform={folder}/t.h5", *point_flags(folder))
    fixed, moving = (
        np.loadtxt(folder / f"{name}.pts", skiprows=2) for name in ("fixed", "moving")
    )
    before = np.linalg.norm(fixed - moving, axis=1)
    assert found["tre"]["before"]["mean"] == pytest.approx(before.mean())
    assert found["tre"]["before"]["sd"] == pytest.approx(before.std(ddof=1))
    assert found["tre"]["before"]["p95"] == pytest.approx(np.quantile(before, 0.95))
    # Nobody said where voxels lie; the field of the transform says where it folds.
    assert "tre_snapped" not in found
    assert "jacobian" in found


@dimensions
def test_evaluate_without_a_transform_measures_the_pair_as_it_is(case, evaluate, d):
    folder = case(d)
    flags = image_flags(folder) + label_flags(folder) + point_flags(folder)
    found, _ = evaluate(*flags)
    for section in ("tre", "tre_snapped", "overlap", "similarity"):
        assert found[section]["before"] == found[section]["after"]
    assert found["transform"] is None
    assert "jacobian" not in found


def test_evaluate_warns_of_one_image_for_both(case, evaluate):
    path = case(3) / "fixed.mha"
    labels = case(3) / "fixed_labels.mha"
    evaluate(
        *(f"--fixed={path}", f"--moving={path}"),
        *(f"--fixed_labels={labels}", f"--moving_labels={labels}"),
        notices=("fixed.mha: is the same image", "labels.mha: is the same image"),
    )


def test_evaluate_overlap_equals_simpleitks(case, evaluate):
    folder = case(3)
    found, _ = evaluate(*label_flags(folder))
    fixed, moving = (
        sitk.ReadImage(str(folder / f"{name}_labels.mha"))
        for name in ("fixed", "moving")
    )
    moved = sitk.Resample(moving, fixed, sitk.Transform(), sitk.sitkNearestNeighbor)
    measures = sitk.LabelOverlapMeasuresImageFilter()
    measures.Execute(fixed, moved)
    for label in (2, 5):
        dice = measures.GetDiceCoefficient(label)
        assert found["overlap"]["before"][str(label)]["dice"] == pytest.approx(dice)


def test_evaluate_snaps_landmarks_of_dirlab_and_learn2reg(case, evaluate, tmp_path):
    """Snapped errors of landmarks that are voxels, by hand."""
    folder, (fixed, moving) = case(3), FRAMES[3]
    transform = some_transform(fixed)
    rng = np.random.default_rng(0)
    index = rng.integers(3, np.array(fixed.shape) - 4, (25, 3))
    warped = map_points(transform, to_world(fixed, index))
    partner = np.rint(to_index(moving, warped)).astype(int)
    partner[::2, 1] += 1
    np.savetxt(tmp_path / "f.txt", index[:, ::-1] + 1, "%d")
    np.savetxt(tmp_path / "m.csv", partner[:, ::-1], "%d", ",")
    found, _ = evaluate(
        f"--transform={folder}/t.h5",
        *label_flags(folder),
        f"--fixed_points={tmp_path}/f.txt",
        f"--moving_points={tmp_path}/m.csv",
        notices=("the custom of DIR-Lab", "the custom of Learn2Reg"),
    )
    # Every second landmark is one voxel along y off, the others are exact.
    snapped = found["tre_snapped"]["after"]
    assert snapped["mean"] == pytest.approx(moving.spacing[1] * 13 / 25)
    assert snapped["max"] == pytest.approx(moving.spacing[1])
    errors = np.linalg.norm(warped - to_world(moving, partner), axis=1)
    assert found["tre"]["after"]["mean"] == pytest.approx(errors.mean())


def test_evaluate_jacobian_of_a_known_map(evaluate, tmp_path):
    frame = Frame((7, 8, 9), (1.0, 2.0, 3.0), (0, 0, 0), TURN)
    image = to_sitk(smooth_image(frame.shape), frame)
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[1.1, 0.2, 0.0], [0.0, 0.9, 0.1], [0.3, 0.0, 1.2]])
    write_transform(tmp_path / "t.tfm", affine_transform(matrix))
    found, _ = evaluate(
        f"--transform={tmp_path}/t.tfm",
        f"--fixed={tmp_path}/a.mha",
        f"--moving={tmp_path}/a.mha",
        notices=("is the same image",),
    )
    expected = np.linalg.det(matrix)
    assert found["jacobian"]["min"] == pytest.approx(expected, rel=1e-4)
    assert found["jacobian"]["max"] == pytest.approx(expected, rel=1e-4)
    assert found["similarity"]["before"]["correlation"] == pytest.approx(1)


def test_evaluate_correlates_the_lungs_of_a_chest(evaluate, tmp_path):
    z, y, x = np.indices((20, 40, 50))
    body = ((y - 20) / 17) ** 2 + ((x - 25) / 22) ** 2 < 1
    lungs = ((z - 10) / 8) ** 2 + ((y - 20) / 10) ** 2 + ((x - 25) / 14) ** 2 < 1
    tissue = np.random.default_rng(1).normal(40, 5, body.shape)
    image = np.where(body, tissue, -1000).astype(np.int16)
    texture = np.random.default_rng(0).normal(-850, 30, image.shape)
    image[lungs] = texture[lungs]
    frame = Frame(image.shape, (4, 4, 4), (0, 0, 0), np.diag([-1, -1, 1]))
    sitk.WriteImage(to_sitk(image, frame), str(tmp_path / "fixed.mha"))
    rolled = np.roll(image, 1, 2)
    sitk.WriteImage(to_sitk(rolled, frame), str(tmp_path / "moving.mha"))
    matrix = np.eye(4)
    # One voxel along x of a flipped grid.
    matrix[0, 3] = -4.0
    write_transform(tmp_path / "t.tfm", affine_transform(matrix))
    found, _ = evaluate(f"--transform={tmp_path}/t.tfm", *image_flags(tmp_path))
    expected = np.corrcoef(image[lungs], rolled[lungs])[0, 1]
    before, after = (found["similarity"][moment] for moment in ("before", "after"))
    assert before["lung_correlation"] == pytest.approx(expected, abs=1e-4)
    assert after["lung_correlation"] == pytest.approx(1)
    assert before["correlation"] > 0.5


def test_evaluate_writes_null_for_undefined_measures(evaluate, tmp_path):
    """NaN becomes null."""
    frame = Frame((6, 7), (1, 1), (0, 0), np.eye(2))
    first, second = np.zeros((2, 6, 7), np.uint8)
    first[2:4, 2:4] = second[1:3, 1:3] = 1
    first[5, 5] = 9
    sitk.WriteImage(to_sitk(first, frame), str(tmp_path / "fixed_labels.mha"))
    sitk.WriteImage(to_sitk(second, frame), str(tmp_path / "moving_labels.mha"))
    for name in ("fixed", "moving"):
        write_points(tmp_path / f"{name}.pts", [[1.0, 2.0]])
    found, _ = evaluate(
        *(*label_flags(tmp_path), *point_flags(tmp_path)),
        notices=("label 9: is not in both label maps after warping",),
    )
    assert found["overlap"]["after"]["9"] == {"dice": 0, "hd95": None}
    assert found["overlap"]["after"]["1"]["dice"] == pytest.approx(0.25)
    assert found["tre"]["after"]["sd"] is None
    assert found["tre"]["after"]["mean"] == 0


BAD = {
    "nothing": ([], "--fixed_points"),
    "only-transform": (["--transform={case}/t.h5"], "--fixed_points"),
    "half-points": (["--fixed_points={case}/fixed.pts"], "--moving_points"),
    "half-labels": (["--moving_labels={case}/moving_labels.mha"], "--fixed_labels"),
    "half-images": (["{images}", "--fixed_labels={case}/fixed.mha"], "--moving_labels"),
    "half-fixed": (["{points}", "--fixed={case}/fixed.mha"], "--moving"),
    "missing": (["--fixed={tmp}/no.mha", "--moving={case}/moving.mha"], "no.mha"),
    "counts": (
        ["--fixed_points={case}/fixed.pts", "--moving_points={tmp}/one.pts"],
        "one.pts",
    ),
    "point-dimension": (
        ["--fixed_points={tmp}/3d.pts", "--moving_points={tmp}/one.pts"],
        "one.pts",
    ),
    "image-of-points": (
        ["{images}", "--fixed_points={tmp}/3d.pts", "--moving_points={tmp}/3d.pts"],
        "3d.pts",
    ),
    "voxels": (["--fixed_points={tmp}/a.csv", "--moving_points={tmp}/a.csv"], "a.csv"),
    "outside": (
        ["{images}", "--fixed_points={tmp}/a.csv", "--moving_points={tmp}/a.csv"],
        "a.csv",
    ),
    "nan-points": (
        ["--fixed_points={tmp}/nan.pts", "--moving_points={tmp}/one.pts"],
        "nan.pts",
    ),
    "transform-dimension": (["{points}", "--transform={tmp}/3d.tfm"], "fixed.pts"),
    "no-transform": (["{points}", "--transform={tmp}/one.pts"], "one.pts"),
    "mixed": (
        ["{images}", "--fixed_labels={tmp}/3d.mha", "--moving_labels={tmp}/3d.mha"],
        "3d.mha",
    ),
    "constant": (["--fixed={tmp}/zero.mha", "--moving={case}/moving.mha"], "zero.mha"),
    "no-labels": (
        [
            "--fixed_labels={tmp}/zero.mha",
            "--moving_labels={case}/moving_labels.mha",
        ],
        "zero.mha",
    ),
    "fractions": (
        [
            "--fixed_labels={case}/fixed.mha",
            "--moving_labels={case}/moving_labels.mha",
        ],
        "fixed.mha",
    ),
    "folder": (["{points}", "--out={tmp}/no/m.json"], "no/m.json"),
    "out-is-a-folder": (["{points}", "--out={tmp}"], "{tmp}"),
}


@pytest.mark.parametrize("name", BAD)
def test_evaluate_refuses_bad_input_in_one_line(command, case, tmp_path, name):
    folder = case(2)
    write_points(tmp_path / "one.pts", [[1.0, 2.0]])
    write_points(tmp_path / "3d.pts", [[1.0, 2.0, 3.0]])
    (tmp_path / "nan.pts").write_text("point\n1\nnan 2\n")
    (tmp_path / "a.csv").write_text("1,900\n")
    write_transform(tmp_path / "3d.tfm", affine_transform(np.eye(4)))
    for image, shape in (("zero", (5, 6)), ("3d", (3, 4, 5))):
        array = np.full(shape, image == "3d", np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"{image}.mha"))
    arguments, names = BAD[name]
    groups = {"{images}": image_flags(folder), "{points}": point_flags(folder)}
    places = {"tmp": tmp_path, "case": folder}
    given = [f"--out={tmp_path}/measures.json"]
    for argument in arguments:
        given += groups.get(argument) or [argument.format(**places)]
    before = {path.name for path in tmp_path.iterdir()}
    result = command("evaluate", *given)
    assert result.status == 2, result
    assert len(result.errors) == 1, result.err
    assert result.errors[0].startswith("error: ")
    assert names.format(**places) in result.errors[0]
    assert {path.name for path in tmp_path.iterdir()} == before


@dimensions
def test_evaluate_writes_inverse_and_jacobian_beside_its_measures(
    case, command, tmp_path, d
):
    folder, (fixed, moving) = case(d), FRAMES[d]
    flags = [f"--transform={folder}/t.h5", *image_flags(folder)]
    flags += ["--write", "inverse", "jacobian", f"--out={tmp_path}/m.json"]
    result = command("evaluate", *flags)
    assert result.status == 0, result.err
    names = {"inverse_transform.h5", "inverse_displacement.nii.gz", "jacobian.nii.gz"}
    assert {path.name for path in tmp_path.iterdir()} == names | {"m.json"}
    assert all(str(tmp_path / name) in result.out for name in names)
    transform = some_transform(fixed)
    rng = np.random.default_rng(0)
    points = to_world(fixed, rng.uniform(3, np.array(fixed.shape) - 4, (20, d)))
    moved = map_points(transform, points)
    inverse = sitk.ReadTransform(str(tmp_path / "inverse_transform.h5"))
    np.testing.assert_allclose(map_points(inverse, moved), points, atol=0.2)
    field = sitk.ReadImage(
        str(tmp_path / "inverse_displacement.nii.gz"), sitk.sitkVectorFloat64
    )
    assert field.GetSize() == moving.shape[::-1]
    back = map_points(sitk.DisplacementFieldTransform(field), moved)
    np.testing.assert_allclose(back, points, atol=0.2)
    written = json.loads((tmp_path / "m.json").read_text("utf-8"))
    jacobian = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "jacobian.nii.gz")))
    assert jacobian.min() == pytest.approx(written["jacobian"]["min"], abs=1e-5)
    # ITK's own filter ignores the direction, so that of central differences by hand.
    index = rng.integers(1, np.array(fixed.shape) - 1, (30, d))
    columns = [
        map_points(transform, to_world(fixed, index + step))
        - map_points(transform, to_world(fixed, index - step))
        for step in np.eye(d)
    ]
    volumes = np.linalg.det(np.stack(columns, -1) / 2)
    found = jacobian[tuple(index.T)]
    np.testing.assert_allclose(found, volumes / np.linalg.det(fixed.matrix), atol=1e-3)
    assert np.ptp(found) > 0.1


def test_evaluate_writes_the_ventilation_of_lungs(command, tmp_path):
    frame = Frame((24, 40, 44), (5.0, 5.0, 5.0), (0, 0, 0), np.diag([-1, -1, 1]))
    matrix, fixed, moving, gained = grown(frame, 1.06)
    for name, array in (("exhale", fixed), ("inhale", moving)):
        sitk.WriteImage(to_sitk(array.astype(np.int16), frame),
                        str(tmp_path / f"{name}.mha"))  # fmt: skip
    write_transform(tmp_path / "t.tfm", affine_transform(matrix))
    out = tmp_path / "out"
    out.mkdir()
    flags = [f"--transform={tmp_path}/t.tfm", f"--out={out}/m.json",
             f"--fixed={tmp_path}/exhale.mha", f"--moving={tmp_path}/inhale.mha",
             "--write=ventilation"]  # fmt: skip
    result = command("evaluate", *flags)
    assert result.status == 0, result.err
    by_units, by_map = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(out / f"ventilation_{name}.nii.gz")))
        for name in ("hu", "jacobian")
    )
    lungs = by_map != 0
    assert lungs.any()
    assert not lungs[fixed != -800].any()
    np.testing.assert_allclose(by_map[lungs], 1.06**3 - 1, atol=1e-3)
    assert np.median(by_units[lungs]) == pytest.approx(gained, abs=0.02)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--write=jacobian", "{images}"], "--write jacobian: needs --transform"),
        (["--write=inverse", "{t}", "{points}"], "--write inverse: needs"),
        (["--write=ventilation", "{t}", "{labels}"], "--write ventilation: needs"),
        (["--write=ventilation", "{t}", "{images}"], "do not both show lungs"),
    ],
)
def test_evaluate_refuses_maps_without_their_grids(
    case, command, tmp_path, flags, message
):
    folder = case(3)
    known = {
        "{t}": [f"--transform={folder}/t.h5"],
        "{images}": image_flags(folder),
        "{labels}": label_flags(folder),
        "{points}": point_flags(folder),
    }
    given = [word for flag in flags for word in known.get(flag, [flag])]
    result = command("evaluate", *given, f"--out={tmp_path}/m.json")
    assert result.status == 2
    assert len(result.errors) == 1
    assert message in result.errors[0]
    assert not list(tmp_path.iterdir())


def test_evaluate_takes_several_transforms(case, evaluate, tmp_path):
    """A translation and back is nothing; the truth remains."""
    folder = case(2)
    sitk.WriteTransform(
        sitk.TranslationTransform(2, (3.0, 4.0)), str(tmp_path / "a.mat")
    )
    found, _ = evaluate(
        *("--transform", f"{tmp_path}/a.mat", f"[{tmp_path}/a.mat,1]"),
        *(f"{folder}/t.h5", *point_flags(folder)),
    )
    assert found["tre"]["after"]["max"] < 1e-5
    assert len(found["transform"]) == 3


def test_landmarks_beyond_the_field_are_told(command, tmp_path):
    frame = Frame((6, 7, 8), (2.0,) * 3, (0.0,) * 3, np.eye(3))
    field = np.full((*frame.shape, 3), 1.5)
    write_transform(tmp_path / "t.h5", composite(frame, field, np.eye(4)))
    points = np.array([[4.0, 4.0, 4.0], [90.0, 4.0, 4.0]])
    write_points(tmp_path / "fixed.pts", points)
    write_points(tmp_path / "moving.pts", points + 1.5)
    arguments = [f"--{name}={tmp_path / name}.pts" for name in ("fixed", "moving")]
    result = command(
        "evaluate",
        f"--transform={tmp_path / 't.h5'}",
        *(a.replace("=", "_points=", 1) for a in arguments),
        f"--out={tmp_path / 'm.json'}",
    )
    assert result.status == 0
    assert "1 of 2 points (number 2) lie beyond the grid" in result.err


def test_odd_landmarks_and_labels_get_a_line(command, tmp_path):
    """Points outside of both images, labels of which none is in both maps."""
    frame = Frame((20, 24), (2, 2), (0, 0), np.eye(2))
    one = np.zeros(frame.shape, np.int16)
    one[5:9, 5:9] = 1
    for name, array in (("one", one), ("two", 2 * one), ("neg", one - 1)):
        sitk.WriteImage(to_sitk(array, frame), str(tmp_path / f"{name}.mha"))
        image = smooth_image(frame.shape, len(name))
        sitk.WriteImage(to_sitk(image, frame), str(tmp_path / f"image_{name}.mha"))
    write_points(tmp_path / "in.csv", [[10.0, 12.0], [20.0, 22.0]])
    write_points(tmp_path / "out.csv", [[-90.0, 12.0], [20.0, 22.0]])

    def run(moving, points):
        return command(
            "evaluate",
            *(
                f"--fixed={tmp_path}/image_one.mha",
                f"--moving={tmp_path}/image_two.mha",
            ),
            *(f"--fixed_labels={tmp_path}/one.mha", f"--moving_labels={moving}"),
            *(f"--fixed_points={tmp_path}/in.csv", f"--moving_points={points}"),
            f"--out={tmp_path}/m.json",
        )

    whole = run(tmp_path / "one.mha", tmp_path / "in.csv")
    assert whole.status == 0, whole.err
    assert "label maps" not in whole.err
    assert "outside of" not in whole.err
    odd = run(tmp_path / "two.mha", tmp_path / "out.csv")
    assert odd.status == 0
    assert "1 of 2 landmarks of the moving image lie outside of it" in odd.err
    assert "no label is in both label maps" in odd.err
    assert "holds negative values" in run(tmp_path / "neg.mha", tmp_path / "in.csv").err


def test_labels_that_lose_digits_are_refused(command, tmp_path):
    frame = Frame((8, 9), (2, 2), (0, 0), np.eye(2))
    labels = np.full(frame.shape, 2**53 + 1, np.int64)
    sitk.WriteImage(to_sitk(labels, frame), str(tmp_path / "a.mha"))
    both = [f"--{n}_labels={tmp_path}/a.mha" for n in ("fixed", "moving")]
    result = command("evaluate", *both, f"--out={tmp_path}/m.json")
    assert result.status == 2
    assert "a.mha: has labels above 2^53" in result.errors[0]
