"""Warp, compose and invert against analytic fields and SimpleITK."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import SimpleITK as sitk
from jax.test_util import check_grads

from regnet_jax.geometry import compose, invert, warp

jit_warp = jax.jit(warp, static_argnames=("order", "fill"))
jit_compose = jax.jit(compose)
jit_invert = jax.jit(invert, static_argnames=("iterations", "tolerance"))
SHAPES = [(17, 22), (11, 9, 14)]


def _grid(shape):
    return np.moveaxis(np.indices(shape), 0, -1).astype(np.float32)


def _smooth_field(shape, amplitude, seed=0):
    """A few sine waves with a different amplitude and phase in each component."""
    rng = np.random.default_rng(seed)
    waves = rng.uniform(0.5, 1.2, (len(shape), len(shape))) * np.pi / np.array(shape)
    phase = rng.uniform(0, 2 * np.pi, len(shape))
    scale = amplitude * rng.uniform(0.5, 1, len(shape))
    return (scale * np.sin(_grid(shape) @ waves + phase)).astype(np.float32)


def _affine_field(matrix, offset, shape):
    """``u`` with ``x + u(x) = centre + (1 + matrix)(x - centre) + offset``."""
    centred = _grid(shape) - (np.array(shape) - 1) / 2
    return (centred @ np.array(matrix).T + np.array(offset)).astype(np.float32)


def _itk(field):
    """ITK's field: components in (x, y, z) order."""
    return sitk.GetImageFromArray(field[..., ::-1].astype(np.float64), isVector=True)


def _array(field):
    return sitk.GetArrayFromImage(field)[..., ::-1]


def _inner(array, margin, dimensions):
    return np.asarray(array)[(slice(margin, -margin),) * dimensions]


@pytest.mark.parametrize("target", [(1, 4), (1, 4, 2)])
def test_warp_reads_the_voxel_that_the_field_points_to(target):
    shape, source = (6, 5, 7)[: len(target)], (3, 1, 5)[: len(target)]
    moving = np.zeros((*shape, 1), np.float32)
    moving[source] = 1
    field = np.zeros((*shape, len(shape)), np.float32)
    field[...] = np.subtract(source, target)
    fixed = jit_warp(moving, field)
    assert np.unravel_index(np.argmax(fixed), fixed.shape)[:-1] == target
    assert np.sum(fixed) == 1


@pytest.mark.parametrize("fill", [None, -3.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_warp_matches_itk_on_a_fixed_grid_of_another_size(shape, fill):
    rng = np.random.default_rng(2)
    moving = rng.normal(size=(*shape, 1)).astype(np.float32)
    fixed_shape = tuple(n + k for n, k in zip(shape, (2, -3, 1), strict=False))
    field = _smooth_field(fixed_shape, 3.0)
    image = sitk.GetImageFromArray(moving[..., 0].astype(np.float64))
    reference = sitk.GetImageFromArray(np.zeros(fixed_shape))
    outside = np.nan if fill is None else fill
    transform = sitk.DisplacementFieldTransform(_itk(field))
    want = sitk.Resample(image, reference, transform, sitk.sitkLinear, outside)
    want = sitk.GetArrayFromImage(want)[..., None]
    got = np.asarray(jit_warp(moving, field, fill=fill))
    known = ~np.isnan(want)
    assert known.mean() > 0.5
    assert (fill is None) == (known.mean() < 1)
    np.testing.assert_allclose(got[known], want[known], atol=1e-4)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_warp_by_zero_returns_the_image(order):
    image = np.random.default_rng(0).normal(size=(5, 6, 2)).astype(np.float32)
    got = jit_warp(image, np.zeros((5, 6, 2), np.float32), order=order, fill=9.0)
    np.testing.assert_allclose(got, image, atol=2e-6)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_compose_of_affine_maps_is_their_product_in_the_right_order(dimensions):
    shape = (15, 18, 13)[:dimensions]
    rng = np.random.default_rng(3)
    a, b = rng.uniform(-0.06, 0.06, (2, dimensions, dimensions))
    s, t = rng.uniform(-1, 1, (2, dimensions))
    eye = np.eye(dimensions)
    product = (eye + b) @ (eye + a) - eye
    want = _affine_field(product, (eye + b) @ s + t, shape)
    got = jit_compose(_affine_field(a, s, shape), _affine_field(b, t, shape))
    other = _affine_field((eye + a) @ (eye + b) - eye, (eye + a) @ t + s, shape)
    np.testing.assert_allclose(_inner(got - want, 4, dimensions), 0, atol=2e-5)
    assert np.abs(_inner(got - other, 4, dimensions)).max() > 1e-2


@pytest.mark.parametrize("shape", SHAPES)
def test_compose_matches_itk(shape):
    first, second = _smooth_field(shape, 1.5, seed=1), _smooth_field(shape, 1.5, seed=2)
    # ITK applies the transform that was added last first.
    both = sitk.CompositeTransform(
        [sitk.DisplacementFieldTransform(_itk(f)) for f in (second, first)]
    )
    want = sitk.TransformToDisplacementField(
        both, sitk.sitkVectorFloat64, list(shape[::-1])
    )
    got = jit_compose(first, second)
    difference = _inner(got - _array(want), 2, len(shape))
    np.testing.assert_allclose(difference, 0, atol=2e-5)


def test_compose_continues_the_second_field_by_its_edge():
    first = np.full((4, 5, 2), 100.0, np.float32)
    second = _smooth_field((4, 5), 1.0)
    want = first + second[-1, -1]
    np.testing.assert_allclose(jit_compose(first, second), want, rtol=1e-6)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_inverse_of_an_affine_map_is_affine(dimensions):
    shape = (16, 19, 14)[:dimensions]
    rng = np.random.default_rng(4)
    matrix = rng.uniform(-0.1, 0.1, (dimensions, dimensions))
    offset = rng.uniform(-1, 1, dimensions)
    inverse = np.linalg.inv(np.eye(dimensions) + matrix)
    want = _affine_field(inverse - np.eye(dimensions), -inverse @ offset, shape)
    got = jit_invert(_affine_field(matrix, offset, shape), tolerance=1e-6)
    np.testing.assert_allclose(_inner(got - want, 4, dimensions), 0, atol=2e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_inverse_matches_itk(shape):
    field = _smooth_field(shape, 1.2, seed=5)
    want = _array(
        sitk.InvertDisplacementField(
            _itk(field),
            maximumNumberOfIterations=200,
            maxErrorToleranceThreshold=1e-5,
            meanErrorToleranceThreshold=1e-6,
            enforceBoundaryCondition=False,
        )
    )
    difference = _inner(jit_invert(field) - want, 3, len(shape))
    np.testing.assert_allclose(difference, 0, atol=1e-3)


def test_inverse_gains_with_every_step_at_the_rate_of_the_slope():
    """For ``u = x / 2`` a step leaves 0.4 of the error: analytic."""
    x = np.arange(9.0, dtype=np.float32) - 4
    field = np.stack([x[:, None] / 2, np.zeros((9, 1))], axis=-1).astype(np.float32)
    for steps in (1, 3, 6):
        want = -x / 3 * (1 - 0.4**steps)
        got = jit_invert(field, iterations=steps)
        np.testing.assert_allclose(got[:, 0, 0], want, atol=1e-5)


def test_inverse_of_a_field_that_stretches():
    """For ``u = 3 x`` the iteration without damping diverges."""
    x = np.arange(9.0, dtype=np.float32) - 4
    field = np.stack([3 * x[:, None], np.zeros((9, 1))], axis=-1).astype(np.float32)
    got = jit_invert(field)
    np.testing.assert_allclose(got[:, 0, 0], -0.75 * x, atol=1e-3)


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5)])
def test_gradient_of_the_inverse_is_right(shape):
    with jax.enable_x64(True):
        u = jnp.asarray(_smooth_field(shape, 0.4, seed=6), jnp.float64)
        function = functools.partial(jit_invert, tolerance=1e-12)
        check_grads(function, (u,), 1, ["rev", "fwd"], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("function", [lambda u: compose(u, u), invert])
def test_vmap_of_warp_equals_a_loop(function):
    fields = np.stack([_smooth_field((4, 3, 5), 0.6, seed=s) for s in range(3)])
    got = jax.jit(jax.vmap(function))(fields)
    want = np.stack([jax.jit(function)(u) for u in fields])
    np.testing.assert_allclose(got, want, atol=1e-6)
