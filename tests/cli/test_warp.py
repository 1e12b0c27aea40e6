"""Transforms applied from the command line, against SimpleITK."""

import re

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from regnet_jax.io import read_points, write_points, write_transform
from regnet_jax.spatial import (
    Frame,
    affine_transform,
    composite,
    from_sitk,
    map_points,
    to_index,
    to_sitk,
    to_world,
)
from tests.helpers.networks import smooth_image

ANGLE = 0.4
TURN = np.array([[np.cos(ANGLE), -np.sin(ANGLE)], [np.sin(ANGLE), np.cos(ANGLE)]])
TURN3 = np.eye(3)
TURN3[:2, :2] = TURN


def about(centre, shape, spacing, direction):
    """A grid about a point."""
    frame = Frame(shape, spacing, (0,) * len(shape), direction)
    return Frame(shape, spacing, np.subtract(centre, frame.centre), direction)


# Fixed and moving: anisotropic, oblique, flipped, permuted.
FRAMES = {
    2: (
        about((-60, 25), (50, 60), (1.5, 2.0), TURN),
        about((-58, 21), (64, 70), (1.6, 1.4), TURN @ np.diag([1, -1])),
    ),
    3: (
        about((10, -20, 30), (16, 24, 28), (2.0, 1.5, 3.0), TURN3),
        about((12, -23, 31), (32, 30, 20), (2.0, 1.8, 2.5), np.eye(3)[[2, 0, 1]]),
    ),
}
dimensions = pytest.mark.parametrize("d", [2, 3])


def some_transform(frame):
    """A breath: smooth, up to three voxels, and a small affine map."""
    d = frame.ndim
    noise = np.random.default_rng(1).normal(size=(*frame.shape, d))
    field = ndimage.gaussian_filter(noise, (*(6,) * d, 0), mode="nearest")
    affine = np.eye(d + 1)
    affine[:d] += np.random.default_rng(2).normal(size=(d, d + 1)) * 0.02
    return composite(frame, 4.5 * field / np.abs(field).max(), affine)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Folder with fixed.mha, moving.mha, labels.mha (moving) and transform.h5."""
    made = {}

    def get(d):
        if d not in made:
            folder = tmp_path_factory.mktemp(f"warp{d}d")
            for name, frame in zip(("fixed", "moving"), FRAMES[d], strict=True):
                array = smooth_image(frame.shape).astype(np.int16)
                sitk.WriteImage(to_sitk(array, frame), str(folder / f"{name}.mha"))
            blocks = (np.indices(frame.shape) // 5).sum(0) % 4
            labels = np.array([0, 3, 7, 200], np.uint8)[blocks]
            sitk.WriteImage(to_sitk(labels, frame), str(folder / "labels.mha"))
            write_transform(folder / "transform.h5", some_transform(FRAMES[d][0]))
            made[d] = folder
        return made[d]

    return get


@pytest.fixture
def warp(command, tmp_path):
    """Run the command and give the path of the result and what was printed."""

    def run(folder, out, *arguments, transform="transform.h5"):
        path = tmp_path / out
        result = command(
            "warp", f"--transform={folder / transform}", f"--out={path}", *arguments
        )
        assert result.status == 0, result.err
        assert not result.errors
        assert str(path) in result.out
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
        return path, result.out

    return run


def inside(frame, points, margin=0.0):
    index = to_index(frame, points)
    return ((index >= margin) & (index <= np.array(frame.shape) - 1 - margin)).all(-1)


@dimensions
def test_warp_resamples_an_image_as_itk(pair, warp, d):
    folder = pair(d)
    path, _ = warp(folder, "a.nii.gz", f"--image={folder / 'moving.mha'}")
    found = sitk.ReadImage(str(path))
    moving = sitk.ReadImage(str(folder / "moving.mha"))
    expected = sitk.Resample(
        sitk.Cast(moving, sitk.sitkFloat64),
        sitk.ReadImage(str(folder / "fixed.mha")),
        sitk.ReadTransform(str(folder / "transform.h5")),
        sitk.sitkLinear,
        float(sitk.GetArrayViewFromImage(moving).min()),
    )
    assert found.GetPixelID() == sitk.sitkInt16
    assert found.GetSize() == expected.GetSize()
    np.testing.assert_allclose(found.GetDirection(), expected.GetDirection(), atol=1e-6)
    difference = sitk.GetArrayFromImage(found) - sitk.GetArrayFromImage(expected)
    assert np.quantile(np.abs(difference), 0.999) <= 0.51
    assert sitk.GetArrayFromImage(found).std() > 50


@dimensions
def test_warp_moves_a_bright_point_by_the_transform(pair, warp, tmp_path, d):
    """In the warped image it is at the fixed point whose image it is."""
    folder, (fixed, moving) = pair(d), FRAMES[d]
    target = np.array(fixed.shape) // 2
    point = map_points(some_transform(fixed), to_world(fixed, target[None]))
    distance = to_world(moving, np.moveaxis(np.indices(moving.shape), 0, -1)) - point[0]
    blob = np.exp(-((distance / 4) ** 2).sum(-1) / 2).astype(np.float32)
    sitk.WriteImage(to_sitk(blob, moving), str(tmp_path / "blob.mha"))
    path, _ = warp(folder, "a.mha", f"--image={tmp_path / 'blob.mha'}")
    found = from_sitk(sitk.ReadImage(str(path)), "").array
    assert found.dtype == np.float32
    peak = np.unravel_index(found.argmax(), found.shape)
    np.testing.assert_allclose(peak, target, atol=1)
    write_points(tmp_path / "fixed.pts", to_world(fixed, target[None]))
    path, _ = warp(folder, "b.pts", f"--points={tmp_path / 'fixed.pts'}")
    np.testing.assert_allclose(read_points(path), point, atol=1e-6)


@dimensions
@pytest.mark.parametrize("inverse", [False, True])
def test_warp_keeps_labels(pair, warp, d, inverse):
    folder = pair(d)
    path, grid = folder / "labels.mha", "fixed"
    path, _ = warp(folder, "a.nii.gz", f"--labels={path}", f"--like={folder}/fixed.mha")
    if inverse:
        grid = "moving"
        like = f"--like={folder}/moving.mha"
        path, _ = warp(folder, "b.nii.gz", f"--labels={path}", like, "--inverse")
    found = sitk.ReadImage(str(path))
    assert found.GetPixelID() == sitk.sitkUInt8
    assert set(np.unique(sitk.GetArrayFromImage(found))) == {0, 3, 7, 200}
    assert found.GetSize() == sitk.ReadImage(str(folder / f"{grid}.mha")).GetSize()


@dimensions
def test_warp_like_takes_the_grid_of_another_image(pair, warp, tmp_path, d):
    folder = pair(d)
    like = sitk.Image((9, 8, 7)[:d], sitk.sitkUInt8)
    like.SetOrigin(FRAMES[d][0].centre.tolist())
    like.SetSpacing((3.0, 2.0, 1.0)[:d])
    sitk.WriteImage(like, str(tmp_path / "like.mha"))
    arguments = (
        f"--image={folder / 'moving.mha'}",
        f"--like={tmp_path / 'like.mha'}",
    )
    path, _ = warp(folder, "a.mha", *arguments)
    found = sitk.ReadImage(str(path))
    assert found.GetSize() == like.GetSize()
    expected = sitk.Resample(
        sitk.ReadImage(str(folder / "moving.mha"), sitk.sitkFloat64),
        like,
        some_transform(FRAMES[d][0]),
    )
    difference = sitk.GetArrayFromImage(found) - sitk.GetArrayFromImage(expected)
    assert np.abs(difference).max() <= 0.51


@dimensions
def test_warp_inverse_undoes_the_warp_of_an_image(pair, warp, tmp_path, d):
    """An image of where voxels are, forth and back, tells how far they moved."""
    folder, (fixed, moving) = pair(d), FRAMES[d]
    grid = np.moveaxis(np.indices(moving.shape), 0, -1)
    y = to_world(moving, grid)
    back = []
    for axis in range(d):
        # The coordinate of a fixed voxel, brought to the moving grid.
        points = to_world(fixed, np.moveaxis(np.indices(fixed.shape), 0, -1))
        name = tmp_path / f"coordinate{axis}.mha"
        sitk.WriteImage(to_sitk(points[..., axis], fixed), str(name))
        path, _ = warp(
            folder,
            f"back{axis}.mha",
            f"--image={name}",
            f"--like={folder / 'moving.mha'}",
            "--inverse",
        )
        back.append(sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
    x = np.stack(back, -1)
    # Background is a corner of the fixed image.
    seen = inside(fixed, x, margin=0.1)
    assert seen.mean() > 0.2
    off = map_points(some_transform(fixed), x[seen]) - y[seen]
    voxels = np.abs(off) / min(moving.spacing)
    assert np.quantile(voxels.max(-1), 0.99) < 0.05


@dimensions
def test_warp_inverse_undoes_the_warp_of_points(pair, warp, tmp_path, d):
    folder, (fixed, _) = pair(d), FRAMES[d]
    rng = np.random.default_rng(0)
    index = rng.uniform(0, np.array(fixed.shape) - 1, (40, d))
    points = to_world(fixed, index)
    write_points(tmp_path / "a.pts", points)
    there, _ = warp(folder, "b.txt", f"--points={tmp_path / 'a.pts'}")
    transform = sitk.ReadTransform(str(folder / "transform.h5"))
    moved = [transform.TransformPoint(p) for p in points.tolist()]
    np.testing.assert_allclose(read_points(there), moved, atol=2e-6)
    assert np.linalg.norm(moved - points, axis=1).max() > 2
    back, printed = warp(folder, "c.pts", f"--points={there}", "--inverse")
    np.testing.assert_allclose(read_points(back), points, atol=5e-3)
    assert "no inverse" not in printed


@dimensions
def test_warp_takes_points_in_voxels(pair, warp, tmp_path, d):
    folder, (fixed, _) = pair(d), FRAMES[d]
    index = np.random.default_rng(0).integers(0, fixed.shape, (5, d))
    rows = "".join(",".join(map(str, i[::-1])) + "\n" for i in index.tolist())
    (tmp_path / "a.csv").write_text(rows)
    path, _ = warp(
        folder,
        "b.pts",
        f"--points={tmp_path / 'a.csv'}",
        f"--points_image={folder / 'fixed.mha'}",
        "--point_coordinates=voxels",
    )
    expected = map_points(some_transform(fixed), to_world(fixed, index))
    np.testing.assert_allclose(read_points(path), expected, atol=2e-6)


def test_warp_inverse_lists_points_without_an_inverse(warp, tmp_path):
    """The field shifts by 3 mm and ends, which leaves a gap behind it."""
    frame = Frame((9, 9), (1, 1), (0, 0), np.eye(2))
    shift = np.broadcast_to((3.0, 0.0), (9, 9, 2))
    write_transform(tmp_path / "t.h5", composite(frame, shift, np.eye(3)))
    write_points(tmp_path / "a.pts", [[5.0, 4.0], [1.0, 4.0]])
    arguments = (f"--points={tmp_path / 'a.pts'}", "--inverse")
    path, printed = warp(tmp_path, "b.pts", *arguments, transform="t.h5")
    np.testing.assert_allclose(read_points(path)[0], (2.0, 4.0), atol=1e-3)
    assert "no inverse for 1 of 2 points (number 2)" in printed


def test_warp_inverse_leaves_background_without_an_inverse(warp, tmp_path):
    """A field that folds over itself: voxels are lost, and none is invented."""
    frame = Frame((40, 40), (1, 1), (0, 0), np.eye(2))
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.normal(size=(40, 40, 2)), (2, 2, 0))
    write_transform(
        tmp_path / "t.h5", composite(frame, 12 * noise / noise.max(), np.eye(3))
    )
    sitk.WriteImage(
        to_sitk(np.full((40, 40), 5, np.uint8), frame), str(tmp_path / "a.mha")
    )
    image = tmp_path / "a.mha"
    arguments = (f"--labels={image}", f"--like={image}", "--inverse")
    path, printed = warp(tmp_path, "b.mha", *arguments, transform="t.h5")
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert set(np.unique(found)) == {0, 5}
    assert (found == 5).mean() > 0.5
    (lost,) = map(int, re.findall(r"no inverse for (\d+) of 1600 voxels", printed))
    assert 0 < lost <= (found == 0).sum()


def test_warp_inverse_undoes_a_linear_transform(warp, tmp_path):
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = 1.2 * TURN, (3.0, -2.0)
    write_transform(tmp_path / "t.tfm", affine_transform(matrix))
    points = np.random.default_rng(0).normal(size=(6, 2)) * 50
    write_points(tmp_path / "a.pts", points)
    there, _ = warp(
        tmp_path, "b.pts", f"--points={tmp_path / 'a.pts'}", transform="t.tfm"
    )
    expected = points @ matrix[:2, :2].T + matrix[:2, 2]
    np.testing.assert_allclose(read_points(there), expected, atol=2e-6)
    back, _ = warp(
        tmp_path, "c.pts", f"--points={there}", "--inverse", transform="t.tfm"
    )
    np.testing.assert_allclose(read_points(back), points, atol=5e-6)


def test_warp_replaces_existing_results(pair, warp, tmp_path):
    folder = pair(2)
    (tmp_path / "a.mha").write_text("of last year")
    path, _ = warp(folder, "a.mha", f"--image={folder / 'moving.mha'}")
    assert sitk.ReadImage(str(path)).GetSize() == (60, 50)


BAD = {
    "nothing": ([], "--image, --labels, --points"),
    "both": (["--image={moving}", "--labels={labels}"], "--image, --labels, --points"),
    "empty": (["--image="], "--image: is empty; give a value"),
    "missing": (["--image={tmp}/gone.mha"], "gone.mha"),
    "no-transform": (["--image={moving}", "--transform={moving}"], "moving.mha"),
    "gone-transform": (["--image={moving}", "--transform={tmp}/no.h5"], "no.h5"),
    "second-gone": (
        ["--image={moving}", "--transform", "{tmp}/affine.tfm", "{tmp}/no.mat"],
        "no.mat",
    ),
    "inverse-grid": (
        ["--image={moving}", "--transform=inverse:{transform}"],
        "transform.h5: has no grid of its own",
    ),
    "dimension": (["--image={volume}"], "volume.mha"),
    "like-dimension": (["--image={moving}", "--like={volume}"], "volume.mha"),
    "like-missing": (["--image={moving}", "--like={tmp}/no.mha"], "no.mha"),
    "no-grid": (["--image={moving}", "--transform={tmp}/affine.tfm"], "affine.tfm"),
    "inverse-no-like": (["--image={moving}", "--inverse"], "--like"),
    "points-like": (
        ["--points={tmp}/a.pts", "--like={moving}", "--out={tmp}/o.pts"],
        "--like",
    ),
    "points-fill": (["--points={tmp}/a.pts", "--fill=0"], "--fill"),
    "coordinates": (
        ["--image={moving}", "--point_coordinates=lps"],
        "--point_coordinates",
    ),
    "labels-bspline": (
        ["--labels={labels}", "--interpolation=bspline"],
        "--interpolation",
    ),
    "fill": (["--labels={labels}", "--fill=-1"], "fill value -1"),
    "fill-label": (["--labels={labels}", "--fill=0.5"], "--fill: labels"),
    "fill-fraction": (["--image={moving}", "--fill=0.5"], "fill value 0.5"),
    "fill-large": (["--image={tmp}/float.mha", "--fill=1e40"], "fill value 1e"),
    "fill-nan": (["--image={tmp}/float.mha", "--fill=nan"], "fill value nan"),
    "points-image": (["--image={moving}", "--points_image={moving}"], "--points_image"),
    "suffix": (["--image={moving}", "--out={tmp}/a.png"], "a.png"),
    "no-name": (["--image={moving}", "--out={tmp}/.nii.gz"], "is a suffix without"),
    "point-suffix": (["--points={tmp}/a.pts", "--out={tmp}/a.mha"], "a.mha"),
    "folder": (["--image={moving}", "--out={tmp}/no/a.mha"], "no/a.mha"),
    "fractions": (["--labels={tmp}/float.mha"], "float.mha"),
    "voxels": (["--points={tmp}/a.csv", "--out={tmp}/o.pts"], "a.csv"),
    "outside": (
        ["--points={tmp}/a.csv", "--points_image={moving}", "--out={tmp}/o.pts"],
        "a.csv",
    ),
    "volume-points": (["--points={tmp}/3d.pts", "--out={tmp}/o.pts"], "3d.pts"),
    "words": (["--points={tmp}/words.pts", "--out={tmp}/o.pts"], "words.pts"),
    "flat": (
        [
            *("--points={tmp}/a.pts", "--transform={tmp}/flat.tfm"),
            *("--out={tmp}/o.pts", "--inverse"),
        ],
        "transform",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_warp_refuses_bad_input_in_one_line(command, pair, tmp_path, case):
    folder, arguments = pair(2), BAD[case][0]
    write_points(tmp_path / "a.pts", [[1.0, 2.0]])
    write_points(tmp_path / "3d.pts", [[1.0, 2.0, 3.0]])
    (tmp_path / "words.pts").write_text("point\n1\none two\n")
    (tmp_path / "a.csv").write_text("1,900\n")
    write_transform(tmp_path / "affine.tfm", affine_transform(np.eye(3)))
    write_transform(tmp_path / "flat.tfm", affine_transform(np.diag([1.0, 0, 1])))
    volume = sitk.GetImageFromArray(np.ones((3, 4, 5), np.uint8))
    sitk.WriteImage(volume, str(tmp_path / "volume.mha"))
    image = sitk.GetImageFromArray(smooth_image((9, 9)))
    sitk.WriteImage(image, str(tmp_path / "float.mha"))
    places = {
        "tmp": tmp_path,
        "volume": tmp_path / "volume.mha",
        "transform": folder / "transform.h5",
        "moving": folder / "moving.mha",
        "labels": folder / "labels.mha",
    }
    flags = {"transform": folder / "transform.h5", "out": tmp_path / "o.mha"}
    if any(argument.startswith("--transform") for argument in arguments):
        del flags["transform"]
    defaults = [f"--{name}={value}" for name, value in flags.items()]
    before = {path.name for path in tmp_path.iterdir()}
    given = [argument.format(**places) for argument in arguments]
    result = command("warp", *defaults, *given)
    assert result.status == 2, result
    assert len(result.errors) == 1, result.err
    assert result.errors[0].startswith("error: ")
    assert BAD[case][1] in result.errors[0]
    assert {path.name for path in tmp_path.iterdir()} == before


ELASTIX = """(Transform "TranslationTransform")
(NumberOfParameters {d})
(TransformParameters {shift})
(InitialTransformParametersFileName "NoInitialTransform")
(FixedImageDimension {d})
"""


def written(folder, d):
    """The same two maps as files of each kind; SimpleITK's transforms of both."""
    both = some_transform(FRAMES[d][0])
    linear, field = both.GetNthTransform(0), both.GetBackTransform()
    image = field.GetDisplacementField()
    vectors = sitk.Cast(image, sitk.sitkVectorFloat32)
    for suffix in (".nii.gz", ".mha", ".nrrd"):
        sitk.WriteImage(vectors, str(folder / f"1Warp{suffix}"))
    sitk.WriteTransform(sitk.DisplacementFieldTransform(image), str(folder / "1.h5"))
    sitk.WriteTransform(linear, str(folder / "0GenericAffine.mat"))
    sitk.WriteTransform(linear.GetInverse(), str(folder / "back.tfm"))
    sitk.WriteTransform(both, str(folder / "Composite.h5"))
    shift = (5.0, -3.0, 4.0)[:d]
    text = ELASTIX.format(d=d, shift=" ".join(map(str, shift)))
    (folder / "TransformParameters.0.txt").write_text(text)
    return both, sitk.TranslationTransform(d, shift)


CHAINS = {
    "composite": ["@Composite.h5"],
    "ants": ["@1Warp.nii.gz", "@0GenericAffine.mat"],
    "ants-inverse": ["@1Warp.nii.gz", "[@back.tfm,1]"],
    "mha": ["@1Warp.mha", "inverse:@back.tfm"],
    "nrrd": ["@1Warp.nrrd,inverse:@back.tfm"],
    "h5": ["@1.h5,@0GenericAffine.mat"],
}


@dimensions
@pytest.mark.parametrize("case", CHAINS)
def test_warp_takes_the_transforms_of_other_tools(pair, command, tmp_path, d, case):
    """Images and points through each, and then through one of elastix."""
    folder, (fixed, _) = pair(d), FRAMES[d]
    both, shift = written(tmp_path, d)
    words = [*CHAINS[case], "@TransformParameters.0.txt"]
    places = [word.replace("@", f"{tmp_path}/") for word in words]
    expected = sitk.CompositeTransform([shift, both])
    points = to_world(
        fixed, np.random.default_rng(0).uniform(0, np.array(fixed.shape) - 1, (9, d))
    )
    write_points(tmp_path / "a.pts", points)
    flags = ["--transform", *places, f"--points={tmp_path / 'a.pts'}"]
    result = command("warp", *flags, f"--out={tmp_path / 'b.pts'}")
    assert result.status == 0, result.err
    moved = map_points(expected, points)
    np.testing.assert_allclose(read_points(tmp_path / "b.pts"), moved, atol=1e-4)
    if case not in ("ants", "nrrd"):
        return
    out, image = tmp_path / "b.mha", folder / "moving.mha"
    repeated = [f"--transform={place}" for place in places]
    like = f"--like={folder / 'fixed.mha'}"
    result = command("warp", *repeated, f"--image={image}", like, f"--out={out}")
    assert result.status == 0, result.err
    moving = sitk.ReadImage(str(image))
    warped = sitk.Resample(
        sitk.Cast(moving, sitk.sitkFloat64), sitk.ReadImage(str(folder / "fixed.mha")),
        expected, sitk.sitkLinear, float(sitk.GetArrayViewFromImage(moving).min()),
    )  # fmt: skip
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(out)))
    difference = np.abs(found - sitk.GetArrayFromImage(warped))
    assert np.quantile(difference, 0.999) <= 0.52
    assert found.std() > 50


@dimensions
def test_warp_brings_points_back_by_an_inverse_in_the_chain(pair, warp, tmp_path, d):
    folder, (fixed, _) = pair(d), FRAMES[d]
    inner = np.random.default_rng(0).uniform(5, np.array(fixed.shape) - 6, (20, d))
    points = to_world(fixed, inner)
    write_points(tmp_path / "a.pts", points)
    there, _ = warp(folder, "b.pts", f"--points={tmp_path / 'a.pts'}")
    flags = [f"--transform=inverse:{folder / 'transform.h5'}", f"--points={there}"]
    back, _ = warp(folder, "c.pts", *flags, transform="transform.h5")
    # The chain is transform.h5 and its inverse, so it changes nothing but rounding.
    moved = read_points(there)
    off = np.linalg.norm(read_points(back) - moved, axis=1)
    near = inside(fixed, map_points(some_transform(fixed), moved), margin=2)
    assert near.sum() > 5
    assert off[near].max() < 0.05 * min(fixed.spacing)


def test_warp_refuses_missing_flags(command):
    result = command("warp", "--image=a.mha")
    assert result.status == 2
    assert len(result.errors) == 1
    assert "--transform" in result.errors[0] or "--out" in result.errors[0]
