"""Files of several tools, one after the other and inverted, against SimpleITK."""

import struct

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from regnet_jax.errors import InputError
from regnet_jax.io import (
    affine_matrix,
    read_displacement,
    read_transform,
    split_transforms,
    write_displacement,
    write_transform,
)
from regnet_jax.spatial import map_points, to_sitk, to_world
from tests.helpers.frames import FRAMES, rotation
from tests.io.test_transforms import mapped, points_within

every_frame = pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)


def affine(d, seed=0):
    transform = sitk.AffineTransform(d)
    rng = np.random.default_rng(seed)
    matrix = rotation(d, 0.3) @ (np.eye(d) + 0.1 * rng.normal(size=(d, d)))
    transform.SetMatrix(matrix.ravel().tolist())
    transform.SetTranslation((5.0, -3.0, 4.0)[:d])
    transform.SetCenter((10.0, 0.0, -5.0)[:d])
    return transform


def smooth(frame, size=0.8):
    """A field of up to ``size`` voxels that changes over many of them."""
    noise = np.random.default_rng(5).normal(size=(*frame.shape, frame.ndim))
    field = ndimage.gaussian_filter(noise, (*(2,) * frame.ndim, 0), mode="nearest")
    return size * min(frame.spacing) * field / np.abs(field).max()


def field_transform(vectors, frame):
    return sitk.DisplacementFieldTransform(to_sitk(vectors.astype(np.float64), frame))


@every_frame
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha", ".nrrd"])
def test_displacement_images_are_transforms(tmp_path, frame, suffix):
    vectors = smooth(frame).astype(np.float32)
    write_displacement(tmp_path / f"1Warp{suffix}", vectors, frame)
    points = points_within(frame, 20)
    found = map_points(read_transform(tmp_path / f"1Warp{suffix}"), points)
    expected = mapped(field_transform(vectors, frame), points)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_ants_intent_and_ras_vectors_are_told_apart(tmp_path):
    """ANTs marks LPS vectors by the intent 1007; 1006 are RAS by the NIfTI standard."""
    frame = FRAMES["3d plain"]
    vectors = smooth(frame).astype(np.float32)
    write_displacement(tmp_path / "u.nii", vectors, frame)
    header = bytearray((tmp_path / "u.nii").read_bytes())
    assert struct.unpack_from("<8h", header, 40)[:6] == (5, 7, 6, 5, 1, 3)
    assert struct.unpack_from("<h", header, 68) == (1007,)
    struct.pack_into("<h", header, 68, 1006)
    (tmp_path / "ras.nii").write_bytes(header)
    points = points_within(frame, 20)
    shift = map_points(read_transform(tmp_path / "u.nii"), points) - points
    other = map_points(read_transform(tmp_path / "ras.nii"), points) - points
    np.testing.assert_allclose(other, shift * [-1, -1, 1], atol=1e-6)


def test_single_slice_of_a_volume_is_a_transform_of_3d(tmp_path):
    frame = FRAMES["3d anisotropic"]
    vectors = np.full((1, *frame.shape[1:], 3), (1.0, 2.0, 3.0))
    thin = type(frame)((1, *frame.shape[1:]), frame.spacing, frame.origin,
                       frame.direction)  # fmt: skip
    write_displacement(tmp_path / "u.nii.gz", vectors, thin)
    transform = read_transform(tmp_path / "u.nii.gz")
    point = to_world(thin, np.array([[0, 2, 3]]))
    np.testing.assert_allclose(map_points(transform, point) - point, [[1, 2, 3]])


@every_frame
def test_chains_map_by_the_first_transform_first(tmp_path, frame):
    """Warp, inverse of a linear map, linear map: as antsApplyTransforms -t A -t B."""
    d = frame.ndim
    vectors = smooth(frame).astype(np.float32)
    write_displacement(tmp_path / "1Warp.nii.gz", vectors, frame)
    sitk.WriteTransform(affine(d), str(tmp_path / "0GenericAffine.mat"))
    write_transform(tmp_path / "b.tfm", affine(d, 1))
    points = points_within(frame, 20)
    expected = mapped(field_transform(vectors, frame), points)
    expected = mapped(affine(d).GetInverse(), expected)
    expected = mapped(affine(d, 1), expected)
    names = [f"{tmp_path}/{name}" for name in ("1Warp.nii.gz", "0GenericAffine.mat",
                                               "b.tfm")]  # fmt: skip
    warp, mat, tfm = names
    for given in (
        f"{warp},inverse:{mat},{tfm}",
        f"{warp},[{mat},1],[ {tfm} , 0 ]",
        [warp, f"inverse:{mat}", tfm],
    ):
        found = map_points(read_transform(given), points)
        np.testing.assert_allclose(found, expected, atol=1e-4)
    # The order matters.
    other = map_points(read_transform([tfm, f"inverse:{mat}", warp]), points)
    assert np.abs(other - expected).max() > 1


@every_frame
def test_the_inverse_of_a_composite_inverts_each_part(tmp_path, frame):
    vectors = smooth(frame, 0.3)
    both = sitk.CompositeTransform(
        [affine(frame.ndim), field_transform(vectors, frame), affine(frame.ndim, 1)]
    )
    write_transform(tmp_path / "t.h5", both)
    start = points_within(frame, 20)
    # Such that the field is inside after the first map.
    start = mapped(affine(frame.ndim, 1).GetInverse(), start)
    back = read_transform(f"inverse:{tmp_path}/t.h5")
    found = map_points(back, mapped(both, start))
    assert np.abs(found - start).max() < 0.06 * min(frame.spacing)


def b_spline(d, seed=0):
    """A B-spline on an oblique domain; see ``domain_points``."""
    shape = (40, 30, 50)[:d]
    image = sitk.Image(shape, sitk.sitkFloat32)
    image.SetDirection(rotation(d, 0.4).ravel().tolist())
    image.SetOrigin((5.0, -20.0, 30.0)[:d])
    spline = sitk.BSplineTransformInitializer(image, (4, 3, 5)[:d], 3)
    rng = np.random.default_rng(seed)
    count = len(spline.GetParameters())
    spline.SetParameters(rng.normal(0, 1.5, count).tolist())
    points = rng.uniform(8, np.array(shape) - 9, (20, d)) @ rotation(d, 0.4).T
    return spline, points + image.GetOrigin()


@pytest.mark.parametrize("d", [2, 3])
def test_the_inverse_of_a_b_spline_brings_points_back(tmp_path, d):
    spline, points = b_spline(d)
    write_transform(tmp_path / "s.tfm", spline)
    moved = mapped(read_transform(tmp_path / "s.tfm"), points)
    assert np.abs(moved - points).max() > 1
    back = map_points(read_transform(f"[{tmp_path}/s.tfm,1]"), moved)
    np.testing.assert_allclose(back, points, atol=0.05)


def test_the_inverse_covers_a_field_that_shifts_far(tmp_path):
    """A total displacement of hundreds of mm, as between two scanners."""
    frame = FRAMES["3d oblique"]
    shift = np.array([200.0, -300.0, 150.0])
    write_displacement(tmp_path / "u.mha", smooth(frame) + shift, frame)
    points = points_within(frame, 20)
    moved = map_points(read_transform(tmp_path / "u.mha"), points)
    back = map_points(read_transform(f"inverse:{tmp_path}/u.mha"), moved)
    np.testing.assert_allclose(back, points, atol=0.05)


def test_folds_without_an_inverse_are_warned_of(tmp_path, caplog):
    frame = FRAMES["2d anisotropic"]
    write_displacement(tmp_path / "u.mha", smooth(frame, 30), frame)
    read_transform(f"inverse:{tmp_path}/u.mha")
    (record,) = caplog.records
    assert "u.mha: folds, so it has no inverse at" in record.getMessage()


@pytest.mark.parametrize(
    ("given", "links"),
    [
        ("a.h5", [("a.h5", False)]),
        ("inverse:a.h5", [("a.h5", True)]),
        ("a.h5,inverse:b,c.mat", [("a.h5", False), ("b", True), ("c.mat", False)]),
        ("[a b.mat, 1],c", [("a b.mat", True), ("c", False)]),
        (["a", "[b,0]"], [("a", False), ("b", False)]),
    ],
)
def test_split_transforms_understands_both_ways_to_write(given, links):
    found = [(str(path), inverse) for path, inverse in split_transforms(given)]
    assert found == links


def test_split_transforms_takes_files_by_their_whole_name(tmp_path):
    for name in ("a,b.tfm", "[c,1]"):
        write_transform(tmp_path / "t.tfm", affine(2))
        (tmp_path / "t.tfm").rename(tmp_path / name)
        (link,) = split_transforms(f"{tmp_path}/{name}")
        assert link == (tmp_path / name, False)


def test_transforms_of_old_and_other_programs(tmp_path):
    """Text of older ANTs, float parameters, and what 3D Slicer saves as .tfm."""
    parameters = "1 0.1 0 0 0.9 0 0 0 1.2 5 -3 4"
    expected = None
    for name in ("MatrixOffsetTransformBase_double", "AffineTransform_float",
                 "AffineTransform_double"):  # fmt: skip
        (tmp_path / "Affine.txt").write_text(
            f"#Insight Transform File V1.0\n#Transform 0\nTransform: {name}_3_3\n"
            f"Parameters: {parameters}\nFixedParameters: 1 2 3\n"
        )
        matrix = affine_matrix(tmp_path / "Affine.txt", 3)
        expected = matrix if expected is None else expected
        np.testing.assert_allclose(matrix, expected, atol=1e-6)
        back = affine_matrix(f"inverse:{tmp_path}/Affine.txt", 3)
        np.testing.assert_allclose(back @ matrix, np.eye(4), atol=1e-6)


def test_files_that_are_no_transform_are_refused(tmp_path):
    frame = FRAMES["3d plain"]
    vectors = smooth(frame).astype(np.float32)
    write_displacement(tmp_path / "u.nii", vectors, frame)
    whole = (tmp_path / "u.nii").read_bytes()
    (tmp_path / "cut.nii").write_bytes(whole[:-40])
    named = bytearray(whole)
    named[328:338] = b"NREG_TRANS"
    (tmp_path / "cpp.nii").write_bytes(named)
    named[328:338] = b"Mapping\0\0\0"
    (tmp_path / "y.nii").write_bytes(named)
    write_displacement(tmp_path / "nan.mha", np.full_like(vectors, np.nan), frame)
    colour = to_sitk(np.ones((*frame.shape, 3), np.uint8), frame)
    sitk.WriteImage(colour, str(tmp_path / "colour.mha"))
    sitk.WriteImage(to_sitk(vectors[..., 0], frame), str(tmp_path / "scalar.nrrd"))
    series = sitk.JoinSeries([to_sitk(vectors[..., k], frame) for k in range(3)])
    sitk.WriteImage(series, str(tmp_path / "series.nii"))
    (tmp_path / "text.nrrd").write_text("hello")
    write_displacement(tmp_path / "lps.nrrd", vectors, frame)
    lps = (tmp_path / "lps.nrrd").read_bytes()
    turned = b"measurement frame: (0,1,0) (1,0,0) (0,0,1)\nspace origin:"
    upright = turned.replace(b"(0,1,0) (1,0,0)", b"(1,0,0) (0, 1, 0)")
    (tmp_path / "upright.nrrd").write_bytes(lps.replace(b"space origin:", upright))
    for name in ("lps.nrrd", "upright.nrrd"):
        np.testing.assert_array_equal(read_displacement(tmp_path / name)[0], vectors)
    for name, old, new in (
        ("ras.nrrd", b"left-posterior-superior", b"right-anterior-superior"),
        ("frame.nrrd", b"space origin:", turned),
    ):
        (tmp_path / name).write_bytes(lps.replace(old, new))
    flat = sitk.AffineTransform(2)
    flat.SetMatrix((1.0, 0.0, 0.0, 0.0))
    write_transform(tmp_path / "flat.tfm", flat)
    write_transform(tmp_path / "2d.tfm", affine(2))
    write_transform(tmp_path / "3d.tfm", affine(3))
    for given, message in {
        "cut.nii": "truncated",
        "cpp.nii": "NiftyReg",
        "y.nii": "holds positions",
        "nan.mha": "NaN",
        "colour.mha": "such as a colour",
        "scalar.nrrd": "has 1 components in 3D",
        "series.nii": "has 1 components in 4D",
        "text.nrrd": "text.nrrd",
        "ras.nrrd": "in the space right-anterior-superior",
        "frame.nrrd": "in a measurement frame",
        "none.nii.gz": "does not exist",
        "2d.tfm,@3d.tfm": "3d.tfm: is 3D and .*2d.tfm is 2D",
        "inverse:@flat.tfm": "flat.tfm: the linear transform is singular",
        "2d.tfm,": "lacks the name of a transform; write A or A,inverse:B",
        "2d.tfm, inverse:": "lacks the name of a transform",
        "2d.tfm, none.tfm": "^none.tfm: does not exist",
    }.items():
        place = f"{tmp_path}/"
        text = given.replace("@", place) if ":@" in given else (
            place + given.replace("@", place)
        )  # fmt: skip
        with pytest.raises(InputError, match=message) as caught:
            read_transform(text)
        assert "\n" not in str(caught.value)


def test_an_initial_transform_is_not_applied_twice(tmp_path):
    head = '(Transform "TranslationTransform")\n(FixedImageDimension 2)\n'
    zero, one = (tmp_path / f"TransformParameters.{n}.txt" for n in (0, 1))
    zero.write_text(head + "(TransformParameters 1 2)\n")
    name = '(InitialTransformParametersFileName "TransformParameters.0.txt")\n'
    one.write_text(head + "(TransformParameters 3 5)\n" + name)
    found = map_points(read_transform(one), np.zeros((1, 2)))
    np.testing.assert_allclose(found, [[4, 7]])
    with pytest.raises(InputError, match=r"1\.txt: starts from TransformParameters\.0"):
        read_transform([zero, one])
