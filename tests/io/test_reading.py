"""What is read, and the one line for each thing that cannot be."""

import contextlib
import gzip
import os
import struct
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.files import check_suffix, staged_folder
from regnet_jax.io import (
    read_displacement,
    read_frame,
    read_image,
    read_mask,
    read_transform,
)
from regnet_jax.io.images import IMAGE_SUFFIXES, write_image
from regnet_jax.io.landmarks.reading import parse_points
from regnet_jax.io.pairs import read_pairs
from regnet_jax.io.volumes import read_grid, read_volumes
from regnet_jax.spatial import Frame, Image, check_pair, from_sitk, to_sitk
from tests.helpers.frames import FRAMES

ARRAY = np.random.default_rng(0).normal(size=(6, 7, 8)).astype(np.float32)
PLAIN = Frame((6, 7, 8), (2, 3, 4), (0, 0, 0), np.eye(3))


@pytest.fixture
def refused(capfd):
    """Check that a call raises one line that names things, and prints nothing."""

    def check(call, *fragments):
        with pytest.raises(InputError) as caught:
            call()
        message = str(caught.value)
        assert "\n" not in message
        for fragment in fragments:
            assert str(fragment) in message
        assert capfd.readouterr() == ("", "")

    return check


@pytest.fixture
def stored(tmp_path):
    """Store a plain volume under a name and give its path."""

    def store(name, array=ARRAY, frame=PLAIN, compressed=False):
        path = tmp_path / name
        sitk.WriteImage(to_sitk(array, frame), str(path), compressed)
        return path

    return store


def patch(path, old, new):
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))


@pytest.mark.parametrize("suffix", [".mha", ".nii", ".nii.gz", ".nrrd", ".mhd"])
@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_read_image_gives_array_and_frame(stored, frame, suffix):
    array = np.random.default_rng(1).normal(size=frame.shape).astype(np.float32)
    path = stored("image" + suffix, array, frame)
    image = read_image(path)
    np.testing.assert_array_equal(image.array, array)
    assert image.name == str(path)
    assert image.frame.shape == frame.shape
    # NIfTI holds its frame in single precision.
    np.testing.assert_allclose(image.frame.matrix, frame.matrix, atol=1e-5)
    np.testing.assert_allclose(image.frame.origin, frame.origin, rtol=1e-6)


def test_read_image_keeps_type_and_single_slices(stored):
    labels = np.arange(20, dtype=np.int16).reshape(1, 4, 5)
    image = read_image(stored("a.nii.gz", labels, Frame((1, 4, 5), *PLAIN_PLACE)))
    assert image.array.dtype == np.int16
    assert image.array.shape == (1, 4, 5)


PLAIN_PLACE = (PLAIN.spacing, PLAIN.origin, PLAIN.direction)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_grey_pictures_are_2d_and_their_spacing_a_guess(tmp_path, name, caplog):
    picture = sitk.GetImageFromArray(np.eye(9, dtype=np.uint8))
    sitk.WriteImage(picture, tmp_path / name)
    assert read_image(tmp_path / name).frame.ndim == 2
    for read in (read_image, read_volumes, read_grid):
        caplog.clear()
        read(tmp_path / name)
        assert "so the spacing is a guess" in caplog.text


def paged(path, *arrays, **options):
    """A TIFF with a page for each array."""
    first, *others = (PIL.Image.fromarray(array) for array in arrays)
    first.save(path, save_all=True, append_images=others, **options)
    return path


BYTES = np.random.default_rng(0).integers(0, 255, (5, 7, 9)).astype(np.uint8)


@pytest.mark.parametrize("options", [{}, {"big_tiff": True}], ids=["plain", "big"])
def test_pages_of_one_kind_are_slices(tmp_path, options):
    path = paged(tmp_path / "a.tif", *BYTES, **options)
    np.testing.assert_array_equal(read_image(path).array, BYTES)


@pytest.mark.parametrize("options", [{}, {"big_tiff": True}], ids=["plain", "big"])
@pytest.mark.parametrize(
    "other",
    [
        *(BYTES[0].T.copy(), BYTES[0, 1:], BYTES[0].astype(np.uint16)),
        *(BYTES[0].astype(np.float32), np.dstack([BYTES[0]] * 3)),
    ],
    ids=["turned", "smaller", "type", "float", "colour"],
)
def test_pages_of_several_kinds_are_refused(refused, tmp_path, other, options):
    """ITK reads all of them as if they were like the first."""
    path = paged(tmp_path / "a.tif", BYTES[0], BYTES[1], other, **options)
    for read in (read_image, read_frame):
        refused(lambda read=read: read(path), f"{path}: its pages 1 and 3 differ")


GREY = PIL.Image.fromarray(BYTES[0])
WORDS = PIL.Image.fromarray(BYTES[0].astype(np.uint16) * 200)


@pytest.mark.parametrize(
    ("name", "picture", "options"),
    [
        ("a.tif", GREY.convert("LA"), {}),
        ("a.png", GREY.convert("LA"), {}),
        ("a.tif", WORDS, {"tiffinfo": {274: 3}}),
        ("a.tif", WORDS, {"compression": "zstd"}),
    ],
    ids=["transparent", "transparent-png", "turned", "zstd"],
)
def test_pictures_that_itk_reads_as_others_are_refused(
    refused, tmp_path, name, picture, options
):
    """Transparency becomes pixels, and 16 bits become 8, or there is no image."""
    path = tmp_path / name
    picture.save(path, **options)
    refused(lambda: read_volumes(path), f"{path}: holds pixels of a kind")


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_photos_that_viewers_turn_are_refused(refused, tmp_path, name, orientation):
    path, exif = tmp_path / name, PIL.Image.Exif()
    exif[274] = orientation
    GREY.save(path, exif=exif)
    for read in (read_image, read_frame):
        if orientation == 1:
            read(path)
            continue
        message = f"{path}: is to be turned or mirrored (orientation {orientation} of"
        refused(lambda read=read: read(path), message)


def test_rows_of_a_tiff_may_begin_at_the_bottom(tmp_path):
    WORDS.save(tmp_path / "a.tif", tiffinfo={274: 4})
    found = read_image(tmp_path / "a.tif").array
    np.testing.assert_array_equal(found, np.asarray(WORDS)[::-1])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(refused, tmp_path):
    for name in ("a.nii.gz", "a.h5", "a.txt"):
        os.mkfifo(tmp_path / name)
        for read in (read_image, read_frame, read_mask, read_transform):
            said = f"{tmp_path / name}: is a pipe or a device"
            refused(lambda read=read, name=name: read(tmp_path / name), said)
    path = tmp_path / "a.csv"
    os.mkfifo(path)
    for read in (parse_points, read_pairs):
        refused(lambda read=read: read(path), f"{path}: is a pipe or a device")


@pytest.mark.parametrize("dtype", [bool, np.float16])
def test_to_sitk_widens_types_that_itk_lacks(dtype):
    array = (ARRAY > 0).astype(dtype)
    np.testing.assert_array_equal(from_sitk(to_sitk(array, PLAIN), "").array, array)


def test_missing_file_is_refused(refused, tmp_path):
    refused(lambda: read_image(tmp_path / "none.mha"), "none.mha", "does not exist")


@pytest.mark.parametrize("name", ["a.mha", "a.nii.gz", "a.nrrd", "a.txt", "a.tif", "a"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8bxxxxxxxxxxxx"])
def test_file_that_is_not_an_image_is_refused(refused, tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    refused(lambda: read_image(path), path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", [".mha", ".nii", ".nii.gz", ".nrrd", ".tif"])
def test_truncated_file_is_refused(refused, stored, suffix, packed):
    path = stored("a" + suffix, compressed=packed)
    data = path.read_bytes()
    for share in (0.5, 0.9):
        path.write_bytes(data[: int(share * len(data))])
        refused(lambda: read_image(path), path)
    # The last bytes may hold nothing but a checksum.
    path.write_bytes(data[:-2])
    with contextlib.suppress(InputError):
        np.testing.assert_array_equal(read_image(path).array, ARRAY)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", [".mha", ".nii", ".nii.gz", ".nrrd"])
def test_a_frame_is_read_from_the_header_alone(refused, stored, suffix, packed):
    """So damaged values do not matter to it, and all of a header does."""
    path = stored("a" + suffix, compressed=packed)
    frame, data = read_frame(path), path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    refused(lambda: read_image(path), path)
    assert read_frame(path) == frame == read_grid(path)
    path.write_bytes(data[:80])
    refused(lambda: read_frame(path), path)
    refused(lambda: read_grid(path), path)


def test_truncated_pictures_are_refused(refused, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    for name in ("a.png", "a.jpg", "a.tif"):
        path = tmp_path / name
        sitk.WriteImage(sitk.GetImageFromArray(noise), path)
        path.write_bytes(path.read_bytes()[:2000])
        refused(lambda path=path: read_image(path), path)


def test_damaged_compression_is_refused(refused, stored):
    path = stored("a.nii.gz")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    refused(lambda: read_image(path), path, "damaged")


def test_missing_data_file_is_refused(refused, stored):
    path = stored("a.mhd")
    path.with_suffix(".raw").unlink()
    refused(lambda: read_image(path), path, "data file")


def test_formats_that_hide_truncation_are_refused(refused, stored):
    refused(lambda: read_image(stored("a.vtk")), "a.vtk", "convert")
    refused(lambda: read_image(stored("a.hdr")), "a.hdr", "convert")


def test_namesake_that_itk_would_read_is_refused(refused, stored):
    stored("a.nii", ARRAY + 1)
    path = stored("a.nii.gz")
    refused(lambda: read_image(path), path, "a.nii beside it")


@pytest.mark.parametrize("spacing", ["0 3 4", "-2 3 4", "nan 3 4", "inf 3 4", "a b c"])
def test_bad_spacing_of_a_metaimage_is_refused(refused, stored, spacing):
    path = stored("a.mha")
    patch(path, b"ElementSpacing = 2 3 4", b"ElementSpacing = " + spacing.encode())
    for read in (read_image, read_frame):
        refused(lambda read=read: read(path), path, "header")


@pytest.mark.parametrize("spacing", [0.0, -2.0, np.nan, np.inf])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_bad_spacing_of_a_nifti_is_refused(refused, stored, suffix, spacing):
    path = stored("a" + suffix)
    data = path.read_bytes()
    data = bytearray(gzip.decompress(data) if suffix == ".nii.gz" else data)
    struct.pack_into("<f", data, 80, spacing)
    path.write_bytes(gzip.compress(data) if suffix == ".nii.gz" else data)
    for read in (read_image, read_frame):
        refused(lambda read=read: read(path), path, "spacing", "header")


def test_bad_spacing_of_a_nrrd_is_refused(refused, stored):
    path = stored("a.nrrd")
    patch(path, b"(2,0,0)", b"(0,0,0)")
    refused(lambda: read_image(path), path, "spacing")


@pytest.mark.parametrize(
    "direction",
    [
        "1 0 0 1 0 0 0 0 1",
        "0 0 0 0 0 0 0 0 0",
        "1 .5 0 0 1 0 0 0 1",
        "2 0 0 0 1 0 0 0 1",
    ],
)
def test_singular_or_sheared_direction_is_refused(refused, stored, direction):
    path = stored("a.mha")
    patch(
        path,
        b"TransformMatrix = 1 0 0 0 1 0 0 0 1",
        b"TransformMatrix = " + direction.encode(),
    )
    refused(lambda: read_image(path), path, "direction")


def test_sheared_nifti_is_refused(refused, stored):
    path = stored("a.nii")
    data = bytearray(path.read_bytes())
    struct.pack_into("<12f", data, 280, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    struct.pack_into("<2h", data, 252, 0, 2)
    path.write_bytes(data)
    refused(lambda: read_image(path), path, "direction")


def test_origin_beyond_single_precision_is_refused(refused, stored):
    """Results hold it in single precision, by which voxels would move."""
    near = Frame(PLAIN.shape, PLAIN.spacing, (1e6, 0, 0), PLAIN.direction)
    assert read_image(stored("a.mha", ARRAY, near)).frame == near
    far = Frame(PLAIN.shape, PLAIN.spacing, (0, 1e8, 0), PLAIN.direction)
    refused(lambda: read_image(stored("a.mha", ARRAY, far)), "1e+08 mm away", "too far")


def test_origin_that_is_not_finite_is_refused(refused, stored):
    path = stored("a.mha")
    patch(path, b"Offset = 0 0 0", b"Offset = nan 0 0")
    refused(lambda: read_image(path), path, "Offset")


def test_values_that_are_not_finite_are_refused(refused, stored):
    array = ARRAY.copy()
    array[0, 0, :3] = np.nan, np.inf, -np.inf
    path = stored("a.mha", array)
    refused(lambda: read_image(path), path, f"3 of {ARRAY.size}", "replace")
    path = stored("b.mha", np.full_like(ARRAY, np.nan))
    refused(lambda: read_image(path), path, "all of its values")


def test_several_components_are_refused(refused, stored, tmp_path):
    path = stored("a.mha", np.zeros((6, 7, 8, 3), np.float32))
    refused(lambda: read_image(path), path, "3 components", "extract")
    colours = sitk.GetImageFromArray(np.zeros((9, 9, 3), np.uint8), isVector=True)
    sitk.WriteImage(colours, tmp_path / "a.png")
    refused(lambda: read_image(tmp_path / "a.png"), "3 components", "grey")


def test_four_dimensions_are_refused(refused, tmp_path):
    path = tmp_path / "a.nii.gz"
    sitk.WriteImage(
        sitk.GetImageFromArray(np.zeros((2, 3, 4, 5)), isVector=False), path
    )
    refused(lambda: read_image(path), path, "4D", "extract")


def test_transform_instead_of_an_image_is_refused(refused, tmp_path):
    path = tmp_path / "a.h5"
    sitk.WriteTransform(sitk.AffineTransform(3), str(path))
    refused(lambda: read_image(path), path, "not an image")


NAMES = (
    *("Müller, Ann #2 (5%) été 肺", "a%03d b", "%s%n{}[0]", "a\\b", "'a' \"b\"", "-a"),
    *(
        "a;b&c|d$HOME`e`",
        "a*?",
        "x::y",
        " a ",
        "no\u00a0break \u2028 x",
        "~a",
        "a" * 200,
    ),
)


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nii", ".nii.gz", ".nrrd", ".tif"])
def test_images_of_any_name_are_read_and_written(tmp_path, suffix):
    for name in NAMES:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}{suffix}"
        if suffix == ".mhd" and (name[0] == "~" or "%" in name or name != name.strip()):
            # ITK takes the name of the data file for a home, a pattern, a word.
            continue
        if suffix in IMAGE_SUFFIXES:
            write_image(path, ARRAY, PLAIN)
        else:
            sitk.WriteImage(to_sitk(ARRAY, PLAIN), str(path))
        image = read_image(path)
        np.testing.assert_array_equal(image.array, ARRAY)
        assert image.name == str(path)


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".tfm", ".mat", ".nii", ".nrrd"])
def test_suffixes_in_capitals_are_read_or_refused_as_such(refused, tmp_path, suffix):
    first, path = tmp_path / f"a{suffix}", tmp_path / f"A{suffix.upper()}"
    image = suffix not in (".tfm", ".mat")
    if image:
        sitk.WriteImage(to_sitk(ARRAY, PLAIN), first)
    else:
        sitk.WriteTransform(sitk.AffineTransform(3), first)
    first.rename(path)
    read = read_image if image else read_transform
    if suffix in (".nii", ".nrrd"):
        np.testing.assert_array_equal(read(path).array, ARRAY)
    else:
        refused(lambda: read(path), "suffix in capitals", f"rename it to A{suffix}")
    with pytest.raises(InputError, match="has no suffix that can be written here"):
        check_suffix(path, (suffix, ".other"))


def test_images_of_the_longest_names_are_written(tmp_path):
    path = tmp_path / ("ä" * 123 + "a.mha")
    assert len(path.name.encode()) > 250
    write_image(path, ARRAY, PLAIN)
    np.testing.assert_array_equal(read_image(path).array, ARRAY)
    long = tmp_path / ("x" * 255)
    with staged_folder(long) as folder:
        write_image(folder / "a.mha", ARRAY, PLAIN)
    np.testing.assert_array_equal(read_image(long / "a.mha").array, ARRAY)


def test_names_that_are_not_utf8_are_refused(refused, tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.mha"))
    path.touch()
    said = ("ller.mha", "is not UTF-8", "rename")
    refused(lambda: read_image(path), *said)
    refused(lambda: read_displacement(path), *said)
    refused(lambda: read_transform(path), *said)
    refused(lambda: write_image(path, ARRAY, PLAIN), *said)
    refused(lambda: read_image("a" * 300), "does not exist")
    refused(lambda: read_image("a\0b"), "does not exist")


def test_read_mask_gives_zeros_and_ones(refused, stored):
    mask = np.zeros(ARRAY.shape, np.int16)
    mask[2:4] = 7
    read = read_mask(stored("a.nii.gz", mask))
    assert read.array.dtype == np.uint8
    np.testing.assert_array_equal(read.array, mask > 0)
    flat = Frame((7, 8), (1, 1), (0, 0), np.eye(2))
    refused(lambda: read_mask(stored("a.nii.gz", mask), flat), "3D", "2D")
    refused(lambda: read_mask(stored("b.nii.gz", 0 * mask)), "empty")
    far = Frame(PLAIN.shape, PLAIN.spacing, (1000, 0, 0), PLAIN.direction)
    refused(lambda: read_mask(stored("a.nii.gz", mask), far), "outside")


def test_read_mask_resamples_to_the_grid_of_the_image(stored):
    mask = np.zeros(ARRAY.shape, np.uint8)
    mask[3, 3, 3] = 1
    fine = Frame((12, 14, 16), (1, 1.5, 2), (-0.5, -0.75, -1), PLAIN.direction)
    read = read_mask(stored("a.nii.gz", mask), fine)
    assert read.frame == fine
    assert np.argwhere(read.array).min(0).tolist() == [6, 6, 6]
    assert read.array.sum() == 8


def test_check_pair_refuses_images_that_do_not_fit(refused):
    volume = Image(ARRAY, PLAIN, "volume.mha")
    flat = Image(ARRAY[0], Frame((7, 8), (1, 1), (0, 0), np.eye(2)), "slice.png")
    constant = Image(np.zeros_like(ARRAY), PLAIN, "zero.mha")
    check_pair(volume, volume)
    refused(lambda: check_pair(volume, flat), "volume.mha is 3D", "slice.png is 2D")
    refused(lambda: check_pair(constant, volume), "zero.mha", "same value")
    refused(lambda: check_pair(volume, constant), "zero.mha", "same value")


def test_write_image_is_read_back(tmp_path):
    write_image(tmp_path / "a.nii.gz", ARRAY, PLAIN)
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii.gz").array, ARRAY)
