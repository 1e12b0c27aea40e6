"""What of a mask is inside, in all the forms that masks have."""

import dataclasses

import numpy as np
import pytest

from regnet_jax.errors import InputError
from regnet_jax.io import read_mask
from regnet_jax.io.images import write_image
from regnet_jax.spatial import Frame, Image, as_mask

SHAPES = {2: (12, 14), 3: (8, 9, 10)}
every_dimension = pytest.mark.parametrize("d", SHAPES)


def a_box(d):
    inside = np.zeros(SHAPES[d], bool)
    inside[(slice(3, 6),) * d] = True
    return inside


def image(array, name="mask"):
    d = array.ndim
    return Image(array, Frame(array.shape, (1.5,) * d, (0,) * d, np.eye(d)), name)


def noise(d, size):
    return size * np.random.default_rng(0).uniform(-1, 1, SHAPES[d])


FORMS = {
    "bool": lambda inside: inside,
    "ones": lambda inside: inside.astype(np.uint8),
    "255": lambda inside: 255 * inside.astype(np.uint8),
    "float 255": lambda inside: 255.0 * inside,
    "small": lambda inside: 1e-4 * inside,
    "labels": lambda inside: (inside * (1 + np.indices(inside.shape)[0])).astype("i2"),
    "labels as floats": lambda inside: inside * (1.0 + np.indices(inside.shape)[0]),
    "labels with noise": lambda inside: (
        inside * (1.0 + np.indices(inside.shape)[0]) + noise(inside.ndim, 1e-7)
    ),
    "ones with noise": lambda inside: inside + noise(inside.ndim, 1e-7),
    "0.9999 with noise": lambda inside: 0.9999 * inside + noise(inside.ndim, 1e-7),
    "255 with noise": lambda inside: 255.0 * inside + noise(inside.ndim, 1e-5),
    "probabilities": lambda inside: (
        np.where(inside, 0.8, 0.3) + noise(inside.ndim, 0.1)
    ),
    "of 255": lambda inside: np.where(inside, 230.7, 40.2),
    "splines": lambda inside: inside + noise(inside.ndim, 0.2),
    "float32": lambda inside: np.where(inside, 0.7, 0.1).astype(np.float32),
}


@every_dimension
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_as_mask_keeps_the_inside(d, form):
    inside = a_box(d)
    mask = as_mask(image(form(inside)))
    assert mask.array.dtype == np.uint8
    np.testing.assert_array_equal(mask.array, inside)
    # A mask of a mask is the same.
    np.testing.assert_array_equal(as_mask(mask).array, inside)


@every_dimension
def test_as_mask_cuts_a_blurred_mask_at_half_of_its_maximum(d):
    # A ramp from 0 to 1 over eight voxels of one axis.
    ramp = np.clip((np.indices(SHAPES[d])[0] - 0.25) / 6, 0, 1)
    np.testing.assert_array_equal(as_mask(image(ramp)).array, ramp > 0.5)
    np.testing.assert_array_equal(as_mask(image(37.3 * ramp)).array, ramp > 0.5)


@every_dimension
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_scans_and_distances_are_no_masks(d, dtype):
    box = a_box(d)
    scan = np.where(box, 40, -1000).astype(dtype)
    labels = np.where(box, 3, -1).astype(dtype)
    for array in (scan, labels, -box.astype(dtype), np.where(box, 2.3, -4.1)):
        with pytest.raises(InputError, match="so it is not a mask") as caught:
            as_mask(image(array, "scan.nii"))
        assert str(caught.value).startswith("scan.nii: has values down to -")


@every_dimension
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float64])
def test_empty_masks_are_refused(d, dtype):
    with pytest.raises(InputError, match="is empty"):
        as_mask(image(np.zeros(SHAPES[d], dtype)))


@every_dimension
def test_a_mask_of_the_same_size_in_another_place_gets_a_warning(d, caplog):
    """A header that was left out: voxels of 1 mm from zero on."""
    mask = image(a_box(d), "mask.png")
    own = mask.frame
    mirror = np.diag([-1.0, *[1.0] * (d - 1)])
    end = [own.spacing[0] * (own.shape[-1] - 1), *own.origin[1:]]
    reversed_axis = dataclasses.replace(own, origin=end, direction=mirror)
    half = dataclasses.replace(own, origin=[0.75] * d)
    for frame in (own, reversed_axis, half, dataclasses.replace(own, shape=(30,) * d)):
        as_mask(mask, frame)
    assert not caplog.records
    as_mask(mask, dataclasses.replace(own, spacing=[1.0] * d))
    (message,) = caplog.messages
    sides = 0.5 * (np.array(SHAPES[d]) - 1)
    assert message.startswith(
        f"mask.png: has as many voxels as its image and lies up to"
        f" {np.linalg.norm(sides):.3g} mm elsewhere"
    )


def test_masks_of_nan_are_refused(tmp_path):
    array = a_box(3).astype(np.float32)
    array[0, 0, 0] = np.nan
    write_image(tmp_path / "a.mha", array, image(array).frame)
    with pytest.raises(InputError, match="1 of 720 of its values are NaN"):
        read_mask(tmp_path / "a.mha")


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_noise_of_a_file_is_outside_on_another_grid(tmp_path, suffix):
    array = (0.9999 * a_box(3) + np.abs(noise(3, 1e-7))).astype(np.float32)
    write_image(tmp_path / f"a{suffix}", array, image(array).frame)
    fine = Frame((16, 18, 20), (0.75,) * 3, (-0.375,) * 3, np.eye(3))
    mask = read_mask(tmp_path / f"a{suffix}", fine)
    expected = np.kron(a_box(3), np.ones((2, 2, 2)))
    np.testing.assert_array_equal(mask.array, expected)
