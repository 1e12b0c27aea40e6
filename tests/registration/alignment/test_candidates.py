"""All shifts at once, against the same correlations one by one."""

import numpy as np
import pytest

from regnet_jax.registration.alignment.candidates import (
    likely_shifts,
    masked_correlation,
)

SHAPES = {2: ((5, 7), (6, 4)), 3: ((3, 4, 5), (4, 2, 3))}


def overlapping(fixed, fixed_mask, moving, moving_mask, shift):
    """The values that lie on each other."""
    pairs = []
    for index in np.argwhere(fixed_mask):
        other = index + shift
        if (other < 0).any() or (other >= moving.shape).any():
            continue
        if moving_mask[tuple(other)]:
            pairs.append((fixed[tuple(index)], moving[tuple(other)]))
    return np.array(pairs).reshape(-1, 2)


@pytest.mark.parametrize("d", [2, 3])
def test_masked_correlation_equals_the_correlation_of_each_overlap(d):
    rng = np.random.default_rng(d)
    images = [rng.normal(100.0, 30.0, shape) for shape in SHAPES[d]]
    masks = [rng.random(shape) > 0.2 for shape in SHAPES[d]]
    given = images[0], masks[0], images[1], masks[1]
    found, count = masked_correlation(*given)
    assert found.shape == tuple(np.add(*SHAPES[d]) - 1)
    compared = 0
    for place in np.ndindex(*found.shape):
        values = overlapping(*given, np.subtract(place, np.array(SHAPES[d][0]) - 1))
        assert count[place] == len(values)
        if len(values) > 2:
            expected = np.corrcoef(values.T)[0, 1]
            assert found[place] == pytest.approx(expected, abs=1e-9)
            compared += 1
    assert compared > 20


@pytest.mark.parametrize("contrast", [1.0, -2.0])
def test_likely_shifts_align_parts_of_one_image(contrast):
    rng = np.random.default_rng(0)
    scene = np.cumsum(np.cumsum(rng.normal(size=(40, 50)), 0), 1)
    fixed, moving = scene[:25, :41], contrast * scene[11:, 9:] + 7.0
    masks = np.ones(fixed.shape, bool), np.ones(moving.shape, bool)
    found = likely_shifts(fixed, masks[0], moving, masks[1], most=2)
    np.testing.assert_array_equal(found[0], (-11, -9))


def test_constant_images_give_shifts_as_well():
    flat, mask = np.ones((6, 6)), np.ones((6, 6), bool)
    assert len(likely_shifts(flat, mask, flat, mask, most=3)) == 3
