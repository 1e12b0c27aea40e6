"""DICOM: bright balls are read where they stand, and what is no volume is refused."""

import errno
import logging
import os
import re
import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from scipy import ndimage

from regnet_jax.errors import InputError
from regnet_jax.io import (
    read_frame,
    read_image,
    read_labels,
    read_manifest,
    read_mask,
    split_series,
)
from regnet_jax.io.volumes import read_grid, read_volumes
from regnet_jax.spatial import to_world
from tests.helpers.dicom_files import (
    DOSE,
    ENHANCED_MR,
    MR,
    numbers,
    write_frames,
    write_plain_frames,
    write_slices,
)
from tests.helpers.frames import rotation

# Rows of these are the directions of columns and of rows of a slice.
AXIAL, CORONAL = np.eye(3)[:2], np.array([[1.0, 0, 0], [0, 0, -1]])
SAGITTAL, OBLIQUE = np.array([[0, 1.0, 0], [0, 0, -1]]), rotation(3, 0.4).T[:2]
PLANES = {"axial": AXIAL, "coronal": CORONAL, "sagittal": SAGITTAL, "oblique": OBLIQUE}
COUNT, SHAPE, SPACING, STEP = 14, (22, 30), (2.0, 2.5), 4.0
SIGMA = 5.0
PLAIN = np.zeros((3, 4), np.uint16)
# Of radiographs.
DIGITAL = "1.2.840.10008.5.1.4.1.1.1.1"


def a_scan(axes, tilt=0.0, turn=0.0, count=COUNT):
    """Stored values (HU + 1000) of slices, their positions, and two balls in them.

    Args:
        axes: of the slices.
        tilt: radians between their normal and the direction they follow each other.
        turn: radians of that direction about the normal.
        count: of slices.
    """
    normal = np.cross(*axes)
    across = np.cos(turn) * axes[0] + np.sin(turn) * axes[1]
    along = np.cos(tilt) * normal + np.sin(tilt) * across
    first = np.array([-31.0, 12.0, 250.0])
    positions = first + STEP * np.arange(count)[:, None] * along
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    plane = columns[..., None] * SPACING[0] * axes[0]
    plane = plane + rows[..., None] * SPACING[1] * axes[1]
    middle = plane[SHAPE[0] // 2, SHAPE[1] // 2]
    balls = positions[[3, count - 4]] + middle
    values = np.zeros((count, *SHAPE))
    for k, ball in enumerate(balls):
        far = ((positions[:, None, None] + plane - ball) ** 2).sum(-1)
        values = np.maximum(values, (1500 + 500 * k) * np.exp(-far / (2 * SIGMA**2)))
    return np.rint(values).astype(np.uint16), positions, balls


def seen_balls(image):
    """World points of the two bright balls of an image, the fainter first."""
    mask = image.array > -700
    labels, count = ndimage.label(mask)
    assert count == 2
    heights = ndimage.maximum(image.array, labels, [1, 2])
    weights = image.array.astype(float) + 1000
    index = ndimage.center_of_mass(weights, labels, np.argsort(heights) + 1)
    return to_world(image.frame, np.array(index))


@pytest.mark.parametrize("turn", [0.0, 90.0, 200.0])
@pytest.mark.parametrize("tilt", [12.0, -20.0])
@pytest.mark.parametrize("axes", PLANES.values(), ids=PLANES)
def test_tilted_gantry_is_resampled_to_a_straight_grid(
    tmp_path, caplog, axes, tilt, turn
):
    values, positions, balls = a_scan(axes, *np.radians([tilt, turn]))
    write_slices(tmp_path, values, positions, axes, SPACING, scaling=(1, -1000))
    image = read_image(tmp_path)
    np.testing.assert_allclose(seen_balls(image), balls, atol=0.25)
    assert image.array.min() == -1000
    assert image.frame.shape[0] == COUNT
    np.testing.assert_allclose(
        image.frame.spacing, (*SPACING, STEP * np.cos(np.radians(tilt))), rtol=1e-6
    )
    direction = np.reshape(image.frame.direction, (3, 3))
    np.testing.assert_allclose(direction[:, :2].T, axes, atol=1e-6)
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-6)
    assert f"tilted by {abs(tilt):.1f} degrees" in caplog.text
    # No pixel of a slice is lost.
    assert image.array.sum(dtype=float) + 1000 * image.array.size == pytest.approx(
        values.sum(dtype=float), rel=0.002
    )
    assert read_frame(tmp_path) == image.frame


def test_tilted_gantry_has_the_minimum_outside_of_slices(tmp_path):
    values, positions, _ = a_scan(AXIAL, np.radians(15.0), np.radians(90.0))
    write_slices(tmp_path, values + 7, positions, AXIAL, SPACING, scaling=(1, -3000))
    image = read_image(tmp_path)
    assert image.array[0, -1].tolist() == [-2993] * SHAPE[1]
    assert image.array.dtype.kind == "i"


@pytest.mark.parametrize("axes", PLANES.values(), ids=PLANES)
def test_straight_slices_keep_values_and_positions(tmp_path, caplog, axes):
    values, positions, balls = a_scan(axes)
    order = np.random.default_rng(0).permutation(COUNT)
    # The scanner may count the other way, or in any.
    write_slices(
        tmp_path, values[order], positions[order], axes, SPACING, scaling=(1, -1000)
    )
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image.array, values.astype(int) - 1000)
    np.testing.assert_allclose(image.frame.origin, positions[0], atol=1e-6)
    np.testing.assert_allclose(seen_balls(image), balls, atol=0.25)
    assert not caplog.records


def test_straight_slices_equal_those_of_itk(tmp_path):
    values, positions, _ = a_scan(OBLIQUE)
    write_slices(tmp_path, values, positions, OBLIQUE, SPACING)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    theirs, own = reader.Execute(), read_image(tmp_path)
    np.testing.assert_array_equal(own.array, sitk.GetArrayFromImage(theirs))
    np.testing.assert_allclose(own.frame.spacing, theirs.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(own.frame.origin, theirs.GetOrigin(), atol=1e-6)
    np.testing.assert_allclose(own.frame.direction, theirs.GetDirection(), atol=1e-6)


def test_irregularly_shifted_slices_are_resampled(tmp_path, caplog):
    values, positions, balls = a_scan(AXIAL)
    rng = np.random.default_rng(0)
    pixels = rng.integers(-3, 4, (COUNT, 2))
    moved = positions + pixels * SPACING @ AXIAL
    shifted = [
        ndimage.shift(v, -p[::-1], order=0) for v, p in zip(values, pixels, strict=True)
    ]
    write_slices(tmp_path, shifted, moved, AXIAL, SPACING, scaling=(1, -1000))
    np.testing.assert_allclose(seen_balls(read_image(tmp_path)), balls, atol=0.25)
    assert "shifted against each other by up to" in caplog.text


def test_widely_shifted_slices_are_refused(tmp_path):
    values, positions, _ = a_scan(AXIAL, np.radians(80.0))
    write_slices(tmp_path, values, positions, AXIAL, SPACING)
    with pytest.raises(InputError, match=r"tilted by 80\.0 degrees.*too far"):
        read_image(tmp_path)


def test_slices_are_rescaled_each_by_its_own(tmp_path):
    values = [PLAIN + 10] * 3
    positions = [(0, 0, z) for z in range(3)]
    scaling = [(1, 0), (0.25, -1), (3, 70000)]
    write_slices(tmp_path, values, positions, AXIAL, (1, 1), scaling=scaling)
    image = read_image(tmp_path)
    np.testing.assert_allclose(image.array[:, 0, 0], [10, 1.5, 70030])


@pytest.mark.parametrize("kind", ["CT", "MR"])
@pytest.mark.parametrize("order", ["up", "down", "mixed"])
@pytest.mark.parametrize("axes", PLANES.values(), ids=PLANES)
def test_multiframe_has_the_position_of_each_frame(tmp_path, caplog, axes, order, kind):
    values, positions, balls = a_scan(axes)
    order = {
        "up": np.arange(COUNT),
        "down": np.arange(COUNT)[::-1],
        "mixed": np.random.default_rng(1).permutation(COUNT),
    }[order]
    path = tmp_path / "deep" / "enhanced"
    more = {} if kind == "CT" else {"kind": ENHANCED_MR}
    write_frames(
        path, values[order], positions[order], axes, SPACING,
        scaling=(1, -1000), **more,
    )  # fmt: skip
    # The file, its folder and the folder of that are the same volume.
    for place in (path, path.parent, tmp_path):
        image = read_image(place)
        assert image.name == str(place)
        np.testing.assert_array_equal(image.array, values.astype(int) - 1000)
        np.testing.assert_allclose(seen_balls(image), balls, atol=0.25)
        assert read_frame(place) == image.frame
    assert not caplog.records


def test_multiframe_of_a_tilted_gantry_is_resampled(tmp_path, caplog):
    values, positions, balls = a_scan(AXIAL, np.radians(-18.0), np.radians(90.0))
    path = tmp_path / "a.dcm"
    write_frames(path, values, positions, AXIAL, SPACING, scaling=(1, -1000))
    np.testing.assert_allclose(seen_balls(read_image(path)), balls, atol=0.25)
    assert "tilted by 18.0 degrees" in caplog.text


@pytest.mark.parametrize("first", [(1, 0), (2, -1000), (0.5, 3)])
def test_multiframe_rescales_each_frame_by_its_own(tmp_path, first):
    path = tmp_path / "a.dcm"
    scaling = [first, (0.25, -1), (3, 70000)]
    positions = [(0, 0, 2), (0, 0, 0), (0, 0, 1)]
    frames = [PLAIN + 10, PLAIN + 20, PLAIN + 30]
    write_frames(path, frames, positions, AXIAL, (1, 1), scaling=scaling)
    expected = [0.25 * 20 - 1, 3 * 30 + 70000, first[0] * 10 + first[1]]
    np.testing.assert_allclose(read_image(path).array[:, 0, 0], expected)


def test_multiframe_volume_may_be_in_several_files(tmp_path):
    values, positions, balls = a_scan(AXIAL)
    for name, part in (("a", slice(None, None, 2)), ("b", slice(1, None, 2))):
        write_frames(
            tmp_path / name, values[part], positions[part], AXIAL, SPACING,
            scaling=(1, -1000),
        )  # fmt: skip
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image.array, values.astype(int) - 1000)
    np.testing.assert_allclose(seen_balls(image), balls, atol=0.25)


@pytest.mark.parametrize("axes", [AXIAL, SAGITTAL])
def test_dose_frames_are_placed_by_their_offsets_and_scaled(tmp_path, axes):
    path = tmp_path / "dose.dcm"
    frames = [PLAIN + k for k in (1, 2, 60000)]
    write_plain_frames(
        path, frames, ImagePositionPatient=[4, 5, 6], PixelSpacing=[3, 2],
        ImageOrientationPatient=numbers(axes), GridFrameOffsetVector=[0, 2.5, 5],
        DoseGridScaling="0.002",
    )  # fmt: skip
    image = read_image(path)
    np.testing.assert_allclose(image.array[:, 0, 0], [0.002, 0.004, 120], rtol=1e-6)
    np.testing.assert_allclose(image.frame.spacing, (2, 3, 2.5))
    last = to_world(image.frame, (2, 0, 0))
    np.testing.assert_allclose(last, np.array([4, 5, 6]) + 5 * np.cross(*axes))


@pytest.mark.parametrize("count", [1, 3])
def test_dose_of_a_file_a_plane_is_scaled(tmp_path, count):
    places = [(0, 0, z) for z in range(count)]
    planes = [PLAIN + 500] * count
    more = {"kind": DOSE, "DoseGridScaling": "0.002"}
    write_slices(tmp_path, planes, places, AXIAL, (1, 1), **more)
    for path in (tmp_path, min(tmp_path.iterdir())):
        assert (read_image(path).array == 1).all()
        assert (read_volumes(path).images[0].array == 1).all()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("stored", "sign"), [(12, 0), (16, 0), (16, 1)])
def test_ct_that_is_shown_inverted_keeps_its_values(tmp_path, count, stored, sign):
    """ITK inverts the values, too, so that Hounsfield units would be beyond 3000."""
    places = [(0, 0, z) for z in range(count)]
    planes = [PLAIN + 40 + k for k in range(count)]
    write_slices(
        tmp_path, planes, places, AXIAL, (1, 1), scaling=(2, -1000),
        PhotometricInterpretation="MONOCHROME1", PixelRepresentation=sign,
        BitsStored=stored, HighBit=stored - 1,
    )  # fmt: skip
    expected = -920 + 2 * np.arange(count)
    np.testing.assert_array_equal(read_image(tmp_path).array[:, 0, 0], expected)
    file = min(tmp_path.iterdir())
    assert (read_image(file).array == expected[0]).all()


def test_values_from_a_table_are_refused(tmp_path):
    table = pydicom.Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4, 0, 16], "US"
    table.add_new("LUTData", "US", [0, 10, 30, 90])
    places = [(0, 0, z) for z in range(3)]
    more = {"ModalityLUTSequence": [table]}
    write_slices(tmp_path, [PLAIN] * 3, places, AXIAL, (1, 1), **more)
    for path in (tmp_path, min(tmp_path.iterdir())):
        with pytest.raises(
            InputError, match=r"001\.dcm: its values follow from a table"
        ):
            read_image(path)


@pytest.fixture
def refused(tmp_path):
    """Check that reading a folder gives one line with all of some words."""

    def check(*fragments, path=tmp_path):
        with pytest.raises(InputError) as caught:
            read_image(path)
        message = str(caught.value)
        assert "\n" not in message
        assert message.startswith(str(path))
        for fragment in fragments:
            assert re.search(fragment, message), message
        with pytest.raises(InputError, match=re.escape(message)):
            read_frame(path)

    return check


def plain_series(folder, places, axes=AXIAL, series="1.2.3.4", **more):
    """Slices of zeros at some distances along their normal, mm."""
    positions = np.array(places, float)[:, None] * np.cross(*axes)
    arrays = [PLAIN + k for k in range(len(places))]
    write_slices(folder, arrays, positions, axes, (1, 1), series, **more)


@pytest.mark.parametrize("axes", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_missing_and_doubled_slices_are_refused_by_name(tmp_path, refused, axes):
    plain_series(tmp_path / "a", [0, 3, 6, 12, 15, 18], axes)
    refused(
        r"1 slice missing between 1\.2\.3\.4-003\.dcm \(number 3\) and"
        r" 1\.2\.3\.4-004\.dcm \(number 4\), from 6 to 12 mm",
        path=tmp_path / "a",
    )
    plain_series(tmp_path / "b", [0, 3, 6, 6, 9, 12], axes)
    refused(r"-003\.dcm .* and .*-004\.dcm .* at one position, 6 mm.*doubled",
            path=tmp_path / "b")  # fmt: skip
    plain_series(tmp_path / "c", [-9, -6, -6, 3, 6, 9, 12], axes)
    refused("at one position, -6 mm", "2 slices missing", "from -6 to 3 mm",
            path=tmp_path / "c")  # fmt: skip


def test_copied_file_is_refused_as_a_doubled_slice(tmp_path, refused):
    plain_series(tmp_path, range(5))
    shutil.copy(tmp_path / "1.2.3.4-002.dcm", tmp_path / "copy.dcm")
    refused("1.2.3.4-002.dcm", "copy.dcm", "doubled")


@pytest.mark.parametrize("places", [[0, 2, 4, 6, 11, 16, 21], [0, 2, 3, 6.4, 8, 9.1]])
def test_uneven_slices_are_refused(refused, tmp_path, places):
    plain_series(tmp_path, places)
    refused("not evenly spaced", r"mm apart|missing")


def test_rounded_positions_are_even(tmp_path):
    places = np.round(np.arange(40) * 1.3333, 1)
    plain_series(tmp_path, places)
    frame = read_image(tmp_path).frame
    np.testing.assert_allclose(frame.spacing[2], places[-1] / 39)


@pytest.mark.parametrize("kind", ["slices", "frames"])
def test_slices_at_one_position_are_refused(tmp_path, refused, kind):
    def write(name, places):
        positions = [(1, 2, z) for z in places]
        arrays = [PLAIN + k for k in range(len(places))]
        if kind == "slices":
            write_slices(tmp_path / name, arrays, positions, AXIAL, (1, 1), kind=MR)
        else:
            path = tmp_path / name / "a.dcm"
            write_frames(path, arrays, positions, AXIAL, (1, 1), kind=ENHANCED_MR)

    write("one", [7.5] * 6)
    refused("6 slices lie at one position, 7.5 mm", path=tmp_path / "one")
    write("times", [0, 3, 6, 9] * 3)
    refused("3 slices at each of 4 positions", path=tmp_path / "times")
    write("b-values", [0, 0, 3, 3, 6, 6])
    refused("2 slices at each of 3 positions", path=tmp_path / "b-values")


def test_frames_without_positions_are_refused(tmp_path, refused):
    write_plain_frames(tmp_path / "us.dcm", [PLAIN] * 4, PixelSpacing=[1, 1])
    refused("does not say where its slices lie", path=tmp_path / "us.dcm")
    write_plain_frames(
        tmp_path / "dose.dcm", [PLAIN] * 4, kind=DOSE, PixelSpacing=[1, 1],
        ImagePositionPatient=[0, 0, 0], ImageOrientationPatient=numbers(AXIAL),
    )  # fmt: skip
    refused("does not say where its slices lie", path=tmp_path / "dose.dcm")


def two_phases(folder):
    for k, name in enumerate(("exhale 50%", "inhale: 0 % / B70f")):
        plain_series(
            folder / f"phase {k}", 10.0 * k + np.arange(4), series=f"1.2.3.{k}",
            SeriesNumber=k + 2, SeriesDescription=name,
        )  # fmt: skip


def test_several_series_are_listed_and_one_can_be_named(tmp_path, refused):
    two_phases(tmp_path)
    refused(
        r"number 2, 'exhale 50%', CT, 4 slices of 4 x 3, UID 1\.2\.3\.0",
        r"number 3, 'inhale: 0 % / B70f', CT, 4 slices of 4 x 3, UID 1\.2\.3\.1",
        r"::1\.2\.3\.0$",
    )
    for name in ("3", "1.2.3.1", "inhale: 0 % / B70f"):
        path = f"{tmp_path}::{name}"
        image = read_image(path)
        assert image.name == path
        assert image.frame.origin == (0, 0, 10)
        assert read_frame(path) == image.frame
        assert split_series(path) == (tmp_path, name)
    assert read_labels(f"{tmp_path}::2").frame.origin == (0, 0, 0)
    assert read_mask(f"{tmp_path}::2").array.max() == 1
    with pytest.raises(InputError, match=r"holds no series 9; it holds .*exhale"):
        read_image(f"{tmp_path}::9")
    with pytest.raises(InputError, match="nowhere::2: does not exist"):
        read_image(tmp_path / "nowhere::2")


def test_a_folder_may_have_the_separator_in_its_name(tmp_path):
    two_phases(tmp_path / "a::b")
    assert read_image(f"{tmp_path / 'a::b'}::3").frame.origin == (0, 0, 10)
    assert read_image(tmp_path / "a::b" / "phase 1").frame.origin == (0, 0, 10)


def test_manifest_may_name_a_series(tmp_path):
    two_phases(tmp_path / "patient #1")
    listed = tmp_path / "scans.txt"
    listed.write_text("patient #1::2\npatient #1::exhale 50%\n", "utf-8")
    for path in read_manifest(listed):
        assert read_image(path).frame.origin == (0, 0, 0)


def test_scout_is_skipped_with_a_warning(tmp_path, caplog):
    plain_series(tmp_path, range(6), SeriesDescription="Thorax")
    plain_series(tmp_path, [0], SAGITTAL, "1.2.3.9", SeriesDescription="Topogram")
    with caplog.at_level(logging.WARNING):
        assert read_image(tmp_path).frame.shape[0] == 6
    assert "Topogram" in caplog.text
    assert re.search("is used, .*'Thorax', CT, 6 slices", caplog.text)
    # Named, there is nothing to say.
    caplog.clear()
    read_image(f"{tmp_path}::Thorax")
    assert read_image(f"{tmp_path}::Topogram").frame.shape[0] == 1
    assert not caplog.records


def test_series_is_divided_into_parallel_slices(tmp_path, refused, caplog):
    plain_series(tmp_path, range(4))
    plain_series(tmp_path, [50], SAGITTAL, first=5)
    assert read_image(tmp_path).frame.shape[0] == 4
    assert "1 slice of" in caplog.text
    plain_series(tmp_path, range(40, 45), SAGITTAL, first=5)
    refused("parts of one", "4 slices", "5 slices", "a folder of their own")


def test_two_patients_in_a_series_are_refused(tmp_path, refused):
    """Slices of one UID between each other, as one wrong volume without gaps."""
    plain_series(tmp_path, range(0, 12, 2), PatientID="A")
    assert read_image(tmp_path).frame.shape[0] == 6
    plain_series(tmp_path, range(1, 12, 2), first=7, PatientID="B")
    refused("holds 2 DICOM series or parts of one", "a folder of their own")


def test_other_files_in_the_folder_are_left_out(tmp_path):
    plain_series(tmp_path, range(4))
    (tmp_path / "notes.txt").write_text("old")
    (tmp_path / "._1.2.3.4-001.dcm").write_bytes(b"\0\5\x16\7" * 50)
    (tmp_path / "eights").write_bytes(b"\x08\0" * 300)
    (tmp_path / "empty").touch()
    sitk.WriteImage(sitk.Image(3, 3, sitk.sitkUInt8), tmp_path / "a.png")
    assert read_image(tmp_path).frame.shape[0] == 4


def test_links_that_are_left_out_are_told(tmp_path, caplog):
    """Half of the slices are links, to a folder or to nothing."""
    folder, other = tmp_path / "folder", tmp_path / "other"
    plain_series(folder, [0, 1, 2])
    plain_series(other, [3, 4, 5])
    assert read_image(folder).array.shape[0] == 3
    assert not caplog.records
    for link, target in (("more", other), ("a.dcm", tmp_path / "gone.dcm")):
        (folder / link).symlink_to(target)
        caplog.clear()
        assert read_image(folder).array.shape[0] == 3
        assert f"{folder}: more and " in caplog.text
    # A link to a file that is there is a file.
    (folder / "more").unlink()
    (folder / "a.dcm").unlink()
    for file in other.iterdir():
        (folder / f"b{file.name}").symlink_to(file)
    caplog.clear()
    assert read_image(folder).array.shape[0] == 6
    assert not caplog.records


def test_a_folder_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    plain_series(tmp_path, [0, 1, 2])
    plain_series(tmp_path / "more", [3, 4, 5])
    scan = os.scandir

    def denied(path):
        if os.path.basename(path) == "more":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(InputError, match=r"more: cannot be read \(Permission denied\)"):
        read_image(tmp_path)


def test_damaged_file_is_refused_by_name(tmp_path):
    plain_series(tmp_path, range(4))
    path = tmp_path / "1.2.3.4-002.dcm"
    data = path.read_bytes()
    path.write_bytes(data[:180])
    with pytest.raises(InputError) as caught:
        read_image(tmp_path)
    assert "\n" not in str(caught.value)
    path.write_bytes(data[:-10])
    with pytest.raises(InputError) as caught:
        read_image(tmp_path)
    assert "\n" not in str(caught.value)


def test_damaged_compressed_slice_is_refused_by_name(tmp_path):
    planes = list(np.arange(3 * 20 * 30, dtype=np.uint16).reshape(3, 20, 30))
    places = [(0, 0, z) for z in range(3)]
    write_slices(tmp_path, planes, places, AXIAL, (1, 1))
    for path in tmp_path.iterdir():
        data = pydicom.dcmread(path)
        data.compress(pydicom.uid.RLELossless)
        data.save_as(path)
    np.testing.assert_array_equal(read_image(tmp_path).array, planes)
    path = tmp_path / "1.2.3.4-002.dcm"
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match=r"002\.dcm: cannot be read"):
        read_image(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        (b"0.000000000\\0.000000000\\", b"0.000000000\\x.000000000\\"),
        (b"1.000000000\\1.000000000", b"1.000000000 1.000000000"),
    ],
)
def test_damaged_numbers_in_a_header_are_refused(tmp_path, change):
    plain_series(tmp_path, range(4))
    path = tmp_path / "1.2.3.4-002.dcm"
    assert change[0] in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(*change))
    with pytest.raises(InputError, match=r"002\.dcm: its DICOM header"):
        read_image(tmp_path)


def test_folder_of_one_slice_is_an_image_of_one_slice(tmp_path):
    plain_series(tmp_path, [5.0], SAGITTAL)
    for path in (tmp_path, tmp_path / "1.2.3.4-001.dcm"):
        image = read_image(path)
        assert image.array.shape == (1, 3, 4)
        np.testing.assert_allclose(image.frame.origin, 5 * np.cross(*SAGITTAL))


def test_one_slice_of_a_series_is_read_with_a_warning(tmp_path, caplog):
    plain_series(tmp_path / "one", (0, 2, 4))
    file = min((tmp_path / "one").iterdir())
    assert read_image(file).array.shape[-2:] == PLAIN.shape
    assert "is one of 3 slices of its DICOM series, and is read alone" in caplog.text
    # A damaged neighbour is not asked for.
    (tmp_path / "one" / "damaged.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    assert read_image(file).array.shape[-2:] == PLAIN.shape
    caplog.clear()
    plain_series(tmp_path / "alone", (0,))
    (file,) = (tmp_path / "alone").iterdir()
    read_image(file)
    assert not caplog.text


def test_values_shorter_than_rows_and_columns_are_refused(tmp_path):
    """Of a file that is whole otherwise; GDCM makes up the rest."""
    places = [(0, 0, 2.0 * k) for k in range(3)]
    arrays = np.ones((3, 60, 70), np.uint16)
    write_slices(tmp_path, arrays, places, np.eye(3)[:2], (1, 1))
    file = sorted(tmp_path.iterdir())[1]
    data = pydicom.dcmread(file)
    data.PixelData = data.PixelData[:600]
    data.save_as(file)
    with pytest.raises(InputError, match=rf"{file.name}: is truncated, it has .* 8400"):
        read_image(tmp_path)


def a_region(x, y, unit):
    """A region of an ultrasound image; unit 3 is cm, and 4 seconds."""
    region = pydicom.Dataset()
    region.PhysicalDeltaX, region.PhysicalDeltaY = x, y
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = unit
    return region


@pytest.mark.parametrize("number", ["1", "1.1", "7.2", "12.1", "20", "481.1"])
@pytest.mark.parametrize("element", ["PixelSpacing", "ImagerPixelSpacing"])
def test_any_kind_of_image_has_the_size_that_it_says(tmp_path, caplog, number, element):
    """GDCM knows one element of each kind, and takes 1 mm without it."""
    plain_series(tmp_path, [5.0], kind=f"1.2.840.10008.5.1.4.1.1.{number}")
    (file,) = tmp_path.iterdir()
    data = pydicom.dcmread(file)
    del data.PixelSpacing
    setattr(data, element, [0.3, 0.2])
    data.save_as(file)
    for frame in (read_image(file).frame, read_frame(file), read_grid(file)):
        assert frame.spacing[:2] == (0.2, 0.3)
    assert "guess" not in caplog.text


@pytest.mark.parametrize(
    ("element", "value", "fact"),
    [("HighBit", 15, "of 12 bits end at bit 15"), ("RescaleSlope", 0, "by 0")],
)
def test_values_that_gdcm_takes_for_others_are_refused(
    tmp_path, refused, element, value, fact
):
    plain_series(tmp_path, [0, 1, 2], BitsStored=12, HighBit=11)
    assert read_image(tmp_path).array.shape == (3, *PLAIN.shape)
    files = sorted(tmp_path.iterdir())
    for file in files:
        data = pydicom.dcmread(file)
        setattr(data, element, value)
        data.save_as(file)
    for path in (tmp_path, files[1]):
        with pytest.raises(InputError, match=f"{fact}.*; convert it to .nii.gz"):
            read_image(path)


@pytest.mark.parametrize(
    ("element", "value", "size"),
    [
        ("PixelSpacing", None, None),
        ("PixelSpacing", [0, 0], None),
        ("ImagerPixelSpacing", [0.3, 0.2], (0.2, 0.3)),
        ("NominalScannedPixelSpacing", [0.3, 0.2], (0.2, 0.3)),
        ("SequenceOfUltrasoundRegions", [[0.02, 0.03, 3]], (0.2, 0.3)),
        # Two sizes, and no length.
        ("SequenceOfUltrasoundRegions", [[0.02, 0.03, 3], [0.1, 0.3, 3]], None),
        ("SequenceOfUltrasoundRegions", [[0.02, 0.03, 4]], None),
    ],
)
@pytest.mark.parametrize("whole_folder", [False, True])
def test_an_image_without_the_size_of_its_pixels_gets_a_warning(
    tmp_path, caplog, whole_folder, element, value, size
):
    """For which GDCM takes 1 mm; other elements than the usual one may give it."""
    kind = "1.2.840.10008.5.1.4.1.1.7" if "Nominal" in element else DIGITAL
    plain_series(tmp_path, [5.0], kind=kind)
    (file,) = tmp_path.iterdir()
    data = pydicom.dcmread(file)
    del data.PixelSpacing
    if value:
        if "Regions" in element:
            value = [a_region(*each) for each in value]
        setattr(data, element, value)
    data.save_as(file)
    frame = read_image(tmp_path if whole_folder else file).frame
    assert frame.spacing[:2] == (size or (1.0, 1.0))
    assert ("so the spacing is a guess" in caplog.text) == (size is None)


def a_segmentation(path, segments):
    """A file of frames of 0 and 1, each of a segment."""
    places = [(0.0, 0.0, 4.0 * k) for k in range(len(segments))]
    arrays = np.ones((len(segments), 3, 4), np.uint16)
    write_frames(path, arrays, places, AXIAL, SPACING)
    data = pydicom.dcmread(path)
    frames = zip(data.PerFrameFunctionalGroupsSequence, segments, strict=True)
    for frame, number in frames:
        own = pydicom.Dataset()
        own.ReferencedSegmentNumber = number
        frame.SegmentIdentificationSequence = [own]
    data.save_as(path)
    return path


def test_several_segments_are_not_one_label(tmp_path, refused):
    image = read_mask(a_segmentation(tmp_path / "one.dcm", [2, 2, 2]))
    assert image.array.all()
    path = a_segmentation(tmp_path / "two.dcm", [1, 1, 2])
    for read in (read_labels, read_mask, read_frame):
        with pytest.raises(InputError, match="holds 2 segments of a DICOM seg"):
            read(path)
