"""NIfTI-2, and headers with two geometries, byte by byte as the standard has them."""

import gzip
import logging
import struct

import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.io import (
    PairPaths,
    read_displacement,
    read_frame,
    read_image,
    read_pair,
)
from regnet_jax.io.volumes import read_grid, read_volumes
from regnet_jax.registration.monitoring import collect_warnings
from regnet_jax.spatial import Frame, from_sitk, to_sitk
from tests.helpers.frames import FRAMES, rotation

every_frame = pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)


def nifti2(old: bytes, order: str = "<", start: int = 544) -> bytearray:
    """The NIfTI-2 file of a NIfTI-1 file, from the two tables of fields."""
    dim = struct.unpack_from("<8h", old, 40)
    kind, bits = struct.unpack_from("<2h", old, 70)
    pixdim = struct.unpack_from("<8f", old, 76)
    slope, offset = struct.unpack_from("<2f", old, 112)
    codes = struct.unpack_from("<2h", old, 252)
    forms = struct.unpack_from("<18f", old, 256)
    head = bytearray(start)
    struct.pack_into(order + "i8s", head, 0, 540, b"n+2\0\r\n\x1a\n")
    struct.pack_into(order + "2h8q", head, 12, kind, bits, *dim)
    struct.pack_into(order + "8d", head, 104, *pixdim)
    struct.pack_into(order + "q2d", head, 168, start, slope, offset)
    struct.pack_into(order + "2i18d", head, 344, *codes, *forms)
    struct.pack_into(order + "i", head, 500, old[123])
    values = np.frombuffer(old[352:], f"<i{bits // 8}")
    return head + values.astype(f"{order}i{bits // 8}").tobytes()


def stored(path, frame, array=None):
    if array is None:
        array = np.arange(np.prod(frame.shape), dtype=np.int16).reshape(frame.shape)
    sitk.WriteImage(to_sitk(array, frame), str(path))
    return path.read_bytes()


@every_frame
@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti2_is_read_as_itk_reads_nifti1(tmp_path, frame, order):
    old = stored(tmp_path / "a.nii", frame)
    expected = from_sitk(sitk.ReadImage(str(tmp_path / "a.nii")), "")
    content = nifti2(old, order, start=544 if order == "<" else 640)
    (tmp_path / "b.nii").write_bytes(content)
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(content))
    for name in ("b.nii", "c.nii.gz"):
        found = read_image(tmp_path / name)
        np.testing.assert_array_equal(found.array, expected.array)
        assert found.array.dtype == np.int16
        for key in ("spacing", "origin", "direction"):
            np.testing.assert_allclose(
                getattr(found.frame, key), getattr(expected.frame, key), atol=1e-4
            )
        assert read_frame(tmp_path / name) == found.frame
        assert found.name == str(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "is_packed"),
    [("b.nii", True), ("b.nii.gz", False), ("b", False), ("b.mha", True)],
)
def test_nifti_of_another_name_is_read(tmp_path, name, is_packed):
    """Compressed or not against the suffix, after which ITK goes."""
    content = bytearray(stored(tmp_path / "a.nii", FRAMES["3d oblique"]))
    # A comment before the values, which ITK would read with the header.
    struct.pack_into("<f", content, 108, 384.0)
    content[348:352] = b"\1\0\0\0" + struct.pack("<2i", 32, 6) + bytes(24)
    (tmp_path / name).write_bytes(gzip.compress(content) if is_packed else content)
    expected, found = read_image(tmp_path / "a.nii"), read_image(tmp_path / name)
    np.testing.assert_array_equal(found.array, expected.array)
    assert found.frame == expected.frame == read_frame(tmp_path / name)
    assert found.name == str(tmp_path / name)


@pytest.mark.parametrize("name", ["b.mha", "b.nii.gz"])
@pytest.mark.parametrize(("start", "by"), [(b"\x1f\x8b", "gzip"), (b"PK", "zip")])
def test_packed_file_is_refused_with_its_kind(tmp_path, name, start, by):
    (tmp_path / name).write_bytes(start + bytes(600))
    with pytest.raises(InputError, match=f"{name}: is packed by {by}; unpack it,"):
        read_image(tmp_path / name)


@pytest.mark.parametrize(
    ("place", "value", "fact"),
    [
        (24, struct.pack("<q", 40000), "axis of 40000 voxels"),
        (168, struct.pack("<q", -8), "begin at byte -8"),
        (112, struct.pack("<d", 0.0), "spacing"),
        (400, struct.pack("<d", np.nan), "sform is not finite"),
        (104, struct.pack("<2d", 1e300, 1e300), "numbers that no image has"),
    ],
)
def test_bad_nifti2_is_refused(tmp_path, place, value, fact):
    content = nifti2(stored(tmp_path / "a.nii", FRAMES["3d plain"]))
    content[place : place + len(value)] = value
    path = tmp_path / "b.nii"
    path.write_bytes(content)
    with pytest.raises(InputError, match=fact) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("kept", [100, 541, 600])
def test_truncated_nifti2_is_refused(tmp_path, kept):
    content = nifti2(stored(tmp_path / "a.nii", FRAMES["3d plain"]))[:kept]
    for name, data in (("b.nii", content), ("c.nii.gz", gzip.compress(content))):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"truncated|not an image"):
            read_image(path)


@pytest.mark.parametrize("name", ["b.nii", "b.nii.gz"])
def test_the_frame_of_nifti2_is_read_from_its_header_alone(tmp_path, name):
    content = bytes(nifti2(stored(tmp_path / "a.nii", FRAMES["3d plain"])))
    path, packed = tmp_path / name, name.endswith(".gz")

    def store(content):
        path.write_bytes(gzip.compress(content) if packed else content)

    store(content)
    frame = read_image(path).frame
    store(content[:600])
    with pytest.raises(InputError, match="truncated"):
        read_image(path)
    assert read_frame(path) == frame
    store(content[:500])
    with pytest.raises(InputError, match=r"truncated|not an image"):
        read_frame(path)


PLAIN = Frame((4, 5, 6), (1, 2, 3), (9, -8, 7), np.eye(3))
OTHER = Frame((4, 5, 6), (1, 2, 3), (-40, 11, 3), rotation(3, 0.4))


CODES = [(s, q) for s in (0, 1, 2, 4) for q in (0, 1, 2) if s or q]


@pytest.mark.parametrize(("sform_code", "qform_code"), CODES)
@pytest.mark.parametrize("version", [1, 2])
def test_of_two_geometries_the_one_of_itk_is_used_with_a_warning(
    tmp_path, caplog, sform_code, qform_code, version
):
    """The rule of the documentation, and that ITK follows it."""
    content = bytearray(stored(tmp_path / "a.nii", PLAIN))
    other = stored(tmp_path / "b.nii", OTHER)
    # The quaternion of the one, the matrix of the other.
    content[280:328] = other[280:328]
    struct.pack_into("<2h", content, 252, qform_code, sform_code)
    path = tmp_path / "c.nii"
    path.write_bytes(content)
    itk = from_sitk(sitk.ReadImage(str(path)), "").frame
    path.write_bytes(nifti2(bytes(content)) if version == 2 else content)
    takes_sform = sform_code == 1 or not qform_code
    with caplog.at_level(logging.WARNING):
        found = read_frame(path)
    expected = OTHER if takes_sform else PLAIN
    np.testing.assert_allclose(found.origin, expected.origin, atol=1e-4)
    np.testing.assert_allclose(found.direction, expected.direction, atol=1e-4)
    np.testing.assert_allclose(found.origin, itk.origin, atol=1e-4)
    name = "sform" if takes_sform else "qform"
    both = bool(sform_code and qform_code)
    assert (f"voxels apart; the {name} is used" in caplog.text) == both


@pytest.mark.parametrize(
    ("slope", "offset", "expected"),
    [
        *((2, -5, 1), (1, 5, 8), (0, 0, 3), (1, 0, 3), (np.nan, np.nan, 3)),
        *((np.inf, 0, 3), (0, np.nan, 3), (-1, 0, -3)),
        *((0, 5, None), (np.nan, 5, None), (2, np.nan, None), (np.inf, -1000, None)),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_nifti_with_half_a_scaling_is_refused(
    tmp_path, slope, offset, expected, version
):
    content = bytearray(stored(tmp_path / "a.nii", PLAIN))
    struct.pack_into("<2f", content, 112, slope, offset)
    path = tmp_path / "b.nii"
    path.write_bytes(nifti2(bytes(content)) if version == 2 else content)
    if expected is not None:
        assert read_image(path).array[0, 0, 3] == expected
        return
    for read in (read_image, read_frame):
        with pytest.raises(InputError, match="correct scl_slope and scl_inter"):
            read(path)


@pytest.mark.parametrize("version", [1, 2])
def test_nifti_without_a_geometry_gets_a_warning(tmp_path, caplog, version):
    content = bytearray(stored(tmp_path / "a.nii", OTHER))
    struct.pack_into("<2h", content, 252, 0, 0)
    path = tmp_path / "b.nii"
    path.write_bytes(nifti2(bytes(content)) if version == 2 else content)
    with caplog.at_level(logging.WARNING):
        found = read_frame(path)
    np.testing.assert_array_equal(found.direction, np.eye(3).ravel())
    assert f"{path}: its header has no sform and no qform" in caplog.text


def test_the_warning_about_two_geometries_reaches_the_report_of_a_pair(tmp_path):
    content = bytearray(stored(tmp_path / "a.nii", PLAIN))
    content[280:328] = stored(tmp_path / "b.nii", OTHER)[280:328]
    (tmp_path / "a.nii").write_bytes(content)
    stored(tmp_path / "c.nii", PLAIN, np.ones(PLAIN.shape, np.int16))
    pair = PairPaths("pair", tmp_path / "a.nii", tmp_path / "c.nii")
    with collect_warnings() as warnings:
        read_pair(pair)
    assert len(warnings) == 1
    assert "the sform is used" in warnings[0]


def vectors(path, kind):
    """A NIfTI of two components for each voxel."""
    array = np.arange(3 * 4 * 5 * 2).reshape(3, 4, 5, 2).astype(kind)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(path))
    return bytearray(path.read_bytes())


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("version", [1, 2])
def test_scaled_components_are_refused(tmp_path, version, kind):
    """ITK scales half of these floats; its reader of the others ends the process."""
    path = tmp_path / "a.nii"
    content = vectors(path, kind)
    expected = [image.array for image in read_volumes(path).images]
    if version == 2:
        content = nifti2(content)
        # Its intent, a vector.
        struct.pack_into("<i", content, 504, 1007)
    path.write_bytes(content)
    found = [image.array for image in read_volumes(path).images]
    np.testing.assert_array_equal(found, expected)
    if version == 1:
        struct.pack_into("<2f", content, 112, 0.5, 3.0)
    else:
        struct.pack_into("<2d", content, 176, 0.5, 3.0)
    path.write_bytes(content)
    said = r"components of its voxels by 0\.5 and adds 3, which ITK does to some"
    for read in (read_volumes, read_displacement, read_grid):
        with pytest.raises(InputError, match=said):
            read(path)


@pytest.mark.parametrize(("kind", "bits"), [(128, 24), (32, 64)])
def test_scaled_colours_and_complex_numbers_are_refused(tmp_path, kind, bits):
    content = bytearray(stored(tmp_path / "a.nii", PLAIN))
    struct.pack_into("<2h", content, 70, kind, bits)
    struct.pack_into("<2f", content, 112, 2.0, 0.0)
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(InputError, match="multiplies the components of its voxels"):
        read_volumes(tmp_path / "a.nii")


@pytest.mark.parametrize("kind", [1, 1536, 999])
def test_types_of_values_that_itk_does_not_read_are_named(tmp_path, kind):
    content = bytearray(stored(tmp_path / "a.nii", PLAIN))
    struct.pack_into("<h", content, 70, kind)
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(InputError, match=f"its values are of the type {kind} of"):
        read_image(tmp_path / "a.nii")


@pytest.mark.parametrize("name", ["b.nii", "b.nii.gz"])
@pytest.mark.parametrize("version", [1, 2])
def test_more_values_than_the_header_says_get_a_warning(
    tmp_path, caplog, name, version
):
    """As of a series in 4D whose header says 3D: its first volume alone is read."""
    content = bytearray(stored(tmp_path / "a.nii", PLAIN))
    if version == 2:
        content = nifti2(content)
    path = tmp_path / name

    def store(content):
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)

    store(content)
    expected = read_image(path).array
    assert not caplog.records
    store(content + content[-240:])
    np.testing.assert_array_equal(read_image(path).array, expected)
    said = "its values take 480 bytes where its header says 240, and the first are"
    assert f"{path}: {said}" in caplog.text
