"""Transforms beyond their grids, against analytic maps; inside them, against ITK."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from regnet_jax.spatial import (
    Frame,
    Image,
    affine_transform,
    composite,
    continued_map,
    is_outside,
    leaves_grid,
    map_points,
    to_index,
    to_world,
    warp_image,
    warp_images_back,
)
from tests.helpers.frames import FRAMES, rotation

every_frame = pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)


def small_affine(d):
    matrix = np.eye(d + 1)
    matrix[:d] += np.random.default_rng(2).normal(size=(d, d + 1)) * 0.05
    return matrix


def bent(frame, seed=0):
    """A field on a grid, and a B-spline on another."""
    vectors = np.random.default_rng(seed).normal(size=(*frame.shape, frame.ndim))
    image = sitk.Image(frame.shape[::-1], sitk.sitkUInt8)
    image.SetSpacing(frame.spacing)
    image.SetOrigin(frame.origin)
    image.SetDirection(frame.direction)
    spline = sitk.BSplineTransformInitializer(image, (3,) * frame.ndim, 3)
    count = len(spline.GetParameters())
    spline.SetParameters(np.random.default_rng(seed).normal(size=count).tolist())
    return composite(frame, vectors, small_affine(frame.ndim)), spline


def larger(frame, by=3):
    """The grid with some voxels more on each side."""
    corner = to_world(frame, np.full(frame.ndim, -by))
    shape = np.add(frame.shape, 2 * by)
    return Frame(shape, frame.spacing, corner, frame.direction)


@every_frame
def test_maps_inside_their_grids_are_those_of_itk(frame):
    rng = np.random.default_rng(1)
    index = rng.uniform(0, np.array(frame.shape) - 1, (30, frame.ndim))
    points = to_world(frame, index)
    field, spline = bent(frame)
    affine = affine_transform(small_affine(frame.ndim))
    nested = sitk.CompositeTransform([affine, sitk.CompositeTransform([field])])
    for transform in (field, spline, affine, nested):
        found, outside = continued_map(transform)(points)
        np.testing.assert_allclose(found, map_points(transform, points), atol=1e-6)
        assert not outside.any()


@every_frame
def test_maps_beyond_a_field_have_the_displacement_of_its_edge(frame):
    d = frame.ndim
    vectors = np.random.default_rng(3).normal(size=(*frame.shape, d))
    transform = composite(frame, vectors, np.eye(d + 1))
    index = np.random.default_rng(4).uniform(-9, 16, (40, d))
    edge = np.clip(index, 0, np.array(frame.shape) - 1)
    points, nearest = to_world(frame, index), to_world(frame, edge)
    expected = points + map_points(transform, nearest) - nearest
    found, outside = continued_map(transform)(points)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    # A field of ITK reaches half a voxel beyond its centres.
    np.testing.assert_array_equal(outside, (np.abs(index - edge) > 0.5).any(-1))


@every_frame
def test_a_grid_leaves_that_of_a_transform_if_a_corner_does(frame):
    d = frame.ndim
    affine = affine_transform(small_affine(d))
    for transform in bent(frame):
        assert not leaves_grid(transform, frame)
        assert leaves_grid(transform, larger(frame))
    assert not leaves_grid(affine, larger(frame))
    assert not leaves_grid(sitk.Transform(d, sitk.sitkIdentity), frame)
    # The affine map comes first and leads away from the field, or back to it.
    away = affine_transform(np.eye(d + 1) + np.pad([[500.0]], ((0, d), (d, 0))))
    field, _ = bent(frame)
    assert leaves_grid(sitk.CompositeTransform([field, away]), frame)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("kind", ["field", "spline", "later"])
def test_nothing_is_shown_twice_beyond_the_grid(d, kind, caplog, monkeypatch):
    """A ramp stays one-to-one along a line that leaves the grid."""
    # Several pieces, so that their seams are tested, too.
    monkeypatch.setattr("regnet_jax.spatial.warping._CHUNK", 200)
    turn = rotation(d, 0.3)
    frame = Frame((9, 8, 7)[:d], (2.0, 3.0, 2.5)[:d], (5, -4, 9)[:d], turn)
    wide = larger(frame, 5)
    shift = np.arange(4, 4 + d, dtype=float)
    field = composite(frame, np.broadcast_to(shift, (*frame.shape, d)), np.eye(d + 1))
    transform: sitk.Transform = field
    if kind == "spline":
        transform = bent(frame)[1]
        size = len(transform.GetParameters()) // d
        transform.SetParameters(np.repeat(shift, size).tolist())
    if kind == "later":
        first = sitk.TranslationTransform(d, (-shift).tolist())
        transform = sitk.CompositeTransform([field, first])
        shift = 0 * shift
    # The content covers what the shifted grid asks for.
    around = larger(wide, 9)
    grid = to_world(around, np.moveaxis(np.indices(around.shape), 0, -1))
    slope = np.arange(1, d + 1)
    ramp = Image(grid @ slope, around, "ramp")
    with caplog.at_level(logging.WARNING):
        found = warp_image(ramp, wide, transform).array
    points = to_world(wide, np.moveaxis(np.indices(wide.shape), 0, -1))
    np.testing.assert_allclose(found, (points + shift) @ slope, atol=1e-3)
    if kind != "later":
        index = to_index(frame, points)
        margin = 0.5 if kind == "field" else 0.5 + 1e-6
        high = np.array(frame.shape) - 1 + margin
        share = 100 * ((index < -margin) | (index > high)).any(-1).mean()
        assert f"{share:.3g} % of the result lies beyond the grid" in caplog.text


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("kind", ["field", "spline", "linear"])
def test_fixed_points_beyond_the_grid_are_told_backwards(d, kind, caplog, monkeypatch):
    """A ramp of the fixed image that reaches beyond the grid, on a moving grid."""
    monkeypatch.setattr("regnet_jax.spatial.warping._CHUNK", 200)
    frame = Frame((9, 8, 7)[:d], (2.0, 3.0, 2.5)[:d], (5, -4, 9)[:d], rotation(d, 0.3))
    shift = np.arange(4, 4 + d, dtype=float)
    transform: sitk.Transform = sitk.TranslationTransform(d, shift.tolist())
    if kind == "field":
        vectors = np.broadcast_to(shift, (*frame.shape, d))
        transform = composite(frame, vectors, np.eye(d + 1))
    if kind == "spline":
        transform = bent(frame)[1]
        size = len(transform.GetParameters()) // d
        transform.SetParameters(np.repeat(shift, size).tolist())
    # The fixed image is not on voxels of the field.
    fixed, moving = larger(frame, 3), larger(frame, 6)
    corner = to_world(frame, np.full(d, -2.7))
    fixed = Frame(fixed.shape, 0.9 * np.array(frame.spacing), corner, frame.direction)
    grid = to_world(fixed, np.moveaxis(np.indices(fixed.shape), 0, -1))
    slope = np.arange(1, d + 1)
    ramp = Image(grid @ slope, fixed, "ramp")
    with caplog.at_level(logging.WARNING):
        (found,), lost = warp_images_back([ramp], moving, transform, fills=[-1e4])
    points = to_world(moving, np.moveaxis(np.indices(moving.shape), 0, -1)) - shift
    index = to_index(fixed, points)
    # ITK repeats the outer half of a voxel.
    centres = ((index >= 0) & (index <= np.array(fixed.shape) - 1)).all(-1)
    shown = centres & (found.array > -1e4)
    np.testing.assert_allclose(found.array[shown], (points @ slope)[shown], atol=0.01)
    assert lost == 0
    assert shown.any()
    if kind == "linear":
        assert not caplog.text
        return
    outside = is_outside(frame, to_index(frame, points))
    within = ~is_outside(fixed, index)
    share = 100 * (outside & within).mean()
    assert share > 5
    said = float(caplog.text.split("ramp: ")[1].split(" %")[0])
    assert said == pytest.approx(share, rel=0.05)
    assert "% of the result lies beyond the grid of the transform" in caplog.text
    caplog.clear()
    crop = [Image(np.zeros(frame.shape), frame, "inside")]
    warp_images_back(crop, moving, transform, fills=[None])
    assert "beyond" not in caplog.text


@pytest.mark.parametrize("d", [2, 3])
def test_there_and_back_beyond_the_grid(d):
    """A field that stretches, continued by its edge in both directions."""
    frame = Frame((9, 8, 7)[:d], (2.0, 3.0, 2.5)[:d], (5, -4, 9)[:d], rotation(d, 0.3))
    wide = larger(frame, 4)
    grid = to_world(frame, np.moveaxis(np.indices(frame.shape), 0, -1))
    vectors = 0.25 * (grid - grid.reshape(-1, d).mean(0)) + 3.0
    transform = composite(frame, vectors, np.eye(d + 1))
    slope = np.arange(1, d + 1)
    points = to_world(wide, np.moveaxis(np.indices(wide.shape), 0, -1))
    ramp = Image((points @ slope).astype(np.float64), wide, "ramp")
    (back,), lost = warp_images_back([ramp], wide, transform, fills=[-1e4])
    assert lost == 0
    again = warp_image(replace(back, name="back"), wide, transform, fill=-1e4).array
    # Neighbours of what the moving grid does not show are mixed with it.
    seen = (again > -1e3) & (np.abs(again) < np.abs(ramp.array).max() + 1)
    outside = is_outside(frame, to_index(frame, points))
    inner = ndimage.binary_erosion(seen, iterations=2, border_value=0)
    assert (inner & outside).any()
    error = np.abs(again - ramp.array)[inner]
    assert error.max() < 0.35 * np.linalg.norm(slope)


def test_itk_itself_shows_a_part_twice_beyond_the_grid():
    """What the tests above guard against."""
    frame = Frame((9, 9), (1, 1), (0, 0), np.eye(2))
    shift = np.broadcast_to((3.0, 0.0), (9, 9, 2))
    transform = composite(frame, shift, np.eye(3))
    ramp = np.broadcast_to(np.arange(20.0), (9, 20))
    image = Image(ramp, Frame((9, 20), (1, 1), (0, 0), np.eye(2)), "ramp")
    wide = Frame((9, 15), (1, 1), (0, 0), np.eye(2))
    itk = [transform.TransformPoint((float(x), 4.0))[0] for x in range(15)]
    assert len(set(itk)) < 15
    row = warp_image(image, wide, transform).array[4]
    np.testing.assert_allclose(row, np.arange(15) + 3)


@pytest.mark.parametrize("d", [2, 3])
def test_labels_and_cubic_interpolation_are_those_of_itk(d):
    frame = Frame((9, 8, 7)[:d], (1.0, 1.5, 2.0)[:d], (0,) * d, rotation(d, 0.2))
    shift = sitk.TranslationTransform(d, [0.4] * d)
    rng = np.random.default_rng(0)
    array = rng.integers(0, 5, frame.shape).astype(np.int16) * 50
    image = Image(array, frame, "a")
    source = sitk.GetImageFromArray(array)
    source.SetSpacing(frame.spacing)
    source.SetDirection(frame.direction)
    ways = {
        "labels": (sitk.sitkLabelLinear, source, 0),
        "bspline": (sitk.sitkBSpline3, sitk.Cast(source, sitk.sitkFloat32), -7),
        "nearest": (sitk.sitkNearestNeighbor, source, 3),
    }
    for name, (interpolator, given, fill) in ways.items():
        found = warp_image(image, frame, shift, interpolation=name, fill=fill)
        expected = sitk.Resample(given, given, shift, interpolator, float(fill))
        expected = np.rint(sitk.GetArrayFromImage(expected))
        np.testing.assert_array_equal(found.array, expected, err_msg=name)
        assert found.array.dtype == np.int16
