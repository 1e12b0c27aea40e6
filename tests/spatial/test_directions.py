"""Directions that are rotations but for rounding, and headers that contradict."""

import logging
import re
import struct

import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.io import as_image, read_displacement, read_frame, read_image
from regnet_jax.spatial import Frame, Image, to_sitk, to_world
from tests.helpers.frames import FRAMES

SHAPE, SPACING, ORIGIN = (20, 25, 30), (2.0, 2.5, 3.0), (-30.0, 40.0, -50.0)
RAS = np.diag([-1.0, -1.0, 1.0])
PERMISSIVE = "ITK_NIFTI_SFORM_PERMISSIVE"


@pytest.fixture(params=[None, "0", "1"], ids=["unset", "0", "1"])
def told(request, monkeypatch):
    """ITK told, by the environment, nothing, not to be permissive, or to be."""
    monkeypatch.delenv(PERMISSIVE, raising=False)
    if request.param is not None:
        monkeypatch.setenv(PERMISSIVE, request.param)


def skewed(skew, base=None, axis=(1, 2)):
    """Directions whose third axis leans by a sine towards the second."""
    matrix = np.eye(3)
    matrix[axis] = skew
    return (np.eye(3) if base is None else base) @ matrix


def write_nifti(path, direction=None, quaternion=None, *, codes=(0, 1),
                spacing=SPACING, pixdim=SPACING, origin=ORIGIN, scale=1.0,
                shape=SHAPE, units=2):  # fmt: skip
    """A NIfTI whose header holds just this; codes are of qform and sform."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *shape[::-1], 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, *np.multiply(pixdim, scale), 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    header[123] = units
    struct.pack_into("<2h", header, 252, *codes)
    world = np.multiply(origin, (-scale, -scale, scale))
    if quaternion is not None:
        struct.pack_into("<6f", header, 256, *quaternion, *world)
    if direction is not None:
        affine = RAS @ direction * np.multiply(spacing, scale)
        rows = np.column_stack([affine, world]).ravel()
        struct.pack_into("<12f", header, 280, *rows)
    header[344:348] = b"n+1\0"
    values = np.arange(np.prod(shape), dtype="<i2")
    path.write_bytes(bytes(header) + values.tobytes())
    return path


def write_meta(path, direction):
    sitk.WriteImage(to_sitk(np.zeros(SHAPE, np.uint8), PLAIN), str(path))
    text = " ".join(map(repr, np.ravel(np.transpose(direction)).tolist()))
    old = b"TransformMatrix = 1 0 0 0 1 0 0 0 1"
    path.write_bytes(
        path.read_bytes().replace(old, f"TransformMatrix = {text}".encode())
    )
    return path


def write_nrrd(path, direction):
    sitk.WriteImage(to_sitk(np.zeros(SHAPE, np.uint8), PLAIN), str(path))
    columns = (np.asarray(direction) * SPACING).T.tolist()
    text = " ".join("(" + ",".join(map(repr, column)) + ")" for column in columns)
    old = b"(2,0,0) (0,2.5,0) (0,0,3)"
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, text.encode()))
    return path


PLAIN = Frame(SHAPE, SPACING, ORIGIN, np.eye(3))
WRITERS = {".nii": write_nifti, ".mha": write_meta, ".nrrd": write_nrrd}
every_format = pytest.mark.parametrize("suffix", WRITERS)
BASES = {
    "plain": np.eye(3),
    "flipped": np.diag([1.0, -1, 1]),
    "permuted": np.eye(3)[[1, 2, 0]],
    "oblique": np.reshape(FRAMES["3d oblique"].direction, (3, 3)),
}


def is_orthonormal(frame):
    direction = np.reshape(frame.direction, (3, 3))
    return np.allclose(direction.T @ direction, np.eye(3), atol=1e-6)


@every_format
@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
@pytest.mark.parametrize("skew", [3e-4, 1e-3])
def test_direction_skewed_by_rounding_is_corrected(
    tmp_path, told, caplog, suffix, base, skew
):
    direction = skewed(skew, base)
    path = WRITERS[suffix](tmp_path / f"a{suffix}", direction)
    frame = read_image(path).frame
    assert frame == read_frame(path)
    assert is_orthonormal(frame)
    assert np.sign(np.linalg.det(np.reshape(frame.direction, (3, 3)))) == np.sign(
        np.linalg.det(base)
    )
    index = np.array([(0, 0, 0), np.subtract(SHAPE, 1), (0, 24, 0), (19, 0, 29)])
    said = index[:, ::-1] * SPACING @ direction.T + ORIGIN
    # A tenth of the smallest voxel.
    assert np.abs(to_world(frame, index) - said).max() < 0.2
    assert not caplog.records


@every_format
@pytest.mark.parametrize("skew", [0.02, 0.26])
@pytest.mark.parametrize("axis", [(0, 1), (0, 2), (1, 2)])
def test_shear_is_refused_with_its_angle(tmp_path, told, suffix, skew, axis):
    path = WRITERS[suffix](tmp_path / f"a{suffix}", skewed(skew, axis=axis))
    # Between the two axes, however the header scales them.
    angle = np.degrees(np.arctan(skew))
    wanted = re.escape(f"{angle:.3g} degrees off a right angle")
    for read in (read_image, read_frame):
        with pytest.raises(InputError, match=wanted) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_reading_nifti_restores_the_environment(tmp_path, monkeypatch):
    import os

    path = write_nifti(tmp_path / "a.nii", np.eye(3))
    monkeypatch.delenv(PERMISSIVE, raising=False)
    read_image(path)
    assert PERMISSIVE not in os.environ
    monkeypatch.setenv(PERMISSIVE, "no")
    read_image(path)
    assert os.environ[PERMISSIVE] == "no"


def test_skew_is_judged_by_the_length_of_axes(tmp_path, caplog):
    path = write_nifti(tmp_path / "a.nii", skewed(1.5e-3), shape=(4, 4, 4))
    read_image(path)
    assert not caplog.records
    path = write_nifti(tmp_path / "b.nii", skewed(1.5e-3), shape=(400, 200, 1))
    with caplog.at_level(logging.WARNING):
        assert is_orthonormal(read_image(path).frame)
    assert "not quite orthonormal" in caplog.text


@pytest.mark.parametrize("digits", [3, 4, 5])
def test_directions_of_few_digits_become_rotations(digits):
    direction = np.round(BASES["oblique"], digits)
    image = Image(np.zeros(SHAPE), Frame(SHAPE, SPACING, ORIGIN, direction), "a")
    for given in (image, to_sitk(image.array, image.frame)):
        frame = as_image(given, "a").frame
        assert is_orthonormal(frame)
        np.testing.assert_allclose(frame.centre, image.frame.centre)
        np.testing.assert_allclose(
            np.reshape(frame.direction, (3, 3)), BASES["oblique"], atol=10.0**-digits
        )


def test_rotations_stay_bit_for_bit():
    for frame in FRAMES.values():
        assert as_image(Image(np.zeros(frame.shape), frame, "a"), "a").frame == frame


def test_skewed_direction_in_2d_is_corrected():
    direction = np.array([[0.866, -0.5], [0.5, 0.866]])
    frame = as_image(
        Image(np.zeros((40, 50)), Frame((40, 50), (1, 2), (0, 0), direction), ""), ""
    ).frame
    expected = [[np.sqrt(0.75), -0.5], [0.5, np.sqrt(0.75)]]
    np.testing.assert_allclose(np.reshape(frame.direction, (2, 2)), expected, atol=1e-4)
    sheared = Frame((40, 50), (1, 2), (0, 0), [[1, 0.1], [0, 1]])
    with pytest.raises(InputError, match=r"5\.71 degrees"):
        as_image(Image(np.zeros((40, 50)), sheared, ""), "")


@pytest.mark.parametrize(("units", "scale"), [(1, 1e-3), (2, 1.0), (3, 1e3)])
def test_nifti_units_of_length_are_honoured(tmp_path, units, scale):
    direction = skewed(3e-4, BASES["oblique"])
    path = write_nifti(tmp_path / "a.nii", direction, scale=scale, units=units)
    frame = read_image(path).frame
    np.testing.assert_allclose(frame.spacing, SPACING, rtol=1e-4)
    np.testing.assert_allclose(frame.origin, ORIGIN, atol=0.05)


@pytest.mark.parametrize("factor", [1.5, 1.01, 0.1])
def test_sform_of_another_voxel_size_is_refused(tmp_path, told, factor):
    spacing = np.multiply(SPACING, (1, factor, 1))
    path = write_nifti(tmp_path / "a.nii", BASES["oblique"], spacing=spacing)
    with pytest.raises(InputError, match=r"by its sform and of .* by its pixdim"):
        read_image(path)


# Quaternion of no rotation of NIfTI's axes, which is half a turn of ITK's about z.
NO_TURN, HALF_TURN = (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)


@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (2, 1), (2, 4)])
def test_disagreeing_sform_and_qform_give_a_warning(tmp_path, caplog, told, codes):
    path = write_nifti(tmp_path / "a.nii", np.eye(3), (0.0, 0.0, 0.3), codes=codes)
    frame, theirs = read_image(path).frame, sitk.ReadImage(str(path))
    np.testing.assert_allclose(frame.direction, theirs.GetDirection(), atol=1e-6)
    used = "sform" if theirs.GetDirection()[0] > 0 else "qform"
    assert f"voxels apart; the {used} is used" in caplog.text


def test_qform_is_used_instead_of_a_sheared_sform(tmp_path, caplog, told):
    path = write_nifti(tmp_path / "a.nii", skewed(0.26), HALF_TURN, codes=(1, 1))
    np.testing.assert_allclose(read_image(path).frame.direction, np.eye(3).ravel())
    assert "voxels apart; the qform is used" in caplog.text


@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (1, 0), (0, 2)])
def test_agreeing_sform_and_qform_give_no_warning(tmp_path, caplog, codes):
    path = write_nifti(tmp_path / "a.nii", np.eye(3), HALF_TURN, codes=codes)
    frame, theirs = read_image(path).frame, sitk.ReadImage(str(path))
    np.testing.assert_allclose(frame.direction, theirs.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(frame.origin, theirs.GetOrigin(), atol=1e-6)
    assert not caplog.records


@pytest.mark.parametrize("quaternion", [(0.1, -0.2, 0.3), (0.5, 0.5, 0.5)])
def test_qform_gives_the_frame_of_itk(tmp_path, quaternion):
    path = write_nifti(tmp_path / "a.nii", None, quaternion, codes=(1, 0))
    frame, theirs = read_image(path).frame, sitk.ReadImage(str(path))
    assert frame.direction == theirs.GetDirection()
    # The sform of the same, and one that leans by rounding.
    own = np.reshape(frame.direction, (3, 3))
    path = write_nifti(tmp_path / "b.nii", skewed(3e-4, own), quaternion, codes=(1, 2))
    np.testing.assert_allclose(
        read_image(path).frame.direction, frame.direction, atol=1e-3
    )


@pytest.mark.parametrize(
    ("more", "fact"),
    [
        ({"direction": np.full((3, 3), np.nan)}, "sform is not finite"),
        ({"direction": np.eye(3), "origin": (np.inf, 0, 0)}, "sform is not finite"),
        ({"direction": np.zeros((3, 3))}, "direction matrix that is singular"),
        ({"direction": np.ones((3, 3))}, "direction matrix"),
        ({"quaternion": (np.nan, 0, 0), "codes": (1, 0)}, "qform is not finite"),
        ({"quaternion": NO_TURN, "codes": (1, 0), "origin": (0, np.nan, 0)},
         "qform is not finite"),
        ({"quaternion": (0.9, 0.9, 0.9), "codes": (1, 0)}, "quaternion longer than 1"),
    ],
)  # fmt: skip
def test_headers_with_a_bad_frame_are_refused(tmp_path, told, capfd, more, fact):
    path = write_nifti(tmp_path / "a.nii", **more)
    with pytest.raises(InputError, match=fact) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_displacements_with_skewed_direction_are_corrected(tmp_path, suffix):
    def write(skew):
        frame = Frame(SHAPE, SPACING, ORIGIN, np.eye(3))
        image = to_sitk(np.zeros((*SHAPE, 3), np.float32), frame)
        image.SetDirection(np.ravel(skewed(skew)).tolist())
        sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
        return tmp_path / f"a{suffix}"

    assert is_orthonormal(read_displacement(write(3e-4))[1])
    with pytest.raises(InputError, match="degrees off a right angle"):
        read_displacement(write(0.2))
