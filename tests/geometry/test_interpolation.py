"""Sampling against analytic images, scipy.ndimage and SimpleITK."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage as ndi
import SimpleITK as sitk
from jax.test_util import check_grads

from regnet_jax.geometry import along_axis, identity_grid, sample

jit_sample = jax.jit(sample, static_argnames=("order", "fill"))
SHAPES = [(5, 8), (1, 6), (4, 7, 5), (2, 1, 3)]


def _volume(shape, channels=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(*shape, channels)).astype(np.float32)


def _points(shape, count=60, beyond=2.0, seed=1):
    rng = np.random.default_rng(seed)
    low, high = -beyond, np.array(shape) - 1 + beyond
    return rng.uniform(low, high, (count, len(shape))).astype(np.float32)


def _scipy(volume, points, order):
    """Edge continued; the cubic spline is mirrored at the outermost centres."""
    last = np.array(volume.shape[:-1]) - 1
    points = np.clip(points.astype(np.float64), 0, last).T
    mode = "mirror" if order == 3 else "nearest"
    channels = np.moveaxis(volume.astype(np.float64), -1, 0)
    values = [ndi.map_coordinates(c, points, order=order, mode=mode) for c in channels]
    return np.stack(values, axis=-1)


def _itk_sample(volume, points, fill, interpolator):
    """One-channel image at points, by a field on a grid that is the point list."""
    image = sitk.GetImageFromArray(volume[..., 0].astype(np.float64))
    dimensions, count = image.GetDimension(), len(points)
    grid = np.zeros(dimensions)
    offsets = points[:, ::-1].astype(np.float64)
    offsets[:, 0] -= np.arange(count)
    size = [count, *[1] * (dimensions - 1)]
    offsets = offsets.reshape(*size[::-1], dimensions)
    field = sitk.GetImageFromArray(offsets, isVector=True)
    transform = sitk.DisplacementFieldTransform(field)
    result = sitk.Resample(
        image, size, transform, interpolator, list(grid), [1.0] * dimensions,
        np.eye(dimensions).ravel().tolist(), fill,
    )  # fmt: skip
    return sitk.GetArrayFromImage(result).reshape(count, 1)


@pytest.mark.parametrize("shape", [(3, 5), (3, 1, 4)])
def test_identity_grid_holds_the_indices(shape):
    grid = identity_grid(shape)
    np.testing.assert_array_equal(grid, np.moveaxis(np.indices(shape), 0, -1))
    assert grid.dtype == jnp.float32


@pytest.mark.parametrize("slopes", [(2.0, -0.5), (2.0, -0.5, 0.25)])
def test_sample_reproduces_linear_images_with_axes_in_order(slopes):
    shape = (6, 5, 7)[: len(slopes)]
    plane = lambda x: (x @ np.array(slopes, np.float32))[..., None] + 3  # noqa: E731
    points = _points(shape, beyond=0.0)
    volume = plane(np.moveaxis(np.indices(shape), 0, -1).astype(np.float32))
    got = jit_sample(volume, points)
    np.testing.assert_allclose(got, plane(points), atol=2e-6)


def test_cubic_sample_meets_voxels_and_smooth_images():
    shape = (24, 31)
    wave = lambda x: np.cos(np.pi * x / (np.array(shape) - 1)).prod(-1)[..., None]  # noqa: E731
    volume = wave(np.asarray(identity_grid(shape))).astype(np.float32)
    points = np.concatenate(
        [np.asarray(identity_grid(shape)).reshape(-1, 2), _points(shape, beyond=0.0)]
    )
    got = jit_sample(volume, points, order=3)
    np.testing.assert_allclose(got[: volume.size, 0], volume.ravel(), atol=2e-6)
    np.testing.assert_allclose(got, wave(points), atol=2e-5)


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_sample_matches_scipy_inside_and_beyond_the_edge(shape, order):
    volume, points = _volume(shape), _points(shape)
    want = _scipy(volume, points, order).reshape(3, 20, -1)
    function = sample if order == 3 and len(shape) == 3 else jit_sample
    got = function(volume, points.reshape(3, 20, -1), order=order)
    np.testing.assert_allclose(got, want, atol=2e-5)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("shape", [(5, 8), (1, 6), (4, 7, 5)])
def test_fill_begins_half_a_voxel_beyond_the_centres_as_in_itk(shape, order):
    volume = _volume(shape, 1)
    rim = []
    for axis, last in enumerate(np.array(shape) - 1):
        for step in (-0.501, -0.499, -0.25, 0.0):
            point = 0.5 * np.array(shape) - 0.4
            rim += [np.where(np.arange(len(shape)) == axis, at, point)
                    for at in (step, last - step)]  # fmt: skip
    points = np.concatenate([rim, _points(shape)]).astype(np.float32)
    interpolator = sitk.sitkLinear if order else sitk.sitkNearestNeighbor
    want = _itk_sample(volume, points, -7.0, interpolator)
    assert 0 < (want == -7).sum() < len(points)
    got = jit_sample(volume, points, order=order, fill=-7.0)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_nearest_rounds_halves_as_itk():
    volume = np.arange(6, dtype=np.float32).reshape(2, 3, 1)
    points = np.array([[0.5, 0.5], [0.25, 1.5], [0.5, 2.0]], np.float32)
    want = _itk_sample(volume, points, 0.0, sitk.sitkNearestNeighbor)
    np.testing.assert_array_equal(jit_sample(volume, points, order=0), want)


@pytest.mark.parametrize(("shape", "order"), [((3, 2, 4), 1), ((4, 5), 3)])
def test_sample_gradients_in_volume_and_points_are_right(shape, order):
    with jax.enable_x64(True):
        volume = jnp.asarray(_volume(shape, 1), jnp.float64)
        points = jnp.asarray(_points(shape, count=5, beyond=0.5), jnp.float64)
        function = functools.partial(jit_sample, order=order, fill=0.5)
        check_grads(function, (volume, points), 1, ["fwd", "rev"], atol=1e-6, rtol=1e-6)


def test_gradient_at_voxels_lies_between_the_slopes_on_both_sides():
    values = np.array([1.0, 3.0, 2.0, 7.0], np.float32)
    slopes = np.array([0, *np.diff(values), 0])  # the edge continues outside
    value = lambda x: jit_sample(values[:, None], x[None])[0]  # noqa: E731
    gradient = jax.vmap(jax.grad(value))(jnp.arange(4.0))
    assert (gradient >= np.minimum(slopes[:-1], slopes[1:])).all()
    assert (gradient <= np.maximum(slopes[:-1], slopes[1:])).all()


@pytest.mark.parametrize("order", [1, 3])
def test_sample_runs_under_jit_and_vmap(order):
    shape = (4, 5) if order == 3 else (4, 3, 5)
    volumes = np.stack([_volume(shape, seed=s) for s in range(3)])
    points = np.stack([_points(shape, seed=s) for s in range(3)])
    got = jax.jit(jax.vmap(functools.partial(sample, order=order)))(volumes, points)
    want = [_scipy(v, p, order) for v, p in zip(volumes, points, strict=True)]
    np.testing.assert_allclose(got, np.stack(want), atol=2e-5)


def test_sample_keeps_the_type_of_the_volume():
    labels = np.array([[[3], [9]], [[4], [1]]], np.int16)
    points = np.array([[0.2, 0.9], [1.0, 5.0]], np.float32)
    got = jit_sample(labels, points, order=0, fill=0)
    assert got.dtype == jnp.int16
    np.testing.assert_array_equal(got, [[9], [0]])
    for kind in (jnp.bfloat16, jnp.float32):
        volume = labels.astype(kind)
        for order in (0, 1, 3):
            function = functools.partial(sample, order=order)
            assert jax.eval_shape(function, volume, points).dtype == kind


def test_sample_refuses_wrong_orders_types_and_dimensions():
    volume, points = _volume((4, 5)), _points((4, 5))
    with pytest.raises(ValueError, match="order"):
        sample(volume, points, order=2)
    with pytest.raises(ValueError, match="floating"):
        sample(volume.astype(np.int16), points, order=1)
    with pytest.raises(ValueError, match="coordinates"):
        sample(volume, _points((4, 5, 6)))


@pytest.mark.parametrize("shape", [(5, 7), (4, 5, 6)])
def test_values_along_an_axis_are_those_of_the_grid(shape):
    grid = np.asarray(identity_grid(shape))
    for axis, n in enumerate(shape):
        line = along_axis(np.arange(n), axis, len(shape))
        np.testing.assert_array_equal(np.broadcast_to(line, shape), grid[..., axis])
