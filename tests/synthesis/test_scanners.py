"""Intensity models by what each of them must and must not do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage as ndi

from regnet_jax.synthesis.scanners import AIR, INTENSITY_MODELS, random_chain, sponge

SHAPES = {2: (31, 38), 3: (19, 22, 25)}
CASES = [(name, d) for name in INTENSITY_MODELS for d in SHAPES]


def _image(dimensions):
    rng = np.random.default_rng(dimensions)
    smooth = ndi.gaussian_filter(rng.normal(size=SHAPES[dimensions]), 2)
    return jnp.asarray(-400 + 3000 * smooth[..., None], jnp.float32)


@functools.cache
def _compiled(name):
    return jax.jit(functools.partial(INTENSITY_MODELS[name], spacing=4.0))


def _apply(name, image, seed=0):
    return np.asarray(_compiled(name)(jax.random.key(seed), image))


@pytest.mark.parametrize(("name", "dimensions"), CASES)
def test_intensity_models_change_the_image_a_little_and_by_the_key(name, dimensions):
    image = _image(dimensions)
    results = [_apply(name, image, seed) for seed in (1, 1, 2)]
    assert results[0].shape == image.shape
    assert np.isfinite(results[0]).all()
    np.testing.assert_array_equal(results[0], results[1])
    assert np.abs(results[0] - results[2]).max() > 1
    # The anatomy is still there.
    changed = np.abs(results[0] - image)
    assert np.median(changed) < 0.5 * float(jnp.std(image))


def test_sponge_conserves_mass():
    # A field that squeezes: one voxel of the fixed image shows 1.2 of the moving one.
    image = jnp.full((20, 21, 22, 1), -700.0)
    field = jnp.stack(
        [0.2 * jnp.broadcast_to(jnp.arange(20.0)[:, None, None], (20, 21, 22))]
        + [jnp.zeros((20, 21, 22))] * 2,
        -1,
    )
    key = jax.random.key(0)
    got = np.asarray(sponge(key, image, field))
    still = np.asarray(sponge(key, image, jnp.zeros_like(field)))
    np.testing.assert_allclose((got - AIR) / (still - AIR), 1.2, rtol=1e-5)
    assert 0.9 <= (still.flat[0] - AIR) / 300.0 <= 1.1
    air = sponge(key, jnp.full_like(image, AIR), field)
    np.testing.assert_array_equal(air, AIR)
    huge = np.asarray(sponge(key, image, 10.0 * field))
    np.testing.assert_allclose((huge - AIR) / (still - AIR), 1.3, rtol=1e-5)


def test_noise_has_the_moments_of_2019():
    flat = jnp.zeros((200, 200, 1))
    residues = np.stack([_apply("noise", flat, seed) for seed in range(12)])
    means = residues.mean(axis=(1, 2, 3))
    assert 3 < np.abs(means).max() <= 10.2
    np.testing.assert_allclose(residues.std(axis=(1, 2, 3)), 10.0, rtol=0.02)


def test_grain_is_of_up_to_fifty_hounsfield_units():
    flat = jnp.zeros((96, 96, 1))
    residues = np.stack([_apply("grain", flat, seed) for seed in range(16)])
    deviations = residues.std(axis=(1, 2, 3))
    assert deviations.max() <= 50.5
    assert 20 < deviations.max() > 3 * deviations.min()
    assert np.abs(residues.mean()) < 1.0


def test_occlusions_are_up_to_ten_ellipsoids():
    flat = jnp.full((64, 64, 1), 5000.0)
    count = []
    for seed in range(20):
        covered = np.abs(_apply("occlusions", flat, seed)[..., 0] - 5000) > 2500
        count.append(ndi.label(covered)[1])
    assert 0 <= min(count) < 3
    assert 4 <= max(count) <= 10


def test_contrast_keeps_air_and_order():
    ramp = jnp.linspace(-1100.0, 2000.0, 200)[:, None]
    for seed in range(4):
        got = _apply("contrast", ramp, seed)[:, 0]
        assert (np.diff(got) > 0).all()
        air = _apply("contrast", jnp.full_like(ramp, AIR), seed)
        np.testing.assert_allclose(air, AIR, atol=2)


def test_blur_matches_scipy():
    image = _image(2)
    got = _apply("blur", image, 3)[..., 0]
    sigmas = np.asarray(jax.random.uniform(jax.random.key(3), (2,))) * 1.5 / 4.0
    want = ndi.gaussian_filter(np.asarray(image[..., 0], np.float64), sigmas)
    inner = (slice(4, -4),) * 2
    np.testing.assert_allclose(got[inner], want[inner], atol=0.5)


def test_chain_applies_each_model_with_the_probability():
    def add(amount):
        return lambda key, image, *, spacing: image + amount

    chain = random_chain([add(1.0), add(10.0)], probability=0.25)
    keys = jax.random.split(jax.random.key(0), 400)
    run = jax.jit(jax.vmap(lambda key: chain(key, jnp.zeros((1, 1, 1)), spacing=1.0)))
    sums = np.asarray(run(keys)).ravel()
    values, counts = np.unique(sums, return_counts=True)
    np.testing.assert_array_equal(values, [0, 1, 10, 11])
    np.testing.assert_allclose(
        counts / 400, [0.5625, 0.1875, 0.1875, 0.0625], atol=0.07
    )
    nothing = random_chain(list(INTENSITY_MODELS.values()), probability=0.0)
    image = _image(2)
    np.testing.assert_array_equal(nothing(keys[0], image, spacing=4.0), image)
