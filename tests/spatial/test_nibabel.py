"""Images of nibabel: axes (x, y, z) and RAS become axes (z, y, x) and LPS."""

import importlib.util

import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.io import as_image, has_geometry, read_image, write_image
from regnet_jax.spatial import Image
from tests.helpers.frames import FRAMES
from tests.helpers.nibabel_images import NibabelImage, nibabel_image, ras_affine
from tests.helpers.optional import needs

AFFINE = np.diag((-1.0, -1.0, 2.0, 1.0))


def assert_same(image, expected, atol=1e-9):
    np.testing.assert_array_equal(image.array, expected.array)
    assert image.frame.shape == expected.frame.shape
    for name in ("spacing", "origin", "direction"):
        found, wanted = (getattr(i.frame, name) for i in (image, expected))
        np.testing.assert_allclose(found, wanted, atol=atol)


@pytest.fixture
def nibabel():
    needs(importlib.util.find_spec("nibabel") is not None, "nibabel is not installed")
    return importlib.import_module("nibabel")


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_points_are_those_of_simpleitk_but_for_two_signs(frame):
    array = np.random.default_rng(0).normal(size=frame.shape)
    expected = Image(array, frame, "mine")
    assert_same(Image.from_affine(array.T, ras_affine(frame)), expected)
    assert_same(as_image(nibabel_image(expected), "fixed"), expected)


def test_voxels_of_a_known_matrix_lie_where_they_should():
    array = np.zeros((4, 3, 2), np.int16)
    array[3, 1, 0] = 7
    # The first axis goes to the front, the second to the left, in 2 and 3 mm.
    affine = [[0, -3, 0, 10], [2, 0, 0, 20], [0, 0, 5, 30], [0, 0, 0, 1]]
    image = Image.from_affine(array, affine, name="mine")
    assert image.array.shape == (2, 3, 4)
    assert image.array.dtype == np.int16
    assert image.array[0, 1, 3] == 7
    assert image.name == "mine"
    # RAS (10 - 3, 20 + 6, 30) is LPS (-7, -26, 30).
    made = sitk.GetImageFromArray(image.array)
    made.SetSpacing(image.frame.spacing)
    made.SetOrigin(image.frame.origin)
    made.SetDirection(image.frame.direction)
    assert made.TransformIndexToPhysicalPoint((3, 1, 0)) == (-7, -26, 30)
    assert image.frame.spacing == (2, 3, 5)


@pytest.mark.parametrize("name", [n for n in FRAMES if n.startswith("3d")])
def test_file_gives_the_same_by_nibabel_and_by_simpleitk(nibabel, tmp_path, name):
    frame = FRAMES[name]
    array = np.random.default_rng(1).integers(-1000, 3000, frame.shape, np.int16)
    path = tmp_path / "image.nii.gz"
    write_image(path, array, frame)
    image = as_image(nibabel.load(path), "fixed")
    assert image.array.dtype == np.int16
    assert image.name == str(path)
    assert_same(image, read_image(path), atol=1e-4)  # NIfTI keeps single precision.


@pytest.mark.parametrize("name", ["3d all", "3d oblique", "2d anisotropic"])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f4", "<f8"])
def test_file_of_nibabel_gives_the_same_by_simpleitk(nibabel, tmp_path, name, dtype):
    frame = FRAMES[name]
    array = np.random.default_rng(2).normal(0, 500, frame.shape).astype(dtype)
    made = nibabel.Nifti1Image(array.T, ras_affine(frame))
    made.header.set_data_dtype(dtype)
    path = tmp_path / "image.nii"
    nibabel.save(made, path)
    assert_same(as_image(nibabel.load(path), ""), read_image(path), atol=1e-4)
    assert_same(as_image(made, "made"), read_image(path), atol=1e-4)


def test_values_of_a_file_with_a_scale_are_scaled(nibabel, tmp_path):
    frame = FRAMES["3d flipped"]
    values = np.linspace(-1.5, 4.5, int(np.prod(frame.shape))).reshape(frame.shape)
    made = nibabel.Nifti1Image(values.T, ras_affine(frame))
    made.header.set_data_dtype(np.int16)
    path = tmp_path / "image.nii.gz"
    nibabel.save(made, path)
    loaded = as_image(nibabel.load(path), "fixed").array
    np.testing.assert_allclose(loaded, values, atol=2e-4)
    np.testing.assert_allclose(loaded, read_image(path).array, atol=1e-6)


REFUSED = {
    "of four axes": (NibabelImage(np.ones((2, 3, 4, 5)), AFFINE), "has shape (2, 3, 4"),
    "without affine": (NibabelImage(np.ones((2, 3)), None), "affine: None is of type"),
    "of a small matrix": (NibabelImage(np.ones((2, 3)), np.eye(3)), "4 x 4 matrix"),
    "of a projection": (NibabelImage(np.ones((2, 3)), np.ones((4, 4))), "last row"),
    "of a singular matrix": (
        NibabelImage(np.ones((2, 3)), np.diag((0.0, 1, 1, 1))),
        "its spacing is",
    ),
    "of a sheared matrix": (
        NibabelImage(np.ones((2, 3)), np.eye(4) + np.eye(4, k=1) * [0, 0.5, 0, 0]),
        "not orthonormal",
    ),
    "of colours": (NibabelImage(np.zeros((2, 3), "u1,u1,u1"), AFFINE), "real numbers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_images_that_cannot_be_used_are_refused(case):
    given, fragment = REFUSED[case]
    assert has_geometry(given)
    with pytest.raises(InputError) as error:
        as_image(given, "moving")
    assert str(error.value).startswith("moving")
    assert fragment in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1), ("meter", 1e3), ("micron", 1e-3)])
def test_units_of_the_header_are_those_of_the_same_file(nibabel, tmp_path, unit, mm):
    affine = np.diag((2.0 / mm, 3.0 / mm, 4.0 / mm, 1.0))
    affine[:3, 3] = np.array((10, -20, 30)) / mm
    image = nibabel.Nifti1Image(np.ones((4, 5, 6), np.int16), affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii.gz")
    frame = as_image(image, "fixed").frame
    np.testing.assert_allclose(frame.spacing, (2, 3, 4), rtol=1e-5)
    known = read_image(tmp_path / "a.nii.gz").frame
    np.testing.assert_allclose(frame.origin, known.origin, rtol=1e-5)
    np.testing.assert_allclose(frame.direction, known.direction, atol=1e-5)
