"""What comes back from a registration: inverse, Jacobian, measures and files."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import stats

from regnet_jax.errors import InputError
from regnet_jax.evaluation import ErrorEstimate
from regnet_jax.io import write_points
from regnet_jax.registration.result import Registration, Shown
from regnet_jax.registration.saving import OPTIONAL_FILES
from regnet_jax.reporting.schema import RegistrationReport
from regnet_jax.spatial import Frame, Image, map_points, to_world, warp_image
from tests.helpers.chest import grown
from tests.helpers.networks import smooth_image

FRAME = Frame((30, 36), (2.0, 1.5), (5.0, -8.0), np.eye(2))
MOVING = Frame((34, 40), (2.0, 1.5), (-2.0, -12.0), np.diag([1.0, 1.0]))
AFFINE = np.array([[1.05, 0.02, 1.5], [-0.03, 0.97, -2.0], [0.0, 0.0, 1.0]])


@pytest.fixture
def registration():
    """A smooth residual and an affine map between two grids."""
    grid = to_world(FRAME, np.moveaxis(np.indices(FRAME.shape), 0, -1))
    residual = 1.5 * np.sin(grid[..., ::-1] / 12.0)
    fixed = Image(smooth_image(FRAME.shape), FRAME, "fixed")
    moving = Image(smooth_image(MOVING.shape, 1), MOVING, "moving")
    everywhere = np.ones(FRAME.shape, bool)
    result = Registration(
        fixed, moving, AFFINE, residual, FRAME, fixed, Shown(*[everywhere] * 3),
        {"all": 1.0}, {"model": "m"}, ("a notice",),
    )  # fmt: skip
    warped = warp_image(moving, FRAME, result.transform)
    object.__setattr__(result, "warped", warped)
    return result


def points_inside(count=50):
    rng = np.random.default_rng(2)
    return to_world(FRAME, rng.uniform(4, np.array(FRAME.shape) - 5, (count, 2)))


def test_inverse_brings_points_back(registration):
    points = points_inside()
    moved = map_points(registration.transform, points)
    assert np.linalg.norm(moved - points, axis=1).max() > 2.0
    back = map_points(registration.inverse(), moved)
    np.testing.assert_allclose(back, points, atol=0.05)


def test_inverse_beyond_the_moving_image_is_that_of_the_alignment(registration):
    far = np.array([[500.0, -700.0]])
    expected = np.linalg.inv(AFFINE) @ [500.0, -700.0, 1.0]
    found = map_points(registration.inverse(), far)
    np.testing.assert_allclose(found[0], expected[:2], atol=1e-6)


def test_jacobian_is_the_determinant_of_the_transform(registration):
    field = sitk.TransformToDisplacementField(
        registration.transform, sitk.sitkVectorFloat64, FRAME.shape[::-1],
        FRAME.origin, FRAME.spacing, FRAME.direction,
    )  # fmt: skip
    expected = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field))
    inner = (slice(1, -1),) * 2
    np.testing.assert_allclose(registration.jacobian[inner], expected[inner], atol=1e-3)


def test_evaluate_measures_landmarks_and_labels(registration, tmp_path):
    points = points_inside()
    moved = map_points(registration.transform, points) + np.array([3.0, 4.0])
    labels = [(image.array > -300).astype(np.uint8)
              for image in (registration.fixed, registration.moving)]  # fmt: skip
    measures = registration.evaluate(landmarks=(points, moved), labels=labels)
    assert measures.tre.mean == pytest.approx(5.0, abs=1e-6)
    assert 0 < measures.overlap[1].dice < 1
    assert measures.jacobian.min == pytest.approx(registration.jacobian.min(), abs=1e-5)
    for name, values in (("fixed", points), ("moving", moved)):
        write_points(tmp_path / f"{name}.pts", values)
    paths = (tmp_path / "fixed.pts", tmp_path / "moving.pts")
    found = registration.evaluate(landmarks=paths)
    assert found.tre.mean == pytest.approx(5.0, abs=1e-5)
    assert found.overlap is None


def test_evaluate_checks_label_maps_in_memory(registration, caplog):
    labels = [(image.array > -300) * 1 for image in
              (registration.fixed, registration.moving)]  # fmt: skip
    with pytest.raises(InputError, match="labels: holds fractions"):
        registration.evaluate(labels=(labels[0], labels[1] * 0.4))
    assert not caplog.text
    registration.evaluate(labels=(labels[0], -labels[1]))
    assert "labels: holds negative values, as CTs do; check that" in caplog.text


def test_evaluate_refuses_landmarks_that_do_not_correspond(registration):
    with pytest.raises(InputError, match=r"shapes \(50, 2\) and \(49, 2\)"):
        registration.evaluate(landmarks=(points_inside(), points_inside(49)))


@pytest.mark.parametrize(
    ("given", "fact"),
    [
        ("both.csv", "is one path, both.csv"),
        (Path("both.csv"), "is one path, both.csv"),
        (("both.csv",), "has 1 sets of points"),
        (("a.csv", "b.csv", "c.csv"), "has 3 sets of points"),
    ],
)
def test_landmarks_are_those_of_two_images(registration, given, fact):
    with pytest.raises(InputError, match=fact):
        registration.evaluate(landmarks=given)


def test_label_maps_without_a_label_are_refused(registration):
    nothing = np.zeros(registration.frame.shape, np.uint8)
    with pytest.raises(InputError, match="holds no label"):
        registration.evaluate(labels=(nothing, nothing))


def test_report_begins_with_the_notices(registration):
    report = registration.report()
    assert report.warnings[0] == "a notice"
    assert report.model == "m"
    assert {"similarity", "jacobian", "seconds", "versions"} <= set(report.to_dict())


def test_save_writes_the_five_files(registration, tmp_path):
    out = tmp_path / "a" / "b"
    points = points_inside()
    report = registration.save(
        out, landmarks=(points, points + 1.0), request={"fixed": "f.mha"}
    )
    names = {"warped.nii.gz", "displacement.nii.gz", "transform.h5"}
    assert {path.name for path in out.iterdir()} == names | {
        "report.json", "report.html"
    }  # fmt: skip
    written = json.loads((out / "report.json").read_text("utf-8"))
    assert written["request"] == report.request == {"fixed": "f.mha"}
    assert written["tre"]["after"]["mean"] == report.after.tre.mean
    transform = sitk.ReadTransform(str(out / "transform.h5"))
    np.testing.assert_allclose(
        map_points(transform, points),
        map_points(registration.transform, points),
        atol=1e-3,
    )


def test_save_without_a_report_writes_the_measures_alone(registration, tmp_path):
    # Nor does the page of an earlier result stay.
    registration.save(tmp_path / "out")
    assert (tmp_path / "out" / "report.html").exists()
    report = registration.save(tmp_path / "out", ["elastix"], report=False)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert "transform_elastix.txt" in names
    assert "report.html" not in names
    written = (tmp_path / "out" / "report.json").read_text("utf-8")
    assert RegistrationReport.from_json(written) == report


def test_warnings_of_the_inverse_are_in_the_report(registration, tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=registration.residual.shape) * 20.0
    folded = dataclasses.replace(registration, residual=noise.astype(np.float32))
    report = folded.save(tmp_path / "out", ["inverse"])
    assert report.warnings[0] == "a notice"
    assert any("there is no inverse at" in warning for warning in report.warnings)


def test_save_takes_a_request_of_paths_and_numbers(registration, tmp_path):
    request = {"fixed": tmp_path / "f.mha", "refine": np.int64(3), "masks": [None]}
    report = registration.save(tmp_path / "out", report=False, request=request)
    kept = {"fixed": str(tmp_path / "f.mha"), "refine": 3, "masks": [None]}
    assert report.request == kept
    assert json.loads((tmp_path / "out" / "report.json").read_text())["request"] == kept


def test_files_of_others_are_kept_and_inputs_not_replaced(registration, tmp_path):
    foreign = tmp_path / "out" / "jacobian.nii.gz"
    foreign.parent.mkdir()
    foreign.write_text("of another program")
    registration.save(foreign.parent, report=False)
    assert foreign.read_text() == "of another program"
    # Now it lies beside a registration, whose own it would be.
    registration.save(foreign.parent, report=False)
    assert not foreign.exists()
    source = tmp_path / "source" / "warped.nii.gz"
    source.parent.mkdir()
    source.write_text("the moving image")
    moving = dataclasses.replace(registration.moving, name=str(source))
    with pytest.raises(InputError, match="is read, and a result would replace it"):
        dataclasses.replace(registration, moving=moving).save(source.parent)
    assert source.read_text() == "the moving image"


def test_save_refuses_other_types(registration, tmp_path):
    with pytest.raises(InputError, match="request: is of type list; give a dict"):
        registration.save(tmp_path / "out", request=["f.mha"])
    with pytest.raises(InputError, match="the results is of type int; give a path"):
        registration.save(3)
    with pytest.raises(InputError, match="formats: is of type NoneType; give a list"):
        registration.save(tmp_path / "out", formats=None)
    with pytest.raises(InputError, match="report: is 'no'; give True or False"):
        registration.save(tmp_path / "out", report="no")
    for name in ("landmarks", "labels"):
        for given in (5, {"fixed": 1, "moving": 2}, np.array(3.0)):
            with pytest.raises(InputError, match=f"{name}: is of type .*; give two"):
                registration.evaluate(**{name: given})
    d = registration.frame.ndim
    other = Frame((4,) * (5 - d), (1.0,) * (5 - d), (0,) * (5 - d), np.eye(5 - d))
    label_map = Image(np.ones(other.shape, np.uint8), other, "labels")
    with pytest.raises(InputError, match=f"is {5 - d}D and its image is {d}D"):
        registration.evaluate(labels=(label_map, label_map))
    assert not any(tmp_path.iterdir())


def test_save_refuses_an_unknown_format_and_writes_nothing(registration, tmp_path):
    with pytest.raises(InputError, match="format minc: is not known; give ants or"):
        registration.save(tmp_path / "out", ["minc"])
    assert not (tmp_path / "out").exists()


def test_files_of_another_registration_do_not_stay(registration, tmp_path):
    out = tmp_path / "out"
    formats = ["ants", "elastix", "inverse", "jacobian"]
    registration.save(out, formats, report=False)
    names = {path.name for path in out.iterdir()}
    (out / "notes.txt").write_text("mine", "utf-8")
    registration.save(out, ["jacobian"], report=False)
    kept = {path.name for path in out.iterdir()}
    usual = {"warped.nii.gz", "displacement.nii.gz", "transform.h5", "report.json"}
    assert kept == usual | {"jacobian.nii.gz", "notes.txt"}
    others = {"ventilation_jacobian.nii.gz", "ventilation_hu.nii.gz"}
    others |= {"confidence.nii.gz", "report.html"}
    assert names - usual == set(OPTIONAL_FILES) - others


def test_estimated_errors_are_written_and_reported(registration, tmp_path):
    """On the fixed grid, though the estimate lies on another."""
    grid = Frame((14, 16), (4.5, 4.5), (3.0, -9.0), np.eye(2))
    at = to_world(grid, np.moveaxis(np.indices(grid.shape), 0, -1))
    known = at[..., 0] < 40.0
    mean = np.log(1.0 + 0.02 * (at[..., 1] + 9.0))
    errors = ErrorEstimate(mean, np.full(grid.shape, 0.5), known, grid)
    registration = dataclasses.replace(registration, error_estimate=errors)
    report = registration.save(tmp_path / "out")
    image = sitk.ReadImage(str(tmp_path / "out" / "confidence.nii.gz"))
    assert image.GetSpacing() == FRAME.spacing
    bound = sitk.GetArrayFromImage(image)
    place = to_world(FRAME, np.moveaxis(np.indices(FRAME.shape), 0, -1))
    inside = place[..., 0] < 37.0
    want = stats.lognorm.ppf(0.95, 0.5, scale=1.0 + 0.02 * (place[..., 1] + 9.0))
    np.testing.assert_allclose(bound[inside], want[inside], rtol=5e-3)
    assert (bound[place[..., 0] > 43.0] == 1000.0).all()
    stated = report.confidence["body"]
    assert bound[inside].min() < stated < bound[inside].max()
    content = (tmp_path / "out" / "report.json").read_text("utf-8")
    assert RegistrationReport.from_json(content).confidence == {"body": stated}
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert f"{stated:.4g} mm" in page
    assert "Confidence" in page


def test_save_writes_the_inverse_and_the_jacobian(registration, tmp_path):
    out = tmp_path / "out"
    registration.save(out, ["inverse", "jacobian"], report=False)
    points = points_inside()
    moved = map_points(registration.transform, points)
    inverse = sitk.ReadTransform(str(out / "inverse_transform.h5"))
    np.testing.assert_allclose(map_points(inverse, moved), points, atol=0.05)
    field = sitk.ReadImage(str(out / "inverse_displacement.nii.gz"),
                           sitk.sitkVectorFloat64)  # fmt: skip
    assert field.GetSize() == MOVING.shape[::-1]
    image_transform = sitk.DisplacementFieldTransform(field)
    np.testing.assert_allclose(map_points(image_transform, moved), points, atol=0.05)
    jacobian = sitk.ReadImage(str(out / "jacobian.nii.gz"))
    assert jacobian.GetSpacing() == FRAME.spacing
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(jacobian), registration.jacobian
    )


TURN = np.array([[0.8, -0.6], [0.6, 0.8]])


@pytest.mark.parametrize("direction", [np.eye(2), TURN, TURN @ np.diag([1, -1])])
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 3.0)])
def test_jacobian_is_that_of_the_map_of_the_world(registration, direction, spacing):
    """The grid on which a map is sampled does not matter."""
    frame = Frame((12, 14), spacing, (3.0, 4.0), direction)
    change = np.array([[1.2, 0.3], [-0.1, 0.8]])
    grid = to_world(frame, np.moveaxis(np.indices(frame.shape), 0, -1))
    bent = 0.01 * grid[..., 0] ** 2
    moved = grid @ change.T
    moved[..., 0] += bent
    image = Image(smooth_image(frame.shape), frame, "fixed")
    residual = (moved - AFFINE[:2, 2]) @ np.linalg.inv(AFFINE[:2, :2]).T - grid
    found = dataclasses.replace(
        registration, fixed=image, residual=residual, grid=frame
    ).jacobian
    expected = (1.2 + 0.02 * grid[..., 0]) * 0.8 + 0.03
    inner = (slice(1, -1),) * 2
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-3)


def test_maps_that_cannot_be_made_are_refused(registration, tmp_path):
    with pytest.raises(InputError, match="do not both show lungs"):
        registration.save(tmp_path / "out", ["ventilation"], report=False)
    with pytest.raises(InputError, match="format pdf: is not known"):
        registration.save(tmp_path / "out", ["pdf"], report=False)
    thin = Frame((1, 36), FRAME.spacing, FRAME.origin, FRAME.direction)
    image = Image(smooth_image(thin.shape), thin, "thin")
    flat = dataclasses.replace(
        registration, fixed=image, residual=registration.residual[:1], grid=thin
    )
    with pytest.raises(InputError, match="jacobian: thin has an axis of a single"):
        flat.save(tmp_path / "out", ["jacobian"], report=False)
    assert not (tmp_path / "out").exists()


def test_save_writes_the_ventilation_of_lungs(tmp_path):
    frame = Frame((24, 40, 44), (5.0, 5.0, 5.0), (0, 0, 0), np.diag([-1, 1, -1]))
    matrix, *arrays, gained = grown(frame, 1.06)
    fixed, moving = (
        Image(array.astype(np.int16), frame, name)
        for array, name in zip(arrays, ("exhale", "inhale"), strict=True)
    )
    everywhere = np.ones(frame.shape, bool)
    result = Registration(
        fixed, moving, matrix, np.zeros((*frame.shape, 3)), frame, fixed,
        Shown(*[everywhere] * 3), {}, {"model": "m"},
    )  # fmt: skip
    result.save(tmp_path / "out", ["ventilation"], report=False)
    by_units, by_map = (
        sitk.GetArrayFromImage(
            sitk.ReadImage(str(tmp_path / "out" / f"ventilation_{name}.nii.gz"))
        )
        for name in ("hu", "jacobian")
    )
    lungs = result.ventilation().lungs
    np.testing.assert_allclose(by_map[lungs], 1.06**3 - 1, atol=1e-3)
    assert np.median(by_units[lungs]) == pytest.approx(gained, abs=0.02)
    assert not by_map[~lungs].any()
