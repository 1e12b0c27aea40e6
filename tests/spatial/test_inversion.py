"""Inverse of transforms against ``TransformPoint``."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from regnet_jax.errors import InputError
from regnet_jax.spatial import (
    POINT_TOLERANCE,
    Frame,
    Image,
    affine_transform,
    composite,
    field_frame,
    invert_on_grid,
    invert_points,
    map_points,
    point_tolerance,
    sample_transform,
    to_world,
)
from regnet_jax.spatial.warping import warp_images_back
from tests.helpers.frames import rotation

GRIDS = {
    "3d plain": Frame((18, 20, 22), (2, 2, 2), (0, 0, 0), np.eye(3)),
    "3d oblique": Frame((18, 20, 22), (1, 1.5, 3), (-80, 12, 300), rotation(3, 0.4)),
    "3d flipped": Frame((18, 20, 22), (1, 2, 3), (9, 8, 7), np.diag([-1, 1, -1])),
    "3d permuted": Frame((18, 20, 22), (1, 2, 3), (9, 8, 7), np.eye(3)[[1, 2, 0]]),
    "2d oblique": Frame((30, 34), (0.7, 2.5), (-80, 12), rotation(2, 0.6)),
    "2d flipped": Frame((30, 34), (1, 2.5), (-80, 12), np.diag([-1, 1])),
}
every_grid = pytest.mark.parametrize("frame", GRIDS.values(), ids=GRIDS)


def smooth_field(frame, size, seed=0):
    """Vectors (mm) that reach ``size`` and change little from voxel to voxel."""
    noise = np.random.default_rng(seed).normal(size=(*frame.shape, frame.ndim))
    field = ndimage.gaussian_filter(noise, (*(6,) * frame.ndim, 0), mode="nearest")
    return size * field / np.abs(field).max()


def some_affine(d):
    matrix = np.eye(d + 1)
    matrix[:d, :d] = 1.1 * rotation(d, 0.7)
    matrix[:d, d] = (30.0, -20.0, 10.0)[:d]
    return matrix


def some_transform(frame):
    size = 3 * min(frame.spacing)
    return composite(frame, smooth_field(frame, size), some_affine(frame.ndim))


def points_within(frame, count=60, margin=0.0):
    rng = np.random.default_rng(2)
    high = np.array(frame.shape) - 1 - margin
    return to_world(frame, rng.uniform(margin, high, (count, frame.ndim)))


@every_grid
def test_invert_points_undoes_the_transform(frame):
    transform = some_transform(frame)
    points = points_within(frame)
    moved = map_points(transform, points)
    # The comparison means something: the field is not its affine part.
    straight = map_points(affine_transform(some_affine(frame.ndim)), points)
    assert np.linalg.norm(moved - straight, axis=1).max() > min(frame.spacing)
    back, errors = invert_points(transform, moved)
    assert (errors <= POINT_TOLERANCE).all()
    np.testing.assert_allclose(back, points, atol=5 * POINT_TOLERANCE)


@every_grid
def test_invert_on_grid_undoes_the_transform(frame):
    transform = some_transform(frame)
    d = frame.ndim
    target = Frame(
        shape=(17, 19, 21)[:d],
        spacing=np.array(frame.spacing) * 0.9,
        origin=map_points(transform, points_within(frame, 1, margin=5))[0],
        direction=rotation(d, -0.3),
    )
    vectors, errors = invert_on_grid(transform, frame, target)
    assert errors.shape == target.shape
    voxels = np.random.default_rng(0).integers(0, target.shape, (800, d))
    y = to_world(target, voxels)
    x = y + vectors[tuple(voxels.T)]
    inside = np.array([contains(frame, point) for point in x.tolist()])
    assert inside.sum() > 50
    off = np.linalg.norm(map_points(transform, x) - y, axis=1)[inside]
    assert np.quantile(off, 0.99) < 0.05 * min(frame.spacing)
    np.testing.assert_allclose(off, errors[tuple(voxels.T)][inside], atol=1e-4)


def contains(frame, point):
    image = sitk.Image(frame.shape[::-1], sitk.sitkUInt8)
    image.SetSpacing(frame.spacing)
    image.SetOrigin(frame.origin)
    image.SetDirection(frame.direction)
    index = image.TransformPhysicalPointToContinuousIndex(point)
    return all(0 <= i <= n - 1 for i, n in zip(index, image.GetSize(), strict=True))


def test_invert_points_near_the_edge_stays_in_the_field():
    """Beyond the edge ITK's transform has a second solution, which is not wanted."""
    frame = Frame((9, 9), (1, 1), (0, 0), np.eye(2))
    shift = np.broadcast_to((3.0, 0.0), (9, 9, 2))
    transform = composite(frame, shift, np.eye(3))
    back, errors = invert_points(transform, [[10.5, 4.0]])
    np.testing.assert_allclose(back, [[7.5, 4.0]], atol=1e-3)
    assert errors[0] <= POINT_TOLERANCE


def test_invert_points_converges_under_strong_expansion():
    """Where the map triples lengths the plain fixed-point iteration diverges."""
    frame = Frame((3, 81), (1, 1), (0, 0), np.eye(2))
    x = np.arange(81.0)
    field = np.zeros((3, 81, 2))
    field[..., 0] = 20 * np.tanh((x - 40) / 10) * np.exp(-(((x - 40) / 25) ** 2))
    assert np.gradient(field[0, :, 0]).max() > 1.5
    transform = composite(frame, field, np.eye(3))
    points = np.stack([np.linspace(5, 75, 40), np.ones(40)], -1)
    back, errors = invert_points(transform, map_points(transform, points))
    assert (errors <= POINT_TOLERANCE).all()
    np.testing.assert_allclose(back, points, atol=0.01)


def test_invert_points_reports_errors_where_nothing_is_mapped():
    """Where the field ends ITK's transform jumps back to the identity."""
    frame = Frame((9, 9), (1, 1), (0, 0), np.eye(2))
    shift = np.broadcast_to((3.0, 0.0), (9, 9, 2))
    transform = composite(frame, shift, np.eye(3))
    wanted = np.array([[1.0, 4.0], [5.0, 4.0], [-20.0, 4.0]])
    back, errors = invert_points(transform, wanted)
    assert errors[0] > 1.0
    assert (errors[1:] <= POINT_TOLERANCE).all()
    np.testing.assert_allclose(back[1:], [[2.0, 4.0], [-20.0, 4.0]], atol=1e-3)
    # Continued by its edge the field has no gap.
    _, errors = invert_on_grid(transform, frame, frame)
    assert errors.max() < 0.01


@every_grid
def test_inverse_reports_true_errors_where_the_field_folds(frame):
    size = 12 * min(frame.spacing)
    transform = composite(frame, smooth_field(frame, size), some_affine(frame.ndim))
    wanted = map_points(transform, points_within(frame, 200))
    back, errors = invert_points(transform, wanted)
    off = np.linalg.norm(map_points(transform, back) - wanted, axis=1)
    np.testing.assert_allclose(errors, off, atol=1e-9)
    assert (errors <= POINT_TOLERANCE).mean() > 0.8
    assert np.isfinite(back).all()


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-5])
def test_inverse_at_points_does_not_depend_on_the_unit(scale):
    """A field on a grid of micrometres is inverted as well as one of millimetres."""
    shape, d = (20, 22), 2
    large = Frame(shape, (1.0, 1.5), (3, -2), rotation(2, 0.4))
    vectors = smooth_field(large, 2.0)
    small = Frame(shape, scale * np.array(large.spacing), scale * np.array((3, -2)),
                  large.direction)  # fmt: skip
    transform = composite(small, scale * vectors, np.eye(d + 1))
    points = scale * points_within(large, 50)
    back, errors = invert_points(transform, map_points(transform, points))
    assert point_tolerance(transform) <= 0.01 * scale
    assert (errors <= point_tolerance(transform)).all()
    assert np.abs(back - points).max() < 0.05 * scale


@pytest.mark.parametrize("d", [2, 3])
def test_invert_points_of_linear_transforms_is_exact(d):
    transform = affine_transform(some_affine(d))
    points = np.random.default_rng(0).normal(size=(20, d)) * 100
    expected = map_points(transform.GetInverse(), points)
    back, errors = invert_points(transform, points)
    np.testing.assert_allclose(back, expected, atol=1e-6)
    assert errors.max() < 1e-6
    frame = Frame((6, 7, 8)[:d], (1, 2, 3)[:d], (4, 5, 6)[:d], np.eye(d))
    vectors, _ = invert_on_grid(transform, frame, frame)
    expected = sample_transform(transform.GetInverse(), frame)
    np.testing.assert_allclose(vectors, expected, atol=1e-3)


def test_invert_points_of_a_spline_without_a_field():
    spline = sitk.BSplineTransform(2, 3)
    spline.SetTransformDomainPhysicalDimensions((100.0, 80.0))
    spline.SetTransformDomainMeshSize((5, 4))
    rng = np.random.default_rng(0)
    spline.SetParameters(rng.normal(size=len(spline.GetParameters())).tolist())
    assert field_frame(spline) is None
    points = rng.uniform(15, 65, (20, 2))
    back, errors = invert_points(spline, map_points(spline, points))
    assert (errors <= POINT_TOLERANCE).all()
    np.testing.assert_allclose(back, points, atol=0.01)


@every_grid
def test_field_frame_is_the_grid_of_the_field(frame):
    transform = some_transform(frame)
    assert field_frame(transform) == frame
    nested = sitk.CompositeTransform([affine_transform(np.eye(frame.ndim + 1))])
    nested.AddTransform(transform)
    assert field_frame(nested) == frame
    # Where the field comes last, its grid is not that of the fixed image.
    nested.AddTransform(affine_transform(some_affine(frame.ndim)))
    assert field_frame(nested) is None
    assert field_frame(sitk.CompositeTransform(frame.ndim)) is None
    assert field_frame(sitk.Transform(frame.ndim, sitk.sitkIdentity)) is None


@every_grid
def test_sample_transform_agrees_with_itk(frame):
    transform = some_transform(frame)
    vectors = sample_transform(transform, frame)
    index = tuple(n // 3 for n in frame.shape)
    x = to_world(frame, index)
    moved = transform.TransformPoint(x.tolist())
    np.testing.assert_allclose(vectors[index], moved - x, atol=1e-9)


def test_singular_or_infinite_transforms_are_refused():
    flat = sitk.AffineTransform(3)
    flat.SetMatrix([1, 0, 0, 0, 1, 0, 0, 0, 0])
    with pytest.raises(InputError, match="flattens"):
        invert_points(flat, np.ones((2, 3)))
    frame = GRIDS["2d flipped"]
    field = smooth_field(frame, 1.0)
    field[3, 4] = np.nan
    transform = composite(frame, field, np.eye(3))
    with pytest.raises(InputError, match="NaN"):
        sample_transform(transform, frame)
    with pytest.raises(InputError, match="NaN"):
        map_points(transform, to_world(frame, [[3, 4]]))


@pytest.mark.parametrize("frame", [GRIDS["3d oblique"], GRIDS["2d flipped"]])
@pytest.mark.parametrize("crop_first", [False, True])
def test_images_go_back_through_a_chain_of_fields(frame, crop_first):
    """The field of a crop, zero at its border, and one of the whole image."""
    d = frame.ndim
    shape = tuple(n // 2 for n in frame.shape)
    start = tuple(n // 4 for n in frame.shape)
    crop = Frame(
        shape, frame.spacing, to_world(frame, np.array(start)), frame.direction
    )
    fade = np.ones(shape)
    for axis, n in enumerate(shape):
        edge = np.minimum(np.arange(n), np.arange(n)[::-1])
        fade *= np.clip(edge / 3, 0, 1).reshape(
            [-1 if a == axis else 1 for a in range(d)]
        )
    size = 2 * min(frame.spacing)
    local = smooth_field(crop, size) * fade[..., None]
    parts = [
        composite(crop, local, np.eye(d + 1)),
        composite(frame, smooth_field(frame, size, seed=1), np.eye(d + 1)),
    ]
    # ITK applies the transform that was added last first.
    chain = sitk.CompositeTransform(parts[::-1] if crop_first else parts)
    grid = to_world(frame, np.moveaxis(np.indices(frame.shape), 0, -1))
    images = [Image(grid[..., k].astype(np.float32), frame, "ramp") for k in range(d)]
    warped, _ = warp_images_back(images, frame, chain, fills=[0.0] * d)
    found = np.stack([image.array for image in warped], -1)
    known, errors = invert_points(chain, grid.reshape(-1, d))
    off = np.linalg.norm(found.reshape(-1, d) - known, axis=1)
    inner = tuple(slice(4, n - 4) for n in frame.shape)
    inside = np.zeros(frame.shape, bool)
    inside[inner] = True
    seen = inside.ravel() & (errors < POINT_TOLERANCE)
    assert seen.sum() > 50
    assert off[seen].max() < 0.1 * min(frame.spacing)
    assert np.abs(known - grid.reshape(-1, d))[seen].max() > 0.25 * size


@pytest.mark.parametrize("folded_first", [None, True, False])
def test_voxels_without_an_inverse_are_counted_and_are_background(folded_first):
    """In a field that folds, alone and with a second one; all others lead back."""
    frame = Frame((60, 50), (1.0, 1.5), (3, -2), rotation(2, 0.6))
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.normal(size=(60, 50, 2)), (2, 2, 0))
    fade = np.prod(np.meshgrid(*(np.hanning(n) for n in (60, 50)), indexing="ij"), 0)
    folded = composite(frame, 15 * fade[..., None] * noise / noise.max(), np.eye(3))
    smooth = composite(frame, fade[..., None] * smooth_field(frame, 2.0), np.eye(3))
    transform = folded
    if folded_first is not None:
        # ITK applies the transform that was added last first.
        parts = [smooth, folded] if folded_first else [folded, smooth]
        transform = sitk.CompositeTransform(parts)
    inner = Frame(
        (40, 30), frame.spacing, to_world(frame, np.array([10, 10])), frame.direction
    )
    grid = to_world(frame, np.moveaxis(np.indices(frame.shape), 0, -1))
    images = [Image(grid[..., k].astype(np.float32), frame, "ramp") for k in range(2)]
    warped, lost = warp_images_back(images, inner, transform, fills=[-999.0] * 2)
    found = np.stack([image.array for image in warped], -1)
    missing = found[..., 0] == -999
    assert lost == missing.sum() > 0
    assert missing.mean() < 0.3
    points = to_world(inner, np.moveaxis(np.indices(inner.shape), 0, -1))
    again = map_points(transform, found[~missing].astype(float))
    assert np.linalg.norm(again - points[~missing], axis=-1).max() < 0.51
