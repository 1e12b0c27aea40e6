"""Parameter files of elastix, written by hand, against their formulas."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.interpolate import BSpline

from regnet_jax.errors import InputError
from regnet_jax.io import (
    read_transform,
    transform_files,
    write_displacement,
    write_for_elastix,
    write_transform,
)
from regnet_jax.spatial import affine_transform, composite, map_points, to_world
from regnet_jax.spatial.frames import cosines
from tests.helpers.frames import FRAMES, rotation
from tests.helpers.optional import needs

CENTRE, SHIFT = np.array([5.0, -7.0, 11.0]), np.array([3.0, 2.0, -1.5])
FRAME = {2: FRAMES["2d oblique"], 3: FRAMES["3d all"]}
dimensions = pytest.mark.parametrize("d", [2, 3])


def write(path, d, kind, parameters, **more):
    """Write a file as elastix does; values are words or numbers."""
    frame = FRAME[d]
    lines = {
        "Transform": kind,
        "NumberOfParameters": len(parameters),
        "TransformParameters": parameters,
        "InitialTransformParametersFileName": "NoInitialTransform",
        "HowToCombineTransforms": "Compose",
        "FixedImageDimension": d,
        "MovingImageDimension": d,
        "Size": frame.shape[::-1],
        "Index": (0,) * d,
        "Spacing": frame.spacing,
        "Origin": frame.origin,
        "Direction": cosines(frame).T.ravel(),
        "UseDirectionCosines": "true",
    } | more

    def words(value):
        if isinstance(value, str):
            return f'"{value}"'
        return " ".join(f"{number:.17g}" for number in np.ravel(value))

    text = "\n".join(f"({k} {words(v)})" for k, v in lines.items() if v is not None)
    path.write_text(f"// elastix\n\n{text}\n", "utf-8")
    return path


def points_about(d, count=30):
    """Points within the fixed grid."""
    rng, frame = np.random.default_rng(0), FRAME[d]
    return to_world(frame, rng.uniform(0, np.array(frame.shape) - 1, (count, d)))


def about_centre(matrix):
    d = len(matrix)
    return lambda x: (x - CENTRE[:d]) @ np.transpose(matrix) + CENTRE[:d] + SHIFT[:d]


def turn(axis, angle):
    c, s = np.cos(angle), np.sin(angle)
    i, j = [k for k in range(3) if k != axis]
    matrix = np.eye(3)
    sign = -1 if axis == 1 else 1
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -sign * s, sign * s, c
    return matrix


X, Y, Z = turn(0, 0.3), turn(1, -0.2), turn(2, 0.5)
PLANE = rotation(2, 0.5)
VERSOR = np.array([0.1, -0.2, 0.15])
GENERAL = np.array([[1.1, 0.05, -0.1], [0.02, 0.9, 0.2], [-0.07, 0.1, 1.2]])
# Dimension, kind, parameters without the shift and its place among them, and matrix.
LINEAR = {
    "euler2": (2, "EulerTransform", [0.5, *SHIFT[:2]], PLANE, {}),
    "euler3": (3, "EulerTransform", [0.3, -0.2, 0.5, *SHIFT], Z @ X @ Y, {}),
    "euler3zyx": (
        *(3, "EulerTransform", [0.3, -0.2, 0.5, *SHIFT], Z @ Y @ X),
        {"ComputeZYX": "true"},
    ),
    "similarity2": (2, "SimilarityTransform", [1.3, 0.5, *SHIFT[:2]], 1.3 * PLANE, {}),
    "similarity3": (
        *(3, "SimilarityTransform", [*VERSOR, *SHIFT, 0.8]),
        0.8 * rotation(3, 2 * np.arcsin(np.linalg.norm(VERSOR)), VERSOR),
        {},
    ),
    "affine2": (
        *(2, "AffineTransform", [*GENERAL[:2, :2].ravel(), *SHIFT[:2]]),
        *(GENERAL[:2, :2], {}),
    ),
    "affine3": (3, "AffineTransform", [*GENERAL.ravel(), *SHIFT], GENERAL, {}),
}


@pytest.mark.parametrize("case", LINEAR)
def test_linear_transforms_follow_their_formulas(tmp_path, case):
    d, kind, parameters, matrix, more = LINEAR[case]
    path = write(
        *(tmp_path / "TransformParameters.0.txt", d, kind, parameters),
        CenterOfRotationPoint=CENTRE[:d],
        **more,
    )
    points = points_about(d)
    found = map_points(read_transform(path), points)
    np.testing.assert_allclose(found, about_centre(matrix)(points), atol=1e-9)


def spline(d, order):
    """The grid and the formula of a B-spline: a tensor product of basis functions."""
    rng, frame = np.random.default_rng(order), FRAME[d]
    direction, spacing = cosines(frame), np.array([4.0, 5.0, 7.0])[:d]
    size = np.array([9, 10, 8])[:d]
    inner = (size - 1) / 2
    origin = frame.centre - direction @ (spacing * inner)
    coefficients = rng.normal(size=(d, *size[::-1])) * 3
    # B(x) of one knot, about zero.
    half = (order + 1) / 2
    basis = BSpline.basis_element(np.arange(order + 2) - half, extrapolate=False)

    def formula(x):
        index = np.linalg.solve(direction, (x - origin).T).T / spacing
        value = np.zeros_like(x)
        for knot in np.ndindex(*size):
            weight = np.nan_to_num(basis(index - np.array(knot))).prod(-1)
            value += weight[:, None] * coefficients[(slice(None), *knot[::-1])]
        return value

    more = {
        "GridSize": size, "GridIndex": np.zeros(d), "GridSpacing": spacing,
        "GridOrigin": origin, "GridDirection": direction.T.ravel(),
        "BSplineTransformSplineOrder": order, "UseCyclicTransform": "false",
    }  # fmt: skip
    return coefficients.ravel(), more, formula


@dimensions
@pytest.mark.parametrize("order", [1, 2, 3])
def test_b_splines_are_sums_of_basis_functions(tmp_path, d, order):
    parameters, more, formula = spline(d, order)
    path = tmp_path / "TransformParameters.1.txt"
    write(path, d, "RecursiveBSplineTransform", parameters, **more)
    points = points_about(d)
    found = map_points(read_transform(path), points)
    np.testing.assert_allclose(found, points + formula(points), atol=1e-8)
    # elastix may number the knots from another index.
    index = np.array([2, -1, 3])[:d]
    grid = np.reshape(more["GridDirection"], (d, d)).T * more["GridSpacing"]
    more |= {"GridIndex": index, "GridOrigin": more["GridOrigin"] - grid @ index}
    write(path, d, "BSplineTransform", parameters, **more)
    found = map_points(read_transform(path), points)
    np.testing.assert_allclose(found, points + formula(points), atol=1e-8)


@dimensions
@pytest.mark.parametrize("how", ["Compose", "Add", None])
@pytest.mark.parametrize("key", ["InitialTransformParametersFileName",
                                 "InitialTransformParameterFileName"])  # fmt: skip
def test_initial_transform_maps_first(tmp_path, d, how, key):
    """Affine, then a B-spline that starts from it, under a path of another machine."""
    matrix = GENERAL[:d, :d]
    first = tmp_path / "TransformParameters.0.txt"
    write(
        *(first, d, "AffineTransform", [*matrix.ravel(), *SHIFT[:d]]),
        CenterOfRotationPoint=CENTRE[:d],
    )
    parameters, more, formula = spline(d, 3)
    more |= {"InitialTransformParametersFileName": None, "HowToCombineTransforms": how}
    more |= {key: f"/elsewhere/{first.name}"}
    path = tmp_path / "TransformParameters.1.txt"
    write(path, d, "BSplineTransform", parameters, **more)
    # Such that both the points and their images are among the knots.
    points = points_about(d)
    moved = about_centre(matrix)(points)
    found = map_points(read_transform(path), points)
    expected = moved + formula(points if how == "Add" else moved)
    near = np.ones(len(points), bool) if how == "Add" else formula(moved).any(-1)
    np.testing.assert_allclose(found[near], expected[near], atol=1e-8)
    assert near.sum() > 5


@dimensions
def test_two_deformations_are_added_on_the_grid(tmp_path, d):
    frame = FRAME[d]
    vectors = np.random.default_rng(3).normal(size=(*frame.shape, d))
    write_displacement(tmp_path / "displacement.nii.gz", vectors, frame)
    write_for_elastix(tmp_path, frame)
    parameters, more, formula = spline(d, 3)
    more["HowToCombineTransforms"] = "Add"
    more["InitialTransformParametersFileName"] = "transform_elastix.txt"
    path = tmp_path / "last.txt"
    write(path, d, "BSplineTransform", parameters, **more)
    grid = to_world(frame, np.moveaxis(np.indices(frame.shape), 0, -1)).reshape(-1, d)
    inner = (np.indices(frame.shape).reshape(d, -1).T > 0).all(-1)
    found = map_points(read_transform(path), grid)
    expected = grid + vectors.reshape(-1, d) + formula(grid)
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-4)


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_own_file_for_elastix_is_read_back(tmp_path, frame):
    vectors = np.random.default_rng(3).normal(size=(*frame.shape, frame.ndim))
    write_displacement(tmp_path / "displacement.nii.gz", vectors, frame)
    write_for_elastix(tmp_path, frame)
    rng = np.random.default_rng(0)
    points = to_world(frame, rng.uniform(0, np.array(frame.shape) - 1, (9, frame.ndim)))
    expected = map_points(composite(frame, vectors, np.eye(frame.ndim + 1)), points)
    found = map_points(read_transform(tmp_path / "transform_elastix.txt"), points)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_toml_and_initial_transforms_of_itk(tmp_path):
    """Since elastix 5.1: another syntax, and files of ITK to start from."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = GENERAL, SHIFT
    write_transform(tmp_path / "first.tfm", affine_transform(matrix))
    (tmp_path / "last.toml").write_text(
        'Transform = "TranslationTransform"\nTransformParameters = [1.0, 2, -3.5]\n'
        "FixedImageDimension = 3\nUseDirectionCosines = true\n"
        'InitialTransformParameterFileName = "first.tfm"\n'
    )
    points = points_about(3)
    found = map_points(read_transform(tmp_path / "last.toml"), points)
    expected = points @ GENERAL.T + SHIFT + [1.0, 2.0, -3.5]
    np.testing.assert_allclose(found, expected, atol=1e-9)


NUMBERS = [1.0, 2.0, 3.0]
KNOTS = spline(3, 3)[0]
BAD = {
    "kind": ({"kind": "AffineLogTransform"}, "holds a AffineLogTransform, which is"),
    "count": ({"parameters": [1.0, 2.0]}, "2 finite numbers as TransformParameters"),
    "nan": ({"parameters": [1.0, 2.0, np.nan]}, "finite numbers"),
    "binary": ({"parameters": "a.dat"}, "are not all numbers"),
    "centre": ({"kind": "EulerTransform", "parameters": [0.0] * 6}, "CenterOfRotation"),
    "dimension": ({"FixedImageDimension": 4}, "is 4D where"),
    "none": ({"FixedImageDimension": None}, "0 finite numbers as FixedImageDimension"),
    "initial": ({"InitialTransformParametersFileName": "no.txt"}, "'no.txt', which is"),
    "itself": ({"InitialTransformParametersFileName": "t.txt"}, "starts from itself"),
    "how": (
        {
            "InitialTransformParametersFileName": "good.txt",
            "HowToCombineTransforms": "Multiply",
        },
        "HowToCombineTransforms Multiply",
    ),
    "directions": ({"UseDirectionCosines": "false"}, "UseDirectionCosines false"),
    "field": (
        {"kind": "DeformationFieldTransform", "DeformationFieldFileName": "no.mha"},
        "'no.mha', which is missing",
    ),
    "field-order": (
        {
            "kind": "DeformationFieldTransform",
            "DeformationFieldInterpolationOrder": 3,
        },
        "with order 3",
    ),
    "grid": (
        {"kind": "BSplineTransform", "GridSize": [3, 9, 9], "GridSpacing": [4] * 3,
         "GridOrigin": [0] * 3},
        "impossible grid",
    ),
    "knots": (
        {"kind": "BSplineTransform", **spline(3, 3)[1], "parameters": KNOTS[:-1]},
        f"{len(KNOTS) - 1} finite numbers as TransformParameters where {len(KNOTS)}",
    ),
    "cyclic": (
        {"kind": "BSplineTransform", "UseCyclicTransform": "true"}, "a cyclic B-spline",
    ),
    "order": (
        {"kind": "BSplineTransform", "BSplineTransformSplineOrder": 5}, "of order 5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path, case):
    given, message = BAD[case]
    write(tmp_path / "good.txt", 3, "TranslationTransform", NUMBERS)
    given = {"kind": "TranslationTransform", "parameters": NUMBERS} | given
    path = write(tmp_path / "t.txt", 3, **given)
    with pytest.raises(InputError, match=message) as caught:
        read_transform(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_settings_of_elastix_are_no_transform(tmp_path):
    path = tmp_path / "parameters.txt"
    path.write_text('(Transform "BSplineTransform")\n(Metric "NormalizedMutual")\n')
    with pytest.raises(InputError, match="settings of elastix") as caught:
        read_transform(path)
    assert str(caught.value).startswith(f"{path}: holds no transform")


@pytest.mark.parametrize(
    "text", ["(Transform", "(A 1)\nnothing\n", "// nothing\n(\xff)", "a = = 1"]
)
def test_damaged_files_are_refused(tmp_path, text):
    path = tmp_path / ("t.toml" if "=" in text else "t.txt")
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"copy (it|the file) again"):
        read_transform(path)


def test_initial_transform_of_another_dimension_is_refused(tmp_path):
    write(tmp_path / "0.txt", 2, "TranslationTransform", NUMBERS[:2])
    more = {"InitialTransformParametersFileName": "0.txt"}
    path = write(tmp_path / "1.txt", 3, "TranslationTransform", NUMBERS, **more)
    with pytest.raises(InputError, match=r"1\.txt is 3D and the transform is 2D"):
        read_transform(path)


def test_all_files_that_are_read_are_named(tmp_path):
    """So that a result can be kept from replacing one of them."""
    write_for_elastix(tmp_path, FRAME[3])
    path = tmp_path / "transform_elastix.txt"
    path.write_text(path.read_text().replace("NoInitialTransform", "first.tfm"))
    write_transform(tmp_path / "first.tfm", sitk.AffineTransform(3))
    with pytest.raises(InputError, match=r"names the file 'displacement\.nii"):
        transform_files(path)
    (tmp_path / "displacement.nii.gz").touch()
    found = transform_files(f"{tmp_path}/first.tfm,inverse:{path}")
    names = ["first.tfm", "transform_elastix.txt", "displacement.nii.gz"]
    assert [each.name for each in found] == names


@pytest.mark.slow
def test_transformix_maps_points_as_the_file_is_read(tmp_path):
    """In a process of its own, as ITK and JAX may crash in one."""
    needs(importlib.util.find_spec("itk") is not None, "itk-elastix is not installed")
    first = tmp_path / "TransformParameters.0.txt"
    write(
        *(first, 3, "EulerTransform", [0.3, -0.2, 0.5, *SHIFT]),
        CenterOfRotationPoint=CENTRE, ResampleInterpolator="FinalLinearInterpolator",
        Resampler="DefaultResampler",
    )  # fmt: skip
    parameters, more, _ = spline(3, 3)
    more |= {"InitialTransformParametersFileName": str(first)}
    more |= {"ResampleInterpolator": "FinalLinearInterpolator"}
    more |= {"Resampler": "DefaultResampler"}
    last = tmp_path / "TransformParameters.1.txt"
    write(last, 3, "BSplineTransform", parameters, **more)
    points, frame = points_about(3, 10), FRAME[3]
    image = sitk.GetImageFromArray(np.zeros(frame.shape, np.float32))
    sitk.WriteImage(image, str(tmp_path / "moving.mha"))
    rows = "".join(" ".join(map(repr, p)) + "\n" for p in points.tolist())
    (tmp_path / "points.txt").write_text(f"point\n{len(points)}\n{rows}")
    program = """
import itk, sys
moving, parameters = itk.imread("moving.mha", itk.F), itk.ParameterObject.New()
parameters.ReadParameterFile(sys.argv[1])
transformix = itk.TransformixFilter[type(moving)].New()
transformix.SetMovingImage(moving)
transformix.SetTransformParameterObject(parameters)
transformix.SetFixedPointSetFileName("points.txt")
transformix.SetOutputDirectory(".")
transformix.Update()
"""
    subprocess.run(
        [sys.executable, "-c", program, str(last)],
        cwd=tmp_path, check=True, timeout=120, capture_output=True,
    )  # fmt: skip
    lines = (tmp_path / "outputpoints.txt").read_text().splitlines()
    found = [line.split("OutputPoint = [")[1].split("]")[0].split() for line in lines]
    expected = map_points(read_transform(last), points)
    np.testing.assert_allclose(np.array(found, float), expected, atol=1e-3)


def test_an_initial_transform_of_the_same_name_lies_in_another_folder(tmp_path):
    """As by ``elastix -t0 first/TransformParameters.0.txt -out second``."""
    names = ("first", "second")
    for name in names:
        (tmp_path / name).mkdir()
    first, second = (tmp_path / name / "TransformParameters.0.txt" for name in names)
    write(first, 3, "TranslationTransform", [10.0, 10.0, 10.0])
    write(
        *(second, 3, "TranslationTransform", [1.0, 1.0, 1.0]),
        InitialTransformParametersFileName=str(first),
    )
    point = np.array([[0.0, 0.0, 20.0]])
    found = map_points(read_transform(second), point)
    np.testing.assert_allclose(found, point + 11.0)


def test_two_files_that_may_be_the_initial_transform_are_refused(tmp_path):
    (tmp_path / "first").mkdir()
    first = tmp_path / "first" / "TransformParameters.1.txt"
    stale, result = (tmp_path / f"TransformParameters.{k}.txt" for k in (1, 0))
    write(first, 3, "TranslationTransform", [10.0, 10.0, 10.0])
    write(stale, 3, "TranslationTransform", [100.0, 100.0, 100.0])
    write(
        *(result, 3, "TranslationTransform", [1.0, 1.0, 1.0]),
        InitialTransformParametersFileName=str(first),
    )
    with pytest.raises(InputError, match="these differ; remove the wrong one"):
        read_transform(result)
    stale.write_bytes(first.read_bytes())
    found = map_points(read_transform(result), np.zeros((1, 3)))
    np.testing.assert_allclose(found, [[11.0] * 3])


@pytest.mark.parametrize(
    ("d", "kind", "count"), [(3, "AffineTransform", 12), (2, "EulerTransform", 3)]
)
def test_the_order_of_rotations_is_left_to_those_that_have_it(tmp_path, d, kind, count):
    path = tmp_path / "TransformParameters.0.txt"
    parameters = np.eye(3).ravel().tolist() + [0.0] * 3 if d == 3 else [0.0] * count
    centre = {"CenterOfRotationPoint": CENTRE[:d], "ComputeZYX": "true"}
    write(path, d, kind, parameters, **centre)
    points = points_about(d)
    np.testing.assert_allclose(map_points(read_transform(path), points), points)


@pytest.mark.parametrize("key", ["Transform", "HowToCombineTransforms"])
def test_keys_without_a_value_are_no_crash(tmp_path, key):
    path = tmp_path / "TransformParameters.0.txt"
    write(path, 3, "TranslationTransform", [1.0, 2.0, 3.0])
    lines = path.read_text().splitlines()
    kept = [line for line in lines if not line.startswith(f"({key} ")]
    path.write_text("\n".join([*kept, f"({key} )", ""]))
    if key == "Transform":
        with pytest.raises(InputError, match="holds a nothing"):
            read_transform(path)
    else:
        read_transform(path)
