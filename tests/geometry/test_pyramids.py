"""Smoothing and pyramids against analytic cases and scipy.ndimage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage as ndi
from jax.test_util import check_grads

from regnet_jax.geometry import downsample, gaussian_smooth, upsample, warp

jit_smooth = jax.jit(gaussian_smooth)
jit_upsample = jax.jit(upsample, static_argnums=(1, 2))
jit_downsample = jax.jit(downsample, static_argnums=1)
jit_warp = jax.jit(warp)
SHAPES = [(9, 14), (1, 7), (6, 11, 8)]


def _volume(shape, channels=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(*shape, channels)).astype(np.float32)


def _grid(shape):
    return np.moveaxis(np.indices(shape), 0, -1).astype(np.float32)


def _renormalised(volume, sigma):
    """Smoothing that ignores what lies outside: a ratio of two zero-padded ones."""
    options = {"sigma": sigma, "mode": "constant", "truncate": 20}
    weight = ndi.gaussian_filter(np.ones(volume.shape[:-1]), **options)
    channels = np.moveaxis(volume.astype(np.float64), -1, 0)
    smooth = [ndi.gaussian_filter(c, **options) / weight for c in channels]
    return np.stack(smooth, axis=-1)


@pytest.mark.parametrize("sigma", [2.0, 50.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_smoothing_matches_scipy(shape, sigma):
    sigmas = [sigma, 0.5 * sigma, 1.5][: len(shape)]
    volume = _volume(shape)
    want = _renormalised(volume, sigmas)
    np.testing.assert_allclose(jit_smooth(volume, sigmas), want, atol=2e-6)


def test_width_of_the_smoothed_impulse_is_sigma_on_each_axis():
    impulse = np.zeros((31, 41, 1), np.float32)
    impulse[15, 20] = 1
    smooth = np.asarray(jit_smooth(impulse, [2.0, 3.0]))[..., 0]
    offset = _grid((31, 41)) - [15, 20]
    moments = np.tensordot(smooth, offset**2, axes=2)
    np.testing.assert_allclose(moments, [4, 9], rtol=1e-4)
    np.testing.assert_allclose(smooth.sum(), 1, rtol=1e-5)


def test_smoothing_by_zero_is_the_identity_and_constants_stay():
    volume = _volume((5, 6, 4))
    np.testing.assert_array_equal(jit_smooth(volume, [0.0, 0.0, 0.0]), volume)
    constant = np.full((5, 6, 4, 1), 7.5, np.float32)
    np.testing.assert_allclose(jit_smooth(constant, [3.0, 0.0, 40.0]), 7.5, rtol=1e-6)


def test_smoothing_takes_traced_and_batched_sigma():
    volumes = np.stack([_volume((9, 14), seed=s) for s in range(3)])
    sigmas = np.array([[0.5, 2.0], [0.0, 1.0], [3.0, 0.7]], np.float32)
    traces = []

    def smooth(volume, sigma):
        traces.append(None)
        return gaussian_smooth(volume, sigma)

    want = [_renormalised(v, s) for v, s in zip(volumes, sigmas, strict=True)]
    got = jax.jit(jax.vmap(smooth))(volumes, sigmas)
    np.testing.assert_allclose(got, np.stack(want), atol=2e-6)
    jitted = jax.jit(smooth)
    for sigma in sigmas:
        jitted(volumes[0], sigma)
    assert len(traces) == 2


def test_smoothing_gradients_in_volume_and_sigma_are_right():
    @jax.jit
    def total(sigma):
        return jnp.sum(jit_smooth(_volume((4, 5)), sigma) ** 2)

    assert np.isfinite(jax.grad(total)(jnp.zeros(2))).all()
    with jax.enable_x64(True):
        arguments = jnp.asarray(_volume((4, 5)), float), jnp.array([1.3, 0.7])
        check_grads(jit_smooth, arguments, 1, ["rev"], atol=1e-6, rtol=1e-6)


def blur(factor):
    """From one voxel wide at half height to as many as the factor."""
    return np.sqrt((factor**2 - 1) / (8 * np.log(2)))


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_downsample_matches_scipy_and_keeps_the_first_voxel(shape, factor):
    volume = _volume(shape)
    smooth = _renormalised(volume, [blur(factor)] * len(shape))
    want = smooth[(slice(None, None, factor),) * len(shape)]
    assert want.shape[:-1] == tuple(-(-n // factor) for n in shape)
    np.testing.assert_allclose(jit_downsample(volume, factor), want, atol=2e-6)


@pytest.mark.parametrize("factor", [2, 2.5])
@pytest.mark.parametrize("coarse", [(5, 4), (1, 3), (3, 4, 2)])
def test_upsample_matches_scipy(coarse, factor):
    array = _volume(coarse)
    shape = tuple(int((n - 1) * factor) + k for n, k in zip(coarse, (3, 1, 2)))  # noqa: B905
    points = np.moveaxis(_grid(shape), -1, 0) / factor
    channels = np.moveaxis(array.astype(np.float64), -1, 0)
    want = [ndi.map_coordinates(c, points, order=1, mode="nearest") for c in channels]
    got = jit_upsample(array, factor, shape)
    np.testing.assert_allclose(got, np.stack(want, axis=-1), atol=2e-6)


@pytest.mark.parametrize("factor", [2, 3])
def test_downsample_and_upsample_keep_every_voxel_in_place(factor):
    """A plane survives both, but for the border: no shift by half a voxel."""
    shape = (25, 31)
    plane = (_grid(shape) @ np.array([1.0, -2.0], np.float32))[..., None]
    coarse = jit_downsample(plane, factor)
    margin = 4 * factor
    inner = (slice(margin, -margin),) * 2
    want = plane[::factor, ::factor][4:-4, 4:-4]
    np.testing.assert_allclose(coarse[4:-4, 4:-4], want, atol=1e-3)
    back = jit_upsample(coarse, factor, shape)
    np.testing.assert_allclose(back[inner], plane[inner], atol=1e-3)


def test_field_of_coarse_voxels_times_the_factor_warps_the_fine_image():
    shape, factor = (24, 32), 2
    bump = lambda x: np.exp(-0.5 * np.sum((x - [11, 15]) ** 2, -1) / 16)[..., None]  # noqa: E731
    fine = bump(_grid(shape)).astype(np.float32)
    field = np.broadcast_to(np.float32([1.0, -2.0]), (12, 16, 2))
    up = factor * jit_upsample(field, factor, shape)
    got = jit_warp(fine, up)
    want = bump(_grid(shape) + np.array([2.0, -4.0]))
    np.testing.assert_allclose(got[5:-5, 5:-5], want[5:-5, 5:-5], atol=1e-5)
    down = jit_warp(jit_downsample(fine, factor), field)
    want = jit_downsample(want.astype(np.float32), factor)
    np.testing.assert_allclose(down[4:-4, 4:-4], want[4:-4, 4:-4], atol=1e-5)


def test_resampling_refuses_integers():
    volume = np.arange(20, dtype=np.int16).reshape(4, 5, 1)
    for function in (
        lambda v: gaussian_smooth(v, [1.0, 1.0]),
        lambda v: downsample(v, 2),
        lambda v: upsample(v, 2, (8, 10)),
    ):
        with pytest.raises(ValueError, match="floating"):
            jax.eval_shape(function, volume)


def test_resampling_gradients_are_right():
    function = jax.jit(lambda v: upsample(downsample(v, 2), 1.5, (4, 3, 5)))
    with jax.enable_x64(True):
        volume = jnp.asarray(_volume((4, 3, 5)), float)
        check_grads(function, (volume,), 1, ["rev"], atol=1e-6, rtol=1e-6)
