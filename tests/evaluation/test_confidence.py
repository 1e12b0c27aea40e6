"""The estimated error: bounds of voxels and regions against scipy's distributions."""

import numpy as np
import pytest
from scipy import stats

from regnet_jax.errors import InputError
from regnet_jax.evaluation import ErrorEstimate
from regnet_jax.spatial import Frame

SHAPES = [(7, 5), (4, 7, 5)]


def frame_of(shape, spacing=2.0):
    d = len(shape)
    return Frame(shape, (spacing,) * d, (1.0,) * d, np.eye(d))


def estimate(shape, seed=0):
    rng = np.random.default_rng(seed)
    mean, width = rng.normal(size=shape), rng.uniform(0.2, 1.2, shape)
    return ErrorEstimate(mean, width, rng.uniform(size=shape) < 0.8, frame_of(shape))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fraction", [0.5, 0.95])
def test_bounds_are_quantiles_of_a_log_normal_distribution(shape, fraction):
    errors = estimate(shape)
    want = stats.lognorm.ppf(fraction, s=errors.log_sd, scale=np.exp(errors.log_mean))
    got = errors.bound(fraction)
    np.testing.assert_allclose(got[errors.known], want[errors.known], rtol=1e-5)
    assert np.isinf(got[~errors.known]).all()


@pytest.mark.parametrize("fraction", [0.5, 0.95])
def test_bound_of_a_region_is_the_quantile_of_its_errors(fraction):
    errors = estimate((9, 8, 7))
    region = np.random.default_rng(1).uniform(size=(9, 8, 7)) < 0.5
    inside = region & errors.known
    rng = np.random.default_rng(2)
    drawn = np.exp(
        rng.normal(errors.log_mean[inside], errors.log_sd[inside], (4000, inside.sum()))
    )
    got = errors.bound_within(region, fraction)
    assert got == pytest.approx(np.quantile(drawn, fraction), rel=0.01)


def test_bound_of_a_region_of_one_voxel_is_that_of_the_voxel():
    errors = estimate((7, 5))
    region = np.zeros((7, 5), bool)
    region[np.unravel_index(np.argmax(errors.known), (7, 5))] = True
    assert errors.bound_within(region) == pytest.approx(errors.bound()[region][0])


def test_bound_of_a_region_that_is_unknown_is_missing():
    errors = estimate((7, 5))
    assert np.isnan(errors.bound_within(~errors.known))


@pytest.mark.parametrize("shape", SHAPES)
def test_an_estimate_is_interpolated_on_another_grid(shape):
    """Linear functions of the place stay what they are, and the unknown unknown."""
    d = len(shape)
    at = np.stack(np.indices(shape), -1)[..., ::-1] * 2.0 + 1.0  # mm, x first
    ramp = at @ np.arange(1, d + 1) / 10
    known = at[..., 0] < 6.0
    errors = ErrorEstimate(ramp, 0.3 + 0.01 * ramp, known, frame_of(shape))
    fine = Frame((7,) * d, (0.7,) * d, (2.45,) * d, np.eye(d))
    got = errors.on(fine)
    at = np.stack(np.indices(fine.shape), -1)[..., ::-1] * 0.7 + 2.45
    want = at @ np.arange(1, d + 1) / 10
    np.testing.assert_allclose(got.log_mean, want, rtol=1e-5)
    np.testing.assert_allclose(got.log_sd, 0.3 + 0.01 * want, rtol=1e-5)
    # Known up to the voxel at 5 mm, halfway to the next one at 7 mm.
    np.testing.assert_array_equal(got.known, at[..., 0] < 6.0)
    assert got.frame == fine


def test_masks_of_labels_are_regions_and_other_grids_are_refused():
    errors = estimate((7, 5))
    region = np.zeros((7, 5), np.uint8)
    region[2:4] = 2
    want = errors.bound_within(region == 2)
    assert errors.bound_within(region) == errors.bound_within(1.0 * region) == want
    with pytest.raises(InputError, match=r"shape \(5, 7\).*errors.on"):
        errors.bound_within(region.T)
