"""Signed distances against geometry done by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.synthesis.volumes.shapes import (
    blend,
    capsule,
    ellipsoid,
    inside,
    periodic,
)


def _points(count=300, dimensions=3, scale=30.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-scale, scale, (dimensions, count)).astype(np.float32)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_sphere_has_the_distance_to_its_surface(dimensions):
    points = _points(dimensions=dimensions)
    centre = (3.0, -5.0, 8.0)[:dimensions]
    want = np.linalg.norm(points - np.array(centre)[:, None], axis=0) - 12
    got = ellipsoid(tuple(points), centre, (12.0,) * dimensions)
    np.testing.assert_allclose(got, want, atol=0.02)


def test_an_ellipsoid_is_exact_on_its_axes_and_negative_inside():
    centre, radii = np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 5.0])
    for axis in range(3):
        along = np.array([-1.5, -1.0, -0.5, 0.5, 1.0, 2.0]) * radii[axis]
        points = np.repeat(centre[:, None], 6, axis=1)
        points[axis] += along
        got = ellipsoid(tuple(jnp.asarray(points, jnp.float32)), centre, radii)
        np.testing.assert_allclose(got, np.abs(along) - radii[axis], atol=0.02)
    points = _points()
    scaled = (points - centre[:, None]) / radii[:, None]
    got = np.asarray(ellipsoid(tuple(points), centre, radii))
    np.testing.assert_array_equal(got < 0, (scaled**2).sum(0) < 1)


def test_an_ellipsoid_is_good_to_first_order_at_its_surface():
    radii = np.array([10.0, 20.0])
    angle = np.linspace(0.1, 6.2, 40)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    normal = circle / radii[:, None]
    normal /= np.linalg.norm(normal, axis=0)
    for away in (-0.3, 0.0, 0.3):
        points = jnp.asarray(circle * radii[:, None] + away * normal, jnp.float32)
        got = ellipsoid(tuple(points), (0.0, 0.0), radii)
        np.testing.assert_allclose(got, away, atol=0.02)


def test_a_capsule_has_the_distance_to_its_segment():
    points = _points()
    start, end = np.array([-10.0, 0.0, 4.0]), np.array([5.0, 12.0, -8.0])
    line = start + np.linspace(0, 1, 2001)[:, None] * (end - start)
    want = np.linalg.norm(points.T[:, None] - line, axis=-1).min(1) - 3
    got = capsule(tuple(points), tuple(start), tuple(end), 3.0)
    np.testing.assert_allclose(got, want, atol=0.01)
    assert (want < 0).any()


@pytest.mark.parametrize("period", [1.0, 7.0, 24.5])
def test_periodic_is_the_way_to_the_nearest_multiple(period):
    x = np.linspace(-100, 100, 503, dtype=np.float32)
    got = np.asarray(periodic(jnp.asarray(x), period))
    assert np.abs(got).max() <= period / 2 + 1e-4
    multiples = period * np.arange(-110, 111)
    nearest = np.abs(x[:, None] - multiples).min(1)
    np.testing.assert_allclose(np.abs(got), nearest, atol=1e-4)
    turns = (x - got) / period
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-4)


def test_inside_is_a_soft_edge():
    got = np.asarray(inside(jnp.array([-50.0, -2.0, 0.0, 2.0, 50.0]), 2.0))
    edge = 1 / (1 + np.e)
    np.testing.assert_allclose(got, [1, 1 - edge, 0.5, edge, 0], atol=1e-5)


def test_blend_paints_by_membership():
    image = jnp.array([10.0, 10.0, 10.0])
    membership = jnp.array([0.0, 0.25, 1.0])
    np.testing.assert_allclose(blend(image, 50.0, membership), [10, 20, 50])
    value = jnp.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(blend(image, value, membership), [10, 8, 3])
