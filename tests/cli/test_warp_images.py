"""Images of several channels and frames through ``regnet warp``, against SimpleITK."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from regnet_jax.io import write_transform
from regnet_jax.spatial import Frame, composite, from_sitk, to_sitk, to_world
from tests.helpers.frames import rotation

TURN = rotation(3, 0.3)
FRAME = Frame((6, 9, 8), (2, 1.5, 2.5), (-10, 4, 30), TURN)
PLANE = Frame((12, 10), (1.0, 1.5), (3, -4), rotation(2, 0.2))
LIKE = Frame((5, 7, 9), (2, 2, 2), (-8, 5, 31), TURN)
SHIFTS = {2: (1.3, -0.8), 3: (2.2, -1.4, 1.1)}


def random(*shape, dtype=np.float32):
    values = np.random.default_rng(0).normal(100, 40, shape)
    return np.clip(values, 0, 255).astype(dtype)


def placed(array, frame, *, vector=True):
    """An image of SimpleITK on a frame; in 4D of frames 0.5 s apart."""
    image = sitk.GetImageFromArray(array, isVector=vector and array.ndim > frame.ndim)
    spacing, origin, direction = frame.spacing, frame.origin, np.eye(4)
    if image.GetDimension() == 4:
        direction[:3, :3] = np.reshape(frame.direction, (3, 3))
        spacing, origin = (*spacing, 0.5), (*origin, 2.0)
    else:
        direction = np.reshape(frame.direction, (frame.ndim,) * 2)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction.ravel().tolist())
    return image


def resampled(array, frame, like, interpolator=sitk.sitkLinear, fill=0.0):
    d = frame.ndim
    shift = sitk.TranslationTransform(d, SHIFTS[d])
    grid = to_sitk(np.zeros(like.shape, np.uint8), like)
    source = to_sitk(array, frame)
    return sitk.GetArrayFromImage(
        sitk.Resample(source, grid, shift, interpolator, float(fill))
    )


@pytest.fixture
def warp(command, tmp_path):
    """Run the command on an image and read the result."""
    for d, shift in SHIFTS.items():
        write_transform(tmp_path / f"{d}.tfm", sitk.TranslationTransform(d, shift))
    for name, frame in (("like2", PLANE), ("like3", LIKE)):
        image = to_sitk(np.zeros(frame.shape, np.uint8), frame)
        sitk.WriteImage(image, str(tmp_path / f"{name}.mha"))

    def run(source, out, *arguments, d=3, labels=False):
        kind = "labels" if labels else "image"
        result = command(
            "warp",
            f"--transform={tmp_path / f'{d}.tfm'}",
            f"--like={tmp_path / f'like{d}.mha'}",
            f"--{kind}={tmp_path / source}",
            f"--out={tmp_path / out}",
            *arguments,
        )
        assert result.status == 0, result.err
        return sitk.ReadImage(str(tmp_path / out)), result.out

    return run


@pytest.mark.parametrize("name", ["a.png", "a.mha", "a.nrrd"])
def test_colours_are_warped_on_black(warp, tmp_path, name):
    array = random(*PLANE.shape, 3, dtype=np.uint8) // 2 + 100
    image = placed(array, PLANE)
    sitk.WriteImage(image, str(tmp_path / name))
    # PNG keeps no more than the spacing.
    frame = from_sitk(sitk.ReadImage(str(tmp_path / name)), "").frame
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / name)), str(tmp_path / "like2.mha"))
    found, _ = warp(name, "b.mha", d=2)
    assert found.GetPixelID() == sitk.sitkVectorUInt8
    values = sitk.GetArrayFromImage(found)
    for channel in range(3):
        expected = resampled(array[..., channel].astype(float), frame, frame)
        np.testing.assert_allclose(values[..., channel], expected, atol=0.51)
    assert (values == 0).all(-1).any()


@pytest.mark.parametrize("suffix", ["nii.gz", "nrrd", "mha"])
def test_every_channel_is_warped_on_its_minimum(warp, tmp_path, suffix):
    array = random(*FRAME.shape, 2) - (0, 1000)
    sitk.WriteImage(placed(array, FRAME), str(tmp_path / f"a.{suffix}"))
    found, _ = warp(f"a.{suffix}", f"b.{suffix}")
    values = sitk.GetArrayFromImage(found)
    for channel in range(2):
        given = array[..., channel]
        expected = resampled(given, FRAME, LIKE, fill=given.min())
        np.testing.assert_allclose(values[..., channel], expected, atol=0.01)


@pytest.mark.parametrize("suffix", ["nii.gz", "nrrd", "mha"])
def test_every_frame_of_a_series_is_warped(warp, tmp_path, suffix):
    array = random(3, *FRAME.shape, dtype=np.int16) * np.int16(
        [[[[1]]], [[[2]]], [[[3]]]]
    )
    sitk.WriteImage(placed(array, FRAME, vector=False), str(tmp_path / f"a.{suffix}"))
    found, _ = warp(f"a.{suffix}", f"b.{suffix}")
    values = sitk.GetArrayFromImage(found)
    assert values.dtype == np.int16
    assert values.shape == (3, *LIKE.shape)
    for given, result in zip(array, values, strict=True):
        expected = resampled(given.astype(float), FRAME, LIKE, fill=array.min())
        np.testing.assert_allclose(result, expected, atol=0.52)
    assert found.GetSpacing() == pytest.approx((*LIKE.spacing, 0.5))
    assert found.GetOrigin() == pytest.approx((*LIKE.origin, 2.0), abs=1e-4)
    turn = np.reshape(found.GetDirection(), (4, 4))[:3, :3]
    np.testing.assert_allclose(turn, TURN, atol=1e-6)


def test_a_series_goes_back_by_the_inverse(warp, tmp_path):
    array = random(2, *FRAME.shape)
    sitk.WriteImage(placed(array, FRAME, vector=False), str(tmp_path / "a.mha"))
    # A 4D image tells its grid, too.
    empty = placed(np.zeros((2, *LIKE.shape), np.uint8), LIKE, vector=False)
    sitk.WriteImage(empty, str(tmp_path / "like3.mha"))
    found, _ = warp("a.mha", "b.mha", "--inverse", "--fill=-5")
    grid = to_sitk(np.zeros(LIKE.shape, np.uint8), LIKE)
    back = sitk.TranslationTransform(3, [-x for x in SHIFTS[3]])
    for given, result in zip(array, sitk.GetArrayFromImage(found), strict=True):
        source = to_sitk(given, FRAME)
        expected = sitk.Resample(source, grid, back, sitk.sitkLinear, -5.0)
        off = np.abs(result - sitk.GetArrayFromImage(expected))
        # Points at the very edge of the image may be in or out by rounding.
        assert np.quantile(off, 0.98) < 0.05


SEGMENTS = {
    "Segment0_ID": "Segment_1",
    "Segment0_Name": "left lung",
    "Segment0_Color": "0.5 0.68 0.5",
    "Segment0_LabelValue": "1",
    "Segment0_Layer": "0",
    "Segment0_Extent": "0 7 0 8 0 5",
    "Segment0_Tags": "TerminologyEntry:Segmentation category~SCT^123037004|",
    "Segment1_Name": "Tumor, überlappend",
    "Segment1_LabelValue": "2",
    "Segment1_Layer": "1",
    "Segment1_Extent": "0 7 0 8 0 5",
    "Segment2_Name": "nowhere",
    "Segment2_LabelValue": "9",
    "Segment2_Layer": "1",
    "Segment2_Extent": "0 7 0 8 0 5",
    "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
    "Segmentation_ConversionParameters": "Smoothing factor|0.5|x&Reference image"
    " geometry|1;0;0;0;0;1;0;0;0;0;1;0;0;0;0;1;0;7;0;8;0;5;|y&Threshold|0.5|z",
    "Segmentation_MasterRepresentation": "Binary labelmap",
    "Segmentation_ReferenceImageExtentOffset": "3 4 5",
}


def stored_segmentation(path, array):
    """A layered segmentation as 3D Slicer writes it, the list axis first."""
    image = placed(array, FRAME)
    for key, value in SEGMENTS.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(path), True)
    content = path.read_bytes().replace(b"kinds: vector domain", b"kinds: list domain")
    path.write_bytes(content)


@pytest.mark.parametrize("layers", [1, 2])
def test_segmentations_of_slicer_keep_their_layers_and_names(warp, tmp_path, layers):
    array = random(*FRAME.shape, 2, dtype=np.uint8) % 3
    array = array if layers == 2 else array[..., 0]
    stored_segmentation(tmp_path / "a.seg.nrrd", array)
    found, printed = warp("a.seg.nrrd", "b.seg.nrrd", labels=True)
    assert "segments" not in printed
    assert found.GetPixelID() in (sitk.sitkUInt8, sitk.sitkVectorUInt8)
    values = sitk.GetArrayFromImage(found).reshape(*LIKE.shape, layers)
    array = array.reshape(*FRAME.shape, layers)
    nearest = sitk.sitkNearestNeighbor
    for layer in range(layers):
        expected = resampled(array[..., layer], FRAME, LIKE, nearest)
        np.testing.assert_array_equal(values[..., layer], expected)
    fields = {key: found.GetMetaData(key) for key in found.GetMetaDataKeys()}
    for key, value in SEGMENTS.items():
        if not key.endswith(("Extent", "Offset", "Parameters")):
            assert fields[key] == value
    z, y, x = np.nonzero(values[..., 0] == 1)
    extent = f"{x.min()} {x.max()} {y.min()} {y.max()} {z.min()} {z.max()}"
    assert fields["Segment0_Extent"] == extent
    if layers == 2:
        assert fields["Segment2_Extent"] == "0 -1 0 -1 0 -1"
        head = (tmp_path / "b.seg.nrrd").read_bytes().partition(b"\n\n")[0]
        assert b"\nkinds: list domain domain domain" in head
    assert fields["Segmentation_ReferenceImageExtentOffset"] == "0 0 0"
    kept = fields["Segmentation_ConversionParameters"]
    assert kept == "Smoothing factor|0.5|x&Threshold|0.5|z"
    _, printed = warp("a.seg.nrrd", "b.nii.gz", labels=True)
    assert "does not keep the names of the segments" in printed


@pytest.mark.parametrize(
    ("labels", "name", "interpolator", "fill"),
    [
        (False, "nearest", sitk.sitkNearestNeighbor, 7),
        (False, "linear", sitk.sitkLinear, 0),
        (False, "bspline", sitk.sitkBSpline3, -20),
        (True, "nearest", sitk.sitkNearestNeighbor, 3),
        (True, "linear", sitk.sitkLabelLinear, 0),
    ],
)
def test_interpolation_and_fill_are_those_of_itk(
    warp, tmp_path, labels, name, interpolator, fill
):
    array = random(*FRAME.shape, dtype=np.int16) // (60 if labels else 1)
    sitk.WriteImage(to_sitk(array, FRAME), str(tmp_path / "a.mha"))
    arguments = (f"--interpolation={name}", f"--fill={fill}")
    found, _ = warp("a.mha", "b.mha", *arguments, labels=labels)
    mixes = not labels and name != "nearest"
    given = array.astype(np.float32) if mixes else array
    expected = resampled(given, FRAME, LIKE, interpolator, fill)
    values = sitk.GetArrayFromImage(found)
    np.testing.assert_allclose(values, expected, atol=0.51 if mixes else 0)
    assert (values == fill).any()
    assert values.dtype == np.int16


def test_outside_of_an_image_is_its_minimum_and_not_water(warp, tmp_path):
    array = random(*FRAME.shape, dtype=np.int16) % 50 - 1000
    sitk.WriteImage(to_sitk(array, FRAME), str(tmp_path / "a.mha"))
    for name in ("nearest", "linear", "bspline"):
        found, _ = warp("a.mha", "b.mha", f"--interpolation={name}")
        assert sitk.GetArrayFromImage(found).max() < -900


@pytest.mark.parametrize("d", [2, 3])
def test_like_beyond_the_field_shows_nothing_twice(command, tmp_path, d):
    """A field of a part of the picture that shifts all of it: a shifted picture."""
    small = Frame((6, 7, 8)[:d], (2.0,) * d, (8,) * d, np.eye(d))
    wide = Frame((15, 16, 14)[:d], (2.0,) * d, (0,) * d, np.eye(d))
    shift = np.array((4.0, -2.0, 2.0)[:d])
    field = np.broadcast_to(shift, (*small.shape, d))
    write_transform(tmp_path / "t.h5", composite(small, field, np.eye(d + 1)))
    grid = to_world(wide, np.moveaxis(np.indices(wide.shape), 0, -1))
    # Every voxel has a value of its own.
    array = (grid @ (1.0, 40.0, 1600.0)[:d]).astype(np.float32) + 1
    sitk.WriteImage(to_sitk(array, wide), str(tmp_path / "a.mha"))
    result = command(
        "warp",
        f"--transform={tmp_path / 't.h5'}",
        f"--image={tmp_path / 'a.mha'}",
        f"--like={tmp_path / 'a.mha'}",
        f"--out={tmp_path / 'b.mha'}",
        "--fill=0",
    )
    assert result.status == 0, result.err
    assert "of the result lies beyond the grid of the transform" in result.err
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "b.mha")))
    shown = found[found > 0]
    assert len(np.unique(shown)) == len(shown)
    # The picture moved by whole voxels.
    index = np.indices(wide.shape) + np.reshape(shift[::-1] / 2, (d, *(1,) * d))
    expected = ndimage.map_coordinates(array, index, order=0, cval=0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_skewed_series_is_refused(command, warp, tmp_path):
    image = placed(random(2, *FRAME.shape), FRAME, vector=False)
    direction = np.eye(4)
    direction[:2, :2] = direction[2:, 2:] = [[0.6, -0.8], [0.8, 0.6]]
    image.SetDirection(direction.ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    result = command(
        "warp",
        *(f"--transform={tmp_path / '3.tfm'}", f"--image={tmp_path / 'a.mha'}"),
        *(f"--like={tmp_path / 'like3.mha'}", f"--out={tmp_path / 'b.mha'}"),
    )
    assert result.status == 2
    assert "fourth axis is not separate" in result.errors[0]
    assert not (tmp_path / "b.mha").exists()
