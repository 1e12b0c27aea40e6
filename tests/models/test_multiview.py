"""Decimation and upsampling in the networks of three resolutions."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import interpolate, ndimage

from regnet_jax.models.layers.blocks import (
    crop_centre,
    upsample_centres,
    upsample_nodes,
)
from regnet_jax.models.multiview import decimate


@pytest.mark.parametrize(("factor", "shape"), [(2, (19, 24)), (4, (27, 31, 23))])
def test_decimation_smooths_by_a_b_spline_and_keeps_every_nth_voxel(factor, shape):
    image = np.random.default_rng(0).normal(size=shape)
    spline = interpolate.BSpline.basis_element(np.arange(-2, 3), extrapolate=False)
    weights = spline(np.arange(1 - 2 * factor, 2 * factor) / factor) / factor
    want = image
    for axis in range(len(shape)):
        want = ndimage.correlate1d(want, weights, axis)
    first = 2 * factor - 1
    want = want[tuple(slice(first, n - first, factor) for n in shape)]
    got = decimate(jnp.asarray(image[None, ..., None], jnp.float32), factor)
    np.testing.assert_allclose(got[0, ..., 0], want, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 4), (3, 6, 2)])
def test_upsampling_is_exact_for_linear_functions(shape):
    slope = np.array([2.0, -3.0, 0.5])[: len(shape)]
    coarse = np.tensordot(slope, np.indices(shape), 1)[None, ..., None]
    for upsample, offset, sizes in (
        (upsample_nodes, 0.0, [2 * n - 1 for n in shape]),
        (upsample_centres, 0.25, [2 * n - 2 for n in shape]),
    ):
        places = np.indices(sizes) / 2 + offset
        want = np.tensordot(slope, places, 1)
        got = upsample(jnp.asarray(coarse, jnp.float32))[0, ..., 0]
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_crop_centre_takes_even_differences_only():
    x = jnp.arange(7.0).reshape(1, 7, 1)
    np.testing.assert_array_equal(crop_centre(x, [3]).ravel(), [2, 3, 4])
    for size in (4, 9):
        with pytest.raises(ValueError, match="no middle"):
            crop_centre(x, [size])
