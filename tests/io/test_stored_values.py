"""Damaged values of MetaImage and NRRD, and headers that leave the spacing out."""

import bz2
import logging
import re

import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.io import read_frame, read_image
from regnet_jax.io.headers import check_header
from regnet_jax.io.volumes import read_volumes

CODES = np.random.default_rng(0).integers(0, 50, (6, 30, 31)).astype(np.int16)
SPACING = (1.5, 2.0, 3.0)


def store(path, array=CODES, *, compressed=True):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING[: array.ndim])
    sitk.WriteImage(image, str(path), compressed)
    return path


def header(path):
    """The lines before the values, and the values."""
    content = path.read_bytes()
    end = re.search(rb"ElementDataFile = .*\n|\n\n", content).end()
    return content[:end], content[end:]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(6, 30, 31), (30, 31)])
@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
def test_whole_files_are_read(tmp_path, name, shape, dtype):
    array = CODES[: shape[0], : shape[1]].astype(dtype)
    if len(shape) == 2:
        array = CODES[0].astype(dtype)
    image = read_image(store(tmp_path / name, array))
    np.testing.assert_array_equal(image.array, array)
    assert image.frame.spacing == SPACING[: array.ndim]


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_damaged_values_are_refused(tmp_path, name):
    path = store(tmp_path / name)
    start, values = header(path)
    middle = len(values) // 2
    path.write_bytes(start + values[:middle] + bytes(20) + values[middle + 20 :])
    with pytest.raises(InputError, match=f"{name}: is truncated or damaged"):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "values"), [("a.mhd", "a.zraw"), ("a.nhdr", "a.raw.gz")]
)
def test_damage_of_detached_values_is_refused(tmp_path, name, values):
    path = store(tmp_path / name)
    text = re.sub(r"CompressedDataSize = .*\n", "", path.read_text("utf-8"))
    path.write_text(text, "utf-8")
    np.testing.assert_array_equal(read_image(path).array, CODES)
    content = (tmp_path / values).read_bytes()
    (tmp_path / values).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=f"{values}: is truncated or damaged"):
        read_image(path)


def test_compressed_values_of_unknown_length_are_refused(tmp_path):
    path = store(tmp_path / "a.mha")
    path.write_bytes(re.sub(rb"CompressedDataSize = .*\n", b"", path.read_bytes()))
    for read in (read_image, read_frame):
        with pytest.raises(InputError, match="how long its compressed values are"):
            read(path)


def test_a_list_needs_a_file_for_each_slice(tmp_path):
    path = store(tmp_path / "a.mhd", compressed=False)
    names = []
    for number, plane in enumerate(CODES):
        names.append(f"{number}.raw")
        (tmp_path / names[-1]).write_bytes(plane.tobytes())
    text = path.read_text("utf-8").replace("ElementDataFile = a.raw\n", "")
    text += "ElementDataFile = LIST\n"
    path.write_text(text + "\n".join(names) + "\n", "utf-8")
    np.testing.assert_array_equal(read_image(path).array, CODES)
    path.write_text(text + "\n".join(names[:4]) + "\n", "utf-8")
    for read in (read_image, read_frame):
        with pytest.raises(InputError, match="lists 4 files for 6 slices"):
            read(path)
    # ITK leaves out the last slice.
    path.write_text(text + "\n".join(names), "utf-8")
    with pytest.raises(InputError, match="does not end with a line break"):
        read_image(path)


def patterned(folder, pattern):
    """A MetaImage whose slices are in files of their own, named 0.raw to 5.raw."""
    path = store(folder / "a.mhd", compressed=False)
    for number, plane in enumerate(CODES):
        (folder / f"{number}.raw").write_bytes(plane.tobytes())
    text = path.read_text("utf-8").replace("a.raw", pattern)
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("pattern", ["%d.raw 0 5 1", "%i.raw 0"])
def test_a_pattern_names_a_file_for_each_slice(tmp_path, pattern):
    path = patterned(tmp_path, pattern)
    np.testing.assert_array_equal(read_image(path).array, CODES)


@pytest.mark.parametrize(
    "pattern",
    [
        *("%d.raw 0 4 1", "%d.raw 0 9 1", "%d.raw 5 0 -1", "%d.raw 0 5 1 3"),
        *("%d.raw 0 5", "%d.raw 0 5 0", "%d.raw", "%s.raw 0 5 1", "50%.raw"),
    ],
)
def test_a_pattern_for_other_slices_is_refused(tmp_path, pattern):
    """ITK leaves slices undefined, takes them in another order, or ends the process."""
    path = patterned(tmp_path, pattern)
    for read in (read_image, read_frame):
        with pytest.raises(InputError, match="which does not give 6 files") as caught:
            read(path)
        assert f"{path}: names its slices by {pattern!r}" in str(caught.value)


def test_values_packed_by_bzip2_are_refused(tmp_path):
    path = store(tmp_path / "a.nrrd", compressed=False)
    start, values = header(path)
    path.write_bytes(start.replace(b": raw", b": bzip2") + bz2.compress(values))
    with pytest.raises(InputError, match="its values are packed by bzip2"):
        read_image(path)


@pytest.mark.parametrize(
    "space", ["scanner-xyz", "3D-right-handed", "3D-left-handed-time", "not named"]
)
def test_a_space_without_left_and_right_gets_a_warning(tmp_path, caplog, space):
    path = store(tmp_path / "a.nrrd")
    before = read_image(path)
    assert not caplog.records
    old, new = b"left-posterior-superior", space.encode()
    if space == "not named":
        old, new = b"space: " + old, b"space dimension: 3"
    path.write_bytes(path.read_bytes().replace(old, new))
    if space.endswith("time"):
        # Such a space has a fourth axis.
        check_header(path, "NrrdImageIO")
    else:
        assert read_image(path).frame == before.frame
    (message,) = caplog.messages
    assert message.startswith(f"{path}: its space is {space}, which does not tell left")


@pytest.mark.parametrize("space", ["LPS", "right-anterior-superior", "LAS"])
def test_a_space_of_the_body_needs_no_warning(tmp_path, caplog, space):
    path = store(tmp_path / "a.nrrd")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"left-posterior-superior", space.encode()))
    read_image(path)
    assert not caplog.records


def test_axes_of_colours_need_no_spacing(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((5, 6, 3), np.uint8), isVector=True)
    path = tmp_path / "a.nrrd"
    sitk.WriteImage(image, str(path), False)
    start, values = header(path)
    start = re.sub(rb"space.*\n", b"", start)
    path.write_bytes(start[:-1] + b"spacings: nan 2 3\n\n" + values)
    assert read_volumes(path).images[0].frame.spacing == (2.0, 3.0)


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
def test_more_values_than_the_header_says_get_a_warning(tmp_path, caplog, name):
    """As in a header of another type or size, with which other voxels are read."""
    path = store(tmp_path / name, compressed=False)
    read_image(path)
    assert not caplog.records
    content = path.read_bytes()
    path.write_bytes(content.replace(b"31 30 6", b"30 30 6"))
    assert read_image(path).array.shape == (6, 30, 30)
    said = "its values take 11160 bytes where its header says 10800, and the first"
    assert f"{path}: {said}" in caplog.messages[0]
    caplog.clear()
    read_frame(path)
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "line"),
    [("a.mha", rb"ElementSpacing = .*\n"), ("a.nrrd", rb"space directions: .*\n")],
)
def test_a_header_without_spacing_gets_a_warning(tmp_path, caplog, name, line):
    path = store(tmp_path / name)
    read_image(path)
    assert not caplog.records
    start, values = header(path)
    path.write_bytes(re.sub(line, b"", start) + values)
    with caplog.at_level(logging.WARNING):
        assert read_image(path).frame.spacing == (1.0, 1.0, 1.0)
    assert f"{path}: its header has no spacing" in caplog.messages[0]


@pytest.mark.parametrize(
    ("name", "line", "new", "said"),
    [
        ("a.mha", rb"ElementSpacing = .*", b"ElementSize = 4 4 -4", "must be positive"),
        ("a.nrrd", rb"space directions: .*", b"spacings: 4 nan 4", "must be positive"),
        (
            *("a.nrrd", rb"space directions", b'space units: "um" "um" "um"\n\\g<0>'),
            "says that its space unit is um; convert it to mm",
        ),
        (
            *(
                "a.nrrd",
                rb"space directions: .*",
                b'spacings: 4 4 4\nunits: "cm" "" ""',
            ),
            "says that its space unit is cm; convert it to mm",
        ),
        (
            *("a.mha", rb"ElementSpacing", b"DistanceUnits = um\n\\g<0>"),
            "says that its space unit is um; convert it to mm",
        ),
        # ITK takes the lines behind them for the numbers that are missing.
        ("a.mha", rb"Offset = .*", b"Offset = 1 2", "2 numbers as Offset where 3 are"),
        (
            *("a.mha", rb"TransformMatrix = .*", b"TransformMatrix = 1 0 0 1"),
            "has 4 numbers as TransformMatrix where 9 are needed; correct",
        ),
        ("a.mha", rb"ElementSpacing = .*", b"ElementSpacing = 4 4", "2 numbers as El"),
        (
            "a.mha",
            rb"Offset",
            b"HeaderSize = 9\nOffset",
            "at byte 9, within",
        ),
    ],
)
def test_headers_that_mean_nothing_are_refused(tmp_path, name, line, new, said):
    path = store(tmp_path / name)
    start, values = header(path)
    path.write_bytes(re.sub(line, new, start) + values)
    with pytest.raises(InputError, match=said):
        read_image(path)


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        (b"ElementToIntensityFunctionSlope = 2", True),
        (b"ElementToIntensityFunctionOffset = -1024", True),
        (b"ElementToIntensityFunctionSlope = 1.0", False),
        (b"ElementToIntensityFunctionOffset = 0", False),
    ],
)
def test_values_that_a_meta_image_wants_scaled_are_refused(tmp_path, line, refused):
    """ITK ignores both keys."""
    path = store(tmp_path / "a.mha")
    before = read_image(path).array
    start, values = header(path)
    start = start.replace(b"ElementSpacing", line + b"\nElementSpacing")
    path.write_bytes(start + values)
    if refused:
        with pytest.raises(InputError, match="values are to be scaled"):
            read_image(path)
    else:
        np.testing.assert_array_equal(read_image(path).array, before)


def named_units(path, units):
    start, values = header(store(path))
    named = b"space units: " + units + b"\nspace directions"
    path.write_bytes(start.replace(b"space directions", named) + values)
    return path


def test_millimetres_may_be_named(tmp_path):
    path = named_units(tmp_path / "a.nrrd", b'"mm" "mm" "mm"')
    assert read_image(path).frame.spacing == SPACING


def test_a_unit_of_time_is_none_of_space(tmp_path):
    path = named_units(tmp_path / "a.nrrd", b'"mm" "mm" "mm" "s"')
    check_header(path, "NrrdImageIO")
