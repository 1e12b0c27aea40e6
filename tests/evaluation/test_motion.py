"""Statistics of motions at scattered points, against motions known analytically."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regnet_jax.evaluation import (
    motion_statistics,
    orient_to_expansion,
    scattered_jacobian,
)

SIDE = 160.0
SEEDS = st.integers(0, 2**31)


def scattered(count, seed=0, sides=(SIDE, 0.7 * SIDE, 1.5 * SIDE)):
    """Points in an oblong box far from the origin, mm."""
    points = np.random.default_rng(seed).uniform(0, sides, (count, 3))
    return points + np.array([-50.0, 80.0, -900.0])


@settings(deadline=None, max_examples=15)
@given(seed=SEEDS)
def test_an_affine_motion_has_its_determinant_and_nothing_irregular(seed):
    rng = np.random.default_rng(seed)
    points = scattered(75, seed)
    matrix, shift = rng.uniform(-0.2, 0.2, (3, 3)), rng.uniform(-30, 30, 3)
    moves = (points - points.mean(axis=0)) @ matrix.T + shift
    determinant = np.linalg.det(np.eye(3) + matrix)
    found = motion_statistics(points, moves)
    lengths = np.sqrt((moves**2).sum(axis=1))
    assert found.mean == pytest.approx(lengths.mean())
    assert found.max == pytest.approx(lengths.max())
    assert found.mean <= found.p95 <= found.max
    assert found.head_feet + found.front_back + found.left_right == pytest.approx(1)
    ends = found.jacobian_p5, found.jacobian_median, found.jacobian_p95
    np.testing.assert_allclose(ends, determinant, rtol=1e-6)
    assert found.irregular < 1e-9
    assert np.isnan(found[-3:]).all()
    # In the direction of growth, the same map or its inverse.
    turned, back = orient_to_expansion(points, moves)
    grown = scattered_jacobian(turned, back)
    np.testing.assert_allclose(grown, max(determinant, 1 / determinant), rtol=1e-6)
    if determinant < 1:
        np.testing.assert_allclose(turned + back, points)


@pytest.mark.parametrize("axis", range(3))
def test_a_shift_has_one_direction_and_no_profile(axis):
    moves = np.zeros((61, 3))
    moves[:, axis] = -7.0
    found = motion_statistics(scattered(61), moves)
    assert found[:3] == pytest.approx((7, 7, 7))
    directions = (found.left_right, found.front_back, found.head_feet)
    assert directions == tuple(float(k == axis) for k in range(3))
    profile = (found.quarter_2, found.quarter_3, found.quarter_4)
    if axis == 2:
        assert profile == (1, 1, 1)
    else:
        assert np.isnan(profile).all()


def test_no_motion_has_no_directions():
    found = motion_statistics(scattered(61), np.zeros((61, 3)))
    assert found[:3] == (0, 0, 0)
    assert found.jacobian_median == pytest.approx(1)
    assert np.isnan((*found[3:9], *found[12:])).all()


def test_the_profile_is_that_of_the_quarters_of_the_height():
    points = scattered(400)
    height = np.interp(points[:, 2], np.percentile(points[:, 2], (2, 98)), (0, 1))
    quarter = np.minimum((4 * height).astype(int), 3)
    moves = np.zeros_like(points)
    moves[:, 2] = np.array([-20.0, 15.0, -4.0, 1.0])[quarter]
    found = motion_statistics(points, moves)
    profile = (found.quarter_2, found.quarter_3, found.quarter_4)
    assert profile == pytest.approx((0.75, 0.2, 0.05))


def test_the_determinant_of_a_curved_motion_is_found_within_the_points():
    """A motion whose determinant differs from place to place."""
    points = scattered(700)
    middle = points.mean(axis=0)
    x, y, z = ((points - middle) / SIDE).T
    moves = SIDE * np.stack([0.1 * y * z, 0.2 * y**2, 0.1 * z + 0.1 * x**2], axis=-1)
    slopes = np.zeros((len(points), 3, 3))
    slopes[:, 0, 1], slopes[:, 0, 2] = 0.1 * z, 0.1 * y
    slopes[:, 1, 1] = 0.4 * y
    slopes[:, 2, 0], slopes[:, 2, 2] = 0.2 * x, 0.1
    expected = np.linalg.det(np.eye(3) + slopes)
    inside = (np.abs(points - middle) < 0.4 * np.ptp(points, axis=0)).all(axis=1)
    assert np.ptp(expected[inside]) > 0.2
    error = scattered_jacobian(points, moves)[inside] - expected[inside]
    assert np.abs(error).max() < 0.03


def test_the_irregular_part_is_what_is_left_beside_an_affine_motion():
    """Four whole turns along z; their mean over all directions is a sinc."""
    points = scattered(900, sides=(320.0, 320.0, 320.0))
    wave = 2 * np.pi / 80.0
    angle = wave * points[:, 2]
    moves = np.stack([3 * np.sin(angle), 3 * np.cos(angle), np.full(900, 4)], axis=-1)
    found = motion_statistics(points, moves)
    assert found.irregular == pytest.approx(0.6, abs=0.03)
    # np.sinc has a factor of pi in its argument.
    expected = np.sinc(wave * np.array([10.0, 32.5, 60.0]) / np.pi)
    np.testing.assert_allclose(found[-3:], expected, atol=0.1)


def test_correlations_are_means_over_pairs_of_points():
    points = scattered(80)
    moves = np.random.default_rng(1).normal(size=(80, 3))
    terms = np.column_stack([np.ones(80), points])
    rest = moves - terms @ (np.linalg.pinv(terms) @ moves)
    found = motion_statistics(points, moves)
    for value, (low, high) in zip(
        found[-3:], ((5, 15), (25, 40), (50, 70)), strict=True
    ):
        pairs = [
            (rest[i], rest[j])
            for i, j in itertools.combinations(range(80), 2)
            if low <= np.linalg.norm(points[i] - points[j]) < high
        ]
        assert pairs
        square = np.mean([(a @ a + b @ b) / 2 for a, b in pairs])
        assert value == pytest.approx(np.mean([a @ b for a, b in pairs]) / square)


@pytest.mark.parametrize(
    ("points", "fact"),
    [
        (scattered(59), "59 points"),
        (scattered(80) * [1, 1, 0], "one plane"),
        # Two slices, each with all the neighbours of its points.
        (np.round(scattered(200) / [1, 1, 240]) * [1, 1, 5000], "[Ss]ingular"),
    ],
)
def test_points_that_do_not_suffice_are_refused(points, fact):
    with pytest.raises(ValueError, match=fact):
        scattered_jacobian(points, np.ones_like(points))
