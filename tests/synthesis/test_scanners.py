"""Intensity models by what each of them must and must not do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage as ndi

from regnet_jax.hounsfield import AIR
from regnet_jax.synthesis.scanners import (
    INTENSITY_MODELS,
    random_chain,
    slice_matrix,
    sponge,
)

SHAPES = {2: (31, 38), 3: (19, 22, 25)}
# What lies beside a patient has tests of its own; slices are of volumes.
CASES = [
    (name, d)
    for name in INTENSITY_MODELS
    for d in SHAPES
    if name not in ("table", "arms") and (name, d) != ("thick_slices", 2)
]


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


def _squeezed(rate, shape=(20, 21, 22)):
    """A field that shows ``1 + rate`` voxels of the moving image in a fixed one."""
    along = rate * jnp.broadcast_to(jnp.arange(shape[0])[:, None, None], shape)
    return jnp.stack([along, jnp.zeros(shape), jnp.zeros(shape)], -1)


def test_sponge_conserves_the_mass_of_lungs():
    key = jax.random.key(0)
    image = jnp.full((20, 21, 22, 1), -850.0)
    still = np.asarray(sponge(key, image, _squeezed(0.0)))
    # The blood that comes and goes.
    assert 0.9 <= (still.flat[0] - AIR) / 150.0 <= 1.1
    # A lung that breathes out to two thirds of its volume gets denser by a half; and
    # no lung to less than 1 / 2.5 of it, nor to more than twice.
    for rate, factor in ((0.2, 1.2), (0.5, 1.5), (2.5, 2.5), (-0.2, 0.8), (-0.7, 0.5)):
        got = np.asarray(sponge(key, image, _squeezed(rate)))
        np.testing.assert_allclose((got - AIR) / (still - AIR), factor, rtol=1e-4)
    air = sponge(key, jnp.full_like(image, AIR), _squeezed(0.5))
    np.testing.assert_array_equal(air, AIR)


@pytest.mark.parametrize(
    ("organ", "density"),
    [
        ("fat", -100.0),
        ("blood", 45.0),
        ("muscle", 50.0),
        ("liver", 60.0),
        ("bone", 700),
    ],
)
@pytest.mark.parametrize("rate", [-0.5, 0.5, 2.0])
def test_sponge_leaves_soft_tissue_within_5_hu(organ, density, rate):
    image = jnp.full((20, 21, 22, 1), density)
    got = sponge(jax.random.key(1), image, _squeezed(rate))
    assert np.abs(np.asarray(got) - density).max() <= 5.0, organ


def test_noise_has_the_moments_of_2019():
    flat = jnp.zeros((200, 200, 1))
    residues = np.stack([_apply("noise", flat, seed) for seed in range(12)])
    means = residues.mean(axis=(1, 2, 3))
    assert 3 < np.abs(means).max() <= 10.2
    np.testing.assert_allclose(residues.std(axis=(1, 2, 3)), 10.0, rtol=0.02)


@pytest.mark.parametrize("shape", [(96, 97), (30, 32, 34)])
def test_quantum_noise_has_its_level_and_grain(shape):
    run = jax.jit(functools.partial(INTENSITY_MODELS["quantum_noise"], spacing=1.0))
    water, air = jnp.zeros((*shape, 1)), jnp.full((*shape, 1), AIR)
    deviations, neighbours = [], []
    for seed in range(16):
        got = np.asarray(run(jax.random.key(seed), water))[..., 0]
        deviations.append(got.std())
        neighbours.append(np.corrcoef(got[1:].ravel(), got[:-1].ravel())[0, 1])
        # In air 0.4 of the noise in water.
        thin = np.asarray(run(jax.random.key(seed), air)) - AIR
        assert thin.std() == pytest.approx(0.4 * got.std(), rel=0.05)
    assert 25 < max(deviations) <= 41
    assert max(deviations) > 3 * min(deviations)
    # A Gaussian of 1.2 voxels: exp(-1 / (4 * 1.2 ** 2)) between neighbours.
    assert min(neighbours) < 0.1
    assert 0.6 < max(neighbours) < np.exp(-1 / (4 * 1.2**2)) + 0.03


@pytest.mark.parametrize(
    ("thickness", "distance", "offset"),
    [(0.3, 1.0, 0.0), (1.0, 1.0, -0.4), (2.5, 2.5, -1.0), (3.0, 1.5, -0.7)],
)
def test_slices_are_averages_that_are_interpolated_linearly(
    thickness, distance, offset
):
    size = 23
    profile = np.random.default_rng(0).normal(size=size)
    got = np.asarray(slice_matrix(size, thickness, distance, offset)) @ profile
    # By fine steps between voxels, of those that lie within the volume.
    places = np.clip(offset + distance * np.arange(size + 2), 0, size - 1)
    steps = (np.arange(2000) + 0.5) / 2000 - 0.5
    fine = places[:, None] + thickness * steps
    padded = np.pad(profile, 1)
    tents = np.interp(fine, np.arange(-1, size + 1), padded)
    mass = np.interp(fine, np.arange(-1, size + 1), np.pad(np.ones(size), 1))
    slices = tents.sum(1) / mass.sum(1)
    want = np.interp(np.arange(size), offset + distance * np.arange(size + 2), slices)
    np.testing.assert_allclose(got, want, atol=5e-3)


def test_thick_slices_shift_nothing():
    """A ramp along the body stays where it is, away from the ends."""
    ramp = jnp.broadcast_to(jnp.arange(40.0)[:, None, None, None], (40, 3, 4, 1))
    for seed in range(8):
        got = _apply("thick_slices", 10.0 * ramp, seed)
        np.testing.assert_allclose(got[4:-4], 10.0 * ramp[4:-4], atol=0.02)
    plane = _image(2)
    np.testing.assert_array_equal(_apply("thick_slices", plane), plane)


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
