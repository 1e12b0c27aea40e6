"""Transforms against ``sitk.ReadTransform`` and ``TransformPoint``."""

import dataclasses
import gzip

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from regnet_jax.errors import InputError
from regnet_jax.io import (
    affine_matrix,
    grid_of,
    read_displacement,
    read_transform,
    write_displacement,
    write_transform,
)
from regnet_jax.spatial import (
    Frame,
    affine_transform,
    composite,
    sample_transform,
    to_sitk,
    to_world,
    total_displacement,
)
from tests.helpers.frames import FRAMES, rotation

every_frame = pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)


def thin(name):
    """A frame of a single slice or row."""
    return dataclasses.replace(FRAMES[name], shape=(1, *FRAMES[name].shape[1:]))


def some_affine(d, seed=0):
    rng = np.random.default_rng(seed)
    matrix = np.eye(d + 1)
    matrix[:d] += rng.normal(size=(d, d + 1)) * 0.2
    matrix[:d, d] *= 50
    return matrix


def some_residual(frame):
    return np.random.default_rng(1).normal(size=(*frame.shape, frame.ndim)) * 3


def points_within(frame, count=100):
    rng = np.random.default_rng(2)
    return to_world(
        frame, rng.uniform(0, np.array(frame.shape) - 1, (count, frame.ndim))
    )


def mapped(transform, points):
    return np.array([transform.TransformPoint(p) for p in points.tolist()])


@pytest.mark.parametrize(
    "frame",
    [*FRAMES.values(), *(thin(name) for name in ("3d oblique", "2d flipped"))],
    ids=[*FRAMES, "one slice", "one row"],
)
def test_compressed_displacement_is_the_file_that_itk_writes(tmp_path, frame):
    vectors = some_residual(frame).astype(np.float32)
    write_displacement(tmp_path / "own.nii.gz", vectors, frame)
    sitk.WriteImage(to_sitk(vectors, frame), str(tmp_path / "itk.nii.gz"), True)
    own, itk = (
        gzip.decompress((tmp_path / name).read_bytes())
        for name in ("own.nii.gz", "itk.nii.gz")
    )
    assert own == itk


def test_displacement_of_another_grid_is_refused(tmp_path):
    frame = FRAMES["3d plain"]
    with pytest.raises(InputError, match=r"\(4, 6, 7, 3\) on a grid of \(5, 6, 7\)"):
        write_displacement(tmp_path / "u.nii.gz", some_residual(frame)[:4], frame)
    assert not list(tmp_path.iterdir())


def test_rounding_stays_within_the_tolerance_and_shrinks_files(tmp_path):
    frame = Frame((20, 30, 40), (0.7, 0.8, 2.0), (5, -3, 8), rotation(3, 0.4))
    noise = np.random.default_rng(0).normal(size=(*frame.shape, 3))
    vectors = 300 * ndimage.gaussian_filter(noise, (4, 4, 4, 0))
    fixed = dataclasses.replace(frame, shape=(3, 4, 5), spacing=(0.3, 0.3, 0.3))
    sizes = {}
    for tolerance in (0.0, 1e-3):
        image, file = tmp_path / f"{tolerance}.nii.gz", tmp_path / f"{tolerance}.h5"
        write_displacement(image, vectors, frame, tolerance=tolerance)
        transform = composite(frame, vectors, np.eye(4))
        write_transform(file, transform, grid=fixed, tolerance=tolerance)
        read, grid = read_displacement(image)
        assert grid.shape == frame.shape
        # Single precision takes a little more.
        np.testing.assert_allclose(read, vectors, atol=tolerance + 2e-6, rtol=0)
        again = sitk.ReadTransform(str(file))
        found = sample_transform(again, frame)
        np.testing.assert_allclose(found, vectors, atol=tolerance + 1e-9, rtol=0)
        # The file knows for which grid it is; ITK's own does not.
        assert grid_of(file, again) == fixed
        assert grid_of(f"inverse:{file}", again) == frame
        sizes[tolerance] = [path.stat().st_size for path in (image, file)]
    itk = tmp_path / "itk.h5"
    sitk.WriteTransform(transform, str(itk))
    assert grid_of(itk, transform) == frame
    assert sizes[1e-3][0] < 0.7 * sizes[0.0][0]
    assert sizes[1e-3][1] < 0.4 * sizes[0.0][1] < 0.4 * itk.stat().st_size


@every_frame
def test_written_transform_and_displacement_agree(tmp_path, frame):
    affine, residual = some_affine(frame.ndim), some_residual(frame)
    write_transform(tmp_path / "t.h5", composite(frame, residual, affine))
    total = total_displacement(frame, residual, affine)
    write_displacement(tmp_path / "u.mha", total, frame)
    transform = sitk.ReadTransform(str(tmp_path / "t.h5"))
    field = sitk.ReadImage(str(tmp_path / "u.mha"), sitk.sitkVectorFloat64)
    image_transform = sitk.DisplacementFieldTransform(field)
    points = points_within(frame)
    np.testing.assert_allclose(
        mapped(transform, points), mapped(image_transform, points), atol=1e-3
    )


@every_frame
@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
def test_read_displacement_gives_what_was_written(tmp_path, frame, suffix):
    # ITK drops the third axis of a slice's vectors in NIfTI, and refuses to read what
    # remains where the first two axes then span no plane of x and y.
    plane = abs(np.linalg.det(np.reshape(frame.direction, (frame.ndim, -1))[:2, :2]))
    slices = [(1, *frame.shape[1:])] if frame.ndim == 3 and plane > 0.1 else []
    for shape in (frame.shape, *slices):
        written = dataclasses.replace(frame, shape=shape)
        vectors = some_residual(written).astype(np.float32)
        write_displacement(tmp_path / f"u{suffix}", vectors, written)
        found, read = read_displacement(tmp_path / f"u{suffix}")
        np.testing.assert_array_equal(found, vectors)
        assert read.shape == shape
        np.testing.assert_allclose(read.matrix, written.matrix, atol=1e-5)
        np.testing.assert_allclose(read.origin, written.origin, rtol=1e-5)


@every_frame
def test_residual_comes_before_the_affine(frame):
    affine, residual = some_affine(frame.ndim), some_residual(frame)
    transform = composite(frame, residual, affine)
    index = tuple(n // 2 for n in frame.shape)
    x = to_world(frame, index)
    expected = affine @ np.append(x + residual[index], 1)
    np.testing.assert_allclose(mapped(transform, x[None])[0], expected[:-1], atol=1e-9)
    total = total_displacement(frame, residual, affine)
    np.testing.assert_allclose(total[index], expected[:-1] - x, atol=1e-9)


def test_outside_of_the_field_the_affine_remains():
    frame = FRAMES["3d oblique"]
    affine = some_affine(3)
    transform = composite(frame, some_residual(frame), affine)
    np.testing.assert_allclose(
        transform.TransformPoint((1e3, 0, 0)), (affine @ [1e3, 0, 0, 1])[:3]
    )


def linear_transforms(d):
    centre = (5.0, -7.0, 11.0)[:d]
    affine = sitk.AffineTransform(d)
    affine.SetMatrix(some_affine(d)[:d, :d].ravel().tolist())
    affine.SetCenter(centre)
    affine.SetTranslation((3.0, 2.0, 1.0)[:d])
    rigid = (sitk.Euler2DTransform, sitk.Euler3DTransform)[d - 2]()
    rigid.SetMatrix(rotation(d, 0.5).ravel().tolist(), 1e-9)
    rigid.SetCenter(centre)
    similar = (sitk.Similarity2DTransform, sitk.Similarity3DTransform)[d - 2]()
    similar.SetScale(1.3)
    similar.SetCenter(centre)
    shift = sitk.TranslationTransform(d, centre)
    both = sitk.CompositeTransform([affine, sitk.CompositeTransform([rigid, shift])])
    return [affine, rigid, similar, shift, both, sitk.Transform(d, sitk.sitkIdentity)]


@pytest.mark.parametrize("d", [2, 3])
def test_affine_matrix_of_any_linear_transform(d):
    points = np.random.default_rng(0).normal(size=(10, d)) * 100
    for transform in linear_transforms(d):
        matrix = affine_matrix(transform, d)
        expected = mapped(transform, points)
        result = points @ matrix[:d, :d].T + matrix[:d, d]
        np.testing.assert_allclose(result, expected, atol=1e-9)
        again = affine_transform(matrix)
        np.testing.assert_allclose(mapped(again, points), expected, atol=1e-9)


def test_affine_matrix_refuses_nonlinear_transforms():
    with pytest.raises(InputError, match="not linear"):
        affine_matrix(sitk.DisplacementFieldTransform(3), 3)
    with pytest.raises(InputError, match="2D and the images are 3D"):
        affine_matrix(sitk.AffineTransform(2), 3)


@pytest.mark.parametrize("d", [2, 3])
def test_affine_matrix_takes_files_and_matrices(tmp_path, d):
    matrix = some_affine(d)
    write_transform(tmp_path / "t.h5", affine_transform(matrix))
    for given in (matrix, matrix.tolist(), matrix.astype(">f4"), tmp_path / "t.h5"):
        np.testing.assert_allclose(affine_matrix(given, d), matrix, atol=1e-6)
    with pytest.raises(InputError, match=rf"t.h5: the transform is {d}D"):
        affine_matrix(str(tmp_path / "t.h5"), 5 - d)


@pytest.mark.parametrize("d", [2, 3])
def test_affine_matrix_refuses_bad_matrices(d):
    matrix = some_affine(d)
    flat, moved = matrix.copy(), matrix.copy()
    flat[:d, 0] = flat[:d, 1]
    moved[d, 0] = 2.0
    for given, message in (
        (matrix[:d], "has shape"),
        (matrix[:d, :d], "has shape"),
        (np.float64(1), "has shape"),
        (moved, "ends with the row"),
        (matrix * 1j, "complex"),
        (np.full_like(matrix, np.inf), "NaN"),
        (matrix > 0, "truth values"),
        (flat, "singular"),
        ("elastic", "elastic: does not exist"),
        (None, "give a linear SimpleITK transform, the path of one, or a homogeneous"),
    ):
        with pytest.raises(InputError, match=message):
            affine_matrix(given, d)


def test_folder_of_a_registration_is_no_transform(tmp_path):
    with pytest.raises(InputError, match="is a folder; name the file of a transform"):
        read_transform(tmp_path)


@pytest.mark.parametrize("suffix", [".h5", ".tfm", ".txt"])
def test_write_transform_is_read_back(tmp_path, suffix):
    nested = sitk.CompositeTransform(linear_transforms(3)[-2])
    nested.FlattenTransform()
    for k, transform in enumerate([*linear_transforms(3)[:-2], nested]):
        path = tmp_path / f"{k}{suffix}"
        write_transform(path, transform)
        found = affine_matrix(read_transform(path), 3)
        np.testing.assert_allclose(found, affine_matrix(transform, 3), atol=1e-9)


@every_frame
@pytest.mark.parametrize("tolerance", [0.0, 1e-4])
def test_all_parts_of_a_transform_are_written(tmp_path, frame, tolerance):
    """Single, composite and nested, with several fields and a B-spline."""
    d = frame.ndim
    coarse = dataclasses.replace(frame, shape=tuple(n // 2 + 1 for n in frame.shape))
    fields = [
        sitk.DisplacementFieldTransform(
            to_sitk(some_residual(grid).astype(np.float64), grid)
        )
        for grid in (frame, coarse)
    ]
    image = to_sitk(np.zeros(frame.shape), frame)
    spline = sitk.BSplineTransformInitializer(image, (4,) * d)
    count = spline.GetNumberOfParameters()
    spline.SetParameters(np.random.default_rng(3).normal(size=count).tolist())
    # So little that the points stay within all fields.
    linear = sitk.TranslationTransform(d, (0.01,) * d)
    inner = sitk.CompositeTransform([fields[1], linear])
    parts = [linear, fields[1], linear, spline, fields[0]]
    nested = sitk.CompositeTransform([linear, inner, spline, fields[0]])
    points = points_within(frame)
    expected = mapped(nested, points)
    for number in range(len(parts)):
        others = sitk.CompositeTransform(parts[:number] + parts[number + 1 :])
        assert np.abs(mapped(others, points) - expected).max() > 5e-3
    nothing = sitk.CompositeTransform(d)
    for number, transform in enumerate((fields[0], inner, nested, nothing)):
        path = tmp_path / f"{number}.h5"
        write_transform(path, transform, grid=frame, tolerance=tolerance)
        found = mapped(sitk.ReadTransform(str(path)), points)
        expected = mapped(transform, points)
        np.testing.assert_allclose(found, expected, atol=9 * tolerance + 1e-12, rtol=0)


def test_a_small_tolerance_holds_for_large_displacements(tmp_path):
    """Beyond the precision of four bytes."""
    vectors = np.full((4, 5, 6, 3), 100.12)
    field = sitk.DisplacementFieldTransform(sitk.GetImageFromArray(vectors, True))
    write_transform(tmp_path / "t.h5", field, tolerance=1e-7)
    found = sitk.ReadTransform(str(tmp_path / "t.h5")).TransformPoint((1.0, 2.0, 3.0))
    np.testing.assert_allclose(found, [101.12, 102.12, 103.12], atol=1e-7, rtol=0)


def test_read_transform_refuses_bad_files(tmp_path, capfd):
    good = tmp_path / "good.h5"
    write_transform(good, affine_transform(some_affine(3)))
    text = tmp_path / "good.tfm"
    write_transform(text, affine_transform(some_affine(3)))
    contents = {
        "cut.h5": good.read_bytes()[:3000],
        "longer.h5": good.read_bytes() + b"x",
        "damaged.h5": good.read_bytes()[:3000] + 99 * b"9" + good.read_bytes()[3000:],
        "no-text.tfm": text.read_bytes() + b"Transform: \xc6\xdd",
        "cut.tfm": text.read_bytes()[:100],
        "note.txt": b"hello",
        "empty.h5": b"",
        "other.mat": b"\0\1\2",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    contents["flirt.mat"] = b"1 0 0 5\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"
    contents["talairach.xfm"] = (
        b"MNI Transform File\n\nTransform_Type = Linear;\nLinear_Transform =\n"
        b" 1 0 0 5\n 0 1 0 7\n 0 0 1 9;\n"
    )
    contents["skew.tfm"] = (
        b"#Insight Transform File V1.0\n#Transform 0\n"
        b"Transform: ComposeScaleSkewVersor3DTransform_double_3_3\n"
        b"Parameters: 0 0 0.1 1 2 3 1 1.1 1 0 0 0\nFixedParameters: 1 2 3\n"
    )
    for name in ("flirt.mat", "talairach.xfm", "skew.tfm"):
        (tmp_path / name).write_bytes(contents[name])
    for name in (*contents, "none.h5", "."):
        with pytest.raises(InputError) as caught:
            read_transform(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(InputError, match=r"use \.h5"):
        write_transform(tmp_path / "t.xyz", sitk.AffineTransform(3))


@pytest.mark.parametrize(
    ("name", "content", "fact"),
    [
        ("flirt.mat", "1 0 0 5\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "is a bare matrix"),
        ("mr.txt", "#centre 1 2 3\n1 0 0 5\n0 1 0 0\n0 0 1 0\n0 0 0 1", "is a bare"),
        (
            "a.aff12.1D",
            "# DICOM-to-DICOM\n1 0 0 5 0 1 0 0 0 0 1 0\n",
            "is a bare matrix",
        ),
        ("m.csv", "1,0,0,5\n0,1,0,0\n0,0,1,0\n0,0,0,1\n", "is a bare matrix"),
        ("a.lta", "type      = 0\nnxforms   = 1\n", "of MINC or FreeSurfer"),
    ],
)
def test_linear_transforms_of_other_tools_are_named(tmp_path, name, content, fact):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=f"{name}: .*{fact}.*; convert it"):
        read_transform(tmp_path / name)


@pytest.mark.parametrize("parameters", ["1 2 3 4", "1 2"], ids=["too many", "too few"])
def test_parameters_that_do_not_fit_the_kind_are_refused(tmp_path, parameters):
    path = tmp_path / "shift.tfm"
    write_transform(path, sitk.TranslationTransform(3, (1.0, 2.0, 3.0)))
    content = path.read_text()
    assert "Parameters: 1 2 3\n" in content
    path.write_text(content.replace("Parameters: 1 2 3", f"Parameters: {parameters}"))
    with pytest.raises(InputError, match=r"shift\.tfm: ") as caught:
        read_transform(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dimension", [2, 3])
def test_texts_of_composites_are_read(tmp_path, dimension):
    """Their parameters are those of all parts, also of a displacement field."""
    vectors = sitk.Image([4, 5, 6][:dimension], sitk.sitkVectorFloat64, dimension)
    whole = sitk.CompositeTransform(
        [
            sitk.TranslationTransform(dimension, dimension * (1.5,)),
            sitk.AffineTransform(dimension),
            sitk.DisplacementFieldTransform(vectors + 0.25),
        ]
    )
    path = tmp_path / "whole.tfm"
    sitk.WriteTransform(whole, str(path))
    point = dimension * (2.0,)
    shown = read_transform(path).TransformPoint(point)
    assert shown == pytest.approx(whole.TransformPoint(point))


def test_a_lock_that_another_process_holds_stops_no_writing(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    path = tmp_path / "transform.h5"
    shift = sitk.TranslationTransform(3, (1.0, 2.0, 3.0))
    write, held = sitk.WriteTransform, []

    def write_and_lock(transform, name):
        write(transform, name)
        held.append(open(name, "rb"))  # noqa: SIM115
        fcntl.flock(held[0], fcntl.LOCK_SH | fcntl.LOCK_NB)

    monkeypatch.setattr(sitk, "WriteTransform", write_and_lock)
    write_transform(path, shift)
    held[0].close()
    got = read_transform(path)
    np.testing.assert_array_equal(got.TransformPoint((0.0, 0.0, 0.0)), (1, 2, 3))


def test_several_transforms_in_a_file_are_refused(tmp_path):
    """ITK would read the first of them alone."""
    path = tmp_path / "a.tfm"
    write_transform(path, sitk.TranslationTransform(3, (1.0, 2.0, 3.0)))
    one = path.read_text("utf-8")
    more = one.split("\n", 1)[1].replace("#Transform 0", "#Transform 1")
    path.write_text(one + more, "utf-8")
    with pytest.raises(InputError, match="holds several transforms"):
        read_transform(path)


@pytest.mark.parametrize(
    "given", [None, 5, [], (), b"t.h5", sitk.TranslationTransform(3), [None]]
)
def test_what_names_no_file_is_refused(given):
    with pytest.raises(InputError, match=r"^transform: .* names no file; give a path"):
        read_transform(given)


def positions(frame):
    """``[*frame.shape, d]``, mm, x first."""
    return to_world(frame, np.moveaxis(np.indices(frame.shape), 0, -1))


def enlarged(frame, factor):
    """The displacement of an enlargement about the centre."""
    places = positions(frame)
    return (factor - 1) * (places - places.mean(tuple(range(frame.ndim))))


def smooth_residual(frame):
    noise = np.random.default_rng(3).normal(size=(*frame.shape, frame.ndim))
    field = ndimage.gaussian_filter(noise, (*(2,) * frame.ndim, 0))
    return 0.5 * min(frame.spacing) * field / np.abs(field).max()


@every_frame
@pytest.mark.parametrize("unit", ["mm", "mm in RAS", "voxels"])
def test_positions_in_place_of_displacements_are_refused(tmp_path, frame, unit):
    """Those of a patient who is turned, smaller and deformed."""
    d = frame.ndim
    turned = positions(frame) @ (0.85 * rotation(d, 0.3)).T + smooth_residual(frame)
    vectors = {
        "mm": turned,
        "mm in RAS": turned * [-1, -1, 1][:d],
        "voxels": np.moveaxis(np.indices(frame.shape), 0, -1)[..., ::-1]
        + smooth_residual(frame) / min(frame.spacing),
    }[unit]
    # Voxels of 1 mm from the origin are both.
    unit = (
        "(mm|voxels)" if frame is FRAMES["3d plain"] and unit != "mm in RAS" else unit
    )
    for name in ("y.nii.gz", "y.mha", "y.nrrd", "y.h5"):
        if name.endswith(".h5"):
            field = sitk.DisplacementFieldTransform(to_sitk(vectors, frame))
            write_transform(tmp_path / name, field)
        else:
            write_displacement(tmp_path / name, vectors, frame)
        with pytest.raises(InputError, match=f"as positions in {unit} do, so"):
            read_transform(tmp_path / name)


@every_frame
@pytest.mark.parametrize("factor", [0.4, 0.6, 1, 1.6])
def test_displacements_that_enlarge_are_none_of_positions(tmp_path, frame, factor):
    vectors = enlarged(frame, factor) + smooth_residual(frame)
    for shift in (0, 100, -7):
        write_displacement(tmp_path / "u.mha", vectors + shift, frame)
        read_displacement(tmp_path / "u.mha")
    corner = (factor - 1) * (positions(frame) - frame.origin)
    write_displacement(tmp_path / "u.mha", corner, frame)
    read_displacement(tmp_path / "u.mha")


def test_an_enlargement_to_twice_the_size_is_known_by_its_centre(tmp_path):
    frame = FRAMES["3d oblique"]
    write_displacement(tmp_path / "u.mha", enlarged(frame, 2), frame)
    read_displacement(tmp_path / "u.mha")


@pytest.mark.parametrize(("unit", "name"), [(1, "m"), (3, "um")])
def test_displacements_of_another_unit_are_refused(tmp_path, unit, name):
    """ITK converts the grid, not the vectors."""
    path = tmp_path / "a.nii"
    frame = Frame((3, 4, 5), (1e-3, 1e-3, 1e-3), (0, 0, 0), np.eye(3))
    write_displacement(path, np.ones((3, 4, 5, 3)), frame)
    read_displacement(path)
    content = bytearray(path.read_bytes())
    # With a time in seconds.
    content[123] = unit + 8
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"its space unit is {name}; convert it"):
        read_displacement(path)


@pytest.mark.parametrize("kind", ["field", "spline", "affine", "composite"])
def test_transforms_with_nan_are_refused(tmp_path, kind):
    affine = sitk.AffineTransform(3)
    if kind in ("affine", "composite"):
        affine.SetTranslation((1.0, np.nan, 0.0))
    if kind == "field":
        vectors = np.zeros((5, 6, 7, 3))
        vectors[2, 3, 4] = np.nan
        image = sitk.GetImageFromArray(vectors, isVector=True)
        transform = sitk.DisplacementFieldTransform(image)
    elif kind == "spline":
        transform = sitk.BSplineTransform(3, 3)
        transform.SetFixedParameters([5, 5, 5, 0, 0, 0, 9, 9, 9, *np.eye(3).ravel()])
        transform.SetParameters([np.nan] + [0.0] * 374)
    else:
        parts = [sitk.TranslationTransform(3), affine]
        transform = affine if kind == "affine" else sitk.CompositeTransform(parts)
    path = tmp_path / "t.h5"
    sitk.WriteTransform(transform, str(path))
    with pytest.raises(InputError, match="holds NaN or infinite values") as caught:
        read_transform(path)
    assert str(path) in str(caught.value)


def test_a_composite_of_nothing_is_refused(tmp_path):
    path = tmp_path / "t.tfm"
    path.write_text(
        "#Insight Transform File V1.0\n#Transform 0\n"
        "Transform: CompositeTransform_double_3_3\n"
    )
    with pytest.raises(InputError, match="is not a whole transform"):
        read_transform(path)
