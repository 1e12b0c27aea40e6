"""Frames against ITK's own index-to-point arithmetic."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from regnet_jax.errors import InputError
from regnet_jax.spatial import (
    Frame,
    canonical_axes,
    canonicalise,
    displacement_from_world,
    displacement_to_world,
    is_outside,
    isotropic_frame,
    rebase,
    to_index,
    to_sitk,
    to_world,
)
from tests.helpers.frames import FRAMES, frames, rotation

every_frame = pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
seeds = st.integers(0, 2**16)


def direction_of(frame):
    return np.reshape(frame.direction, (frame.ndim, frame.ndim))


def some_indices(frame, count=20, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-3, 12, (count, frame.ndim))


@every_frame
def test_to_world_and_to_index_agree_with_itk(frame):
    image = to_sitk(np.zeros(frame.shape, np.float32), frame)
    index = some_indices(frame)
    expected = [
        image.TransformContinuousIndexToPhysicalPoint(i[::-1]) for i in index.tolist()
    ]
    np.testing.assert_allclose(to_world(frame, index), expected, atol=1e-9)
    np.testing.assert_allclose(to_index(frame, expected), index, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(frames(), seeds)
def test_index_and_displacement_round_trips(frame, seed):
    index = some_indices(frame, seed=seed).reshape(4, 5, frame.ndim)
    back = to_index(frame, to_world(frame, index))
    np.testing.assert_allclose(back, index, atol=1e-8)
    back = displacement_from_world(frame, displacement_to_world(frame, index))
    np.testing.assert_allclose(back, index, atol=1e-8)


@every_frame
def test_displacement_is_the_difference_of_two_points(frame):
    index = some_indices(frame)
    u = some_indices(frame, seed=1)
    np.testing.assert_allclose(
        displacement_to_world(frame, u),
        to_world(frame, index + u) - to_world(frame, index),
        atol=1e-9,
    )


@every_frame
def test_voxels_reach_half_a_voxel_beyond_their_centres_as_in_itk(frame):
    image = to_sitk(np.ones(frame.shape, np.float32), frame)
    rng = np.random.default_rng(0)
    index = rng.uniform(-1.0, np.array(frame.shape), (200, frame.ndim))

    def fails(point):
        try:
            image.EvaluateAtPhysicalPoint(point, sitk.sitkNearestNeighbor)
        except RuntimeError:
            return True
        return False

    expected = [fails(point) for point in to_world(frame, index).tolist()]
    np.testing.assert_array_equal(is_outside(frame, index), expected)
    assert 0 < np.sum(expected) < len(expected)


def test_direction_is_taken_flat_or_nested():
    nested = Frame((2, 3), (1, 1), (0, 0), ((0, 1), (1, 0)))
    assert nested == Frame((2, 3), (1, 1), (0, 0), (0, 1, 1, 0))
    assert hash(nested) == hash(Frame((2, 3), (1, 1), (0, 0), (0, 1, 1, 0)))


def test_a_frame_of_mixed_dimensions_is_refused():
    with pytest.raises(InputError, match="has 2 axes, its spacing 3"):
        Frame((2, 3), (1, 1, 1), (0, 0), (1, 0, 0, 1))


@settings(max_examples=30, deadline=None)
@given(frames(), st.integers(0, 2), seeds)
def test_canonical_voxels_stay_where_they_were(frame, channels, seed):
    rng = np.random.default_rng(seed)
    array = rng.normal(size=(*frame.shape, *(2,) * channels))
    reordered, canonical = canonicalise(array, frame)
    assert reordered.shape[: frame.ndim] == canonical.shape
    index = rng.integers(0, canonical.shape, (10, frame.ndim))
    source = np.rint(to_index(frame, to_world(canonical, index))).astype(int)
    np.testing.assert_array_equal(reordered[tuple(index.T)], array[tuple(source.T)])
    np.testing.assert_allclose(
        to_world(frame, source), to_world(canonical, index), atol=1e-8
    )


@settings(max_examples=30, deadline=None)
@given(frames())
def test_canonical_direction_is_the_closest_to_identity(frame):
    d = frame.ndim
    _, canonical = canonicalise(np.zeros(frame.shape), frame)
    best = max(
        np.trace(direction_of(frame)[:, list(order)] * np.asarray(signs))
        for order in itertools.permutations(range(d))
        for signs in itertools.product((-1, 1), repeat=d)
    )
    assert np.trace(direction_of(canonical)) == pytest.approx(best, abs=1e-5)
    assert canonical_axes(canonical) == (tuple(range(d)), ())


@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 4])
@pytest.mark.parametrize("d", [2, 3])
def test_every_storage_order_ends_in_one_grid(d, angle):
    plain = Frame((4, 5, 6)[:d], (1, 2, 3)[:d], (7, 8, 9)[:d], rotation(d, angle))
    array = np.random.default_rng(0).normal(size=plain.shape)
    expected, canonical = canonicalise(array, plain)
    grid = isotropic_frame(canonical, 0.8)
    for order in itertools.permutations(range(d)):
        for flips in itertools.product((False, True), repeat=d):
            stored, frame = reorder(array, plain, order, np.flatnonzero(flips))
            found, same = canonicalise(stored, frame)
            np.testing.assert_array_equal(found, expected)
            assert_same_frame(same, canonical)
            assert_same_frame(isotropic_frame(same, 0.8), grid)


def reorder(array, frame, order, flips):
    """Store the same voxels otherwise, by corner points alone."""
    array = np.flip(array.transpose(order), flips)
    index = np.zeros((frame.ndim + 1, frame.ndim))
    index[1:] = np.eye(frame.ndim)
    for k in flips:
        index[:, k] = array.shape[k] - 1 - index[:, k]
    old = np.empty_like(index)
    old[:, list(order)] = index
    corner, *steps = to_world(frame, old)
    steps = np.array(steps)[::-1] - corner
    spacing = np.linalg.norm(steps, axis=1)
    return array, Frame(array.shape, spacing, corner, (steps / spacing[:, None]).T)


def assert_same_frame(a, b):
    assert a.shape == b.shape
    np.testing.assert_allclose(a.spacing, b.spacing, rtol=1e-12)
    np.testing.assert_allclose(a.origin, b.origin, atol=1e-9)
    np.testing.assert_allclose(a.direction, b.direction, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(frames(), st.floats(0.3, 8))
def test_isotropic_grid_covers_the_frame_about_its_centre(frame, spacing):
    grid = isotropic_frame(frame, spacing)
    assert grid.spacing == (spacing,) * frame.ndim
    assert grid.direction == frame.direction
    np.testing.assert_allclose(grid.centre, frame.centre, atol=1e-8)
    have = np.multiply(grid.shape, spacing)
    want = np.multiply(frame.shape, frame.spacing[::-1])
    assert (have >= want - 1e-5 * spacing).all()
    assert (have <= want + spacing).all()


@settings(max_examples=30, deadline=None)
@given(frames(), seeds)
def test_rebasing_is_a_rigid_change_of_coordinates(frame, seed):
    d = frame.ndim
    rng = np.random.default_rng(seed)
    reference = Frame(
        shape=rng.integers(1, 9, d),
        spacing=rng.uniform(0.5, 3, d),
        origin=rng.normal(size=d) * 100,
        direction=rotation(d, rng.uniform(-3, 3)),
    )
    plain, _ = rebase(reference, reference)
    np.testing.assert_allclose(direction_of(plain), np.eye(d), atol=1e-12)
    np.testing.assert_allclose(plain.centre, 0, atol=1e-9)
    moved, back = rebase(frame, reference)
    np.testing.assert_allclose(back[:d, :d] @ back[:d, :d].T, np.eye(d), atol=1e-12)
    index = some_indices(frame, seed=seed)
    mapped = to_world(moved, index) @ back[:d, :d].T + back[:d, d]
    np.testing.assert_allclose(mapped, to_world(frame, index), atol=1e-8)
