"""Crops of scans whose values tell which scan, and which place in it, was read."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.hounsfield import AIR
from regnet_jax.synthesis.volumes.scans import ScanBank, crop

# Of the scans, and of the crops: odd, even and unequal.
SCAN = {2: (60, 67), 3: (33, 40, 36)}
SHAPE = {2: (9, 14), 3: (6, 7, 5)}
POISON = 30000


@functools.partial(jax.jit, static_argnames="shape")
def _crop(key, scans, shape):
    return crop(key, scans, shape)


def _scans(*volumes, behind=AIR):
    """Volumes ``[*spatial]``, one after the other."""
    sizes = np.array([v.shape for v in volumes], np.int32)
    images = np.full((len(volumes), *sizes.max(0), 1), behind, volumes[0].dtype)
    for image, volume in zip(images, volumes, strict=True):
        image[tuple(slice(n) for n in volume.shape)] = volume[..., None]
    return ScanBank(jnp.asarray(images), jnp.asarray(sizes))


@functools.cache
def _places(dimensions, seed):
    """Where in the scan each voxel of a crop was read, ``[*shape, d]``."""
    ramps = np.indices(SCAN[dimensions]).astype(np.float32)
    key, shape = jax.random.key(seed), SHAPE[dimensions]
    parts = [_crop(key, _scans(ramp), shape) for ramp in ramps]
    return np.concatenate(parts, -1).astype(np.float64)


def _map(dimensions, seed):
    """The matrix by which a crop was read, and its centre."""
    shape, places = SHAPE[dimensions], _places(dimensions, seed)
    index = np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) / 2
    index, places = index.reshape(-1, dimensions), places.reshape(-1, dimensions)
    ones = np.ones((len(index), 1))
    fit, *_ = np.linalg.lstsq(np.concatenate([index, ones], 1), places)
    np.testing.assert_allclose(index @ fit[:-1] + fit[-1], places, atol=1e-3)
    return fit[:-1].T, fit[-1]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_crops_are_rotated_scaled_and_of_either_side(dimensions):
    maps, centres = zip(*(_map(dimensions, seed) for seed in range(12)), strict=True)
    middle = (np.array(SCAN[dimensions]) - 1) / 2
    offsets = np.abs(np.array(centres) / middle - 1)
    assert offsets.max() <= 0.8
    assert offsets.max(0).min() > 0.3
    # Of the last axis, half of the time.
    sides = np.sign([np.linalg.det(m) for m in maps])
    assert {-1, 1} == set(sides)
    scales = []
    for matrix, side in zip(maps, sides, strict=True):
        matrix = matrix * np.append(np.ones(dimensions - 1), side)
        scale = np.diag(matrix)
        scales.append(scale)
        turn = matrix / scale - np.eye(dimensions)
        np.testing.assert_allclose(turn, -turn.T, atol=1e-3)
        assert 0.001 < np.abs(turn).max() <= 0.15 + 1e-3
    assert 1 / 1.2 - 1e-3 <= np.min(scales) < 0.95
    assert 1.05 < np.max(scales) <= 1.2 + 1e-3


@pytest.mark.parametrize("dimensions", [2, 3])
def test_crop_values_are_those_of_the_scan_and_depend_on_the_key_alone(dimensions):
    rng = np.random.default_rng(0)
    volume = rng.integers(-900, 400, SCAN[dimensions]).astype(np.int16)
    scans, shape = _scans(volume), SHAPE[dimensions]
    crops = [_crop(jax.random.key(seed), scans, shape) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(crops[0], crops[1])
    assert np.abs(crops[0] - crops[2]).max() > 100
    for part in crops:
        assert part.shape == (*shape, 1)
        assert part.dtype == jnp.float32
        seen = np.asarray(part)[np.asarray(part) != AIR]
        assert volume.min() <= seen.min() < seen.max() <= volume.max()


@pytest.mark.parametrize(
    ("small", "shape"), [((7, 6), (40, 37)), ((5, 8, 6), (20,) * 3)]
)
def test_crop_of_a_small_scan_is_surrounded_by_air(small, shape):
    d = len(small)
    # A larger scan leaves room behind the small one, which is filled up to the voxel
    # at its end: between two voxels both are seen.
    scans = _scans(np.zeros(np.add(small, 9), np.float32))
    images = np.full_like(scans.images, POISON)
    images[(0, *(slice(n + 1) for n in small))] = AIR
    images[(0, *(slice(n) for n in small))] = 40.0
    scans = ScanBank(jnp.asarray(images), jnp.asarray([small], jnp.int32))
    for seed in range(5):
        part = np.asarray(_crop(jax.random.key(seed), scans, shape))[..., 0]
        assert AIR <= part.min() < part.max() <= 40.001
        border = np.ones(shape, bool)
        border[(slice(4, -4),) * d] = False
        assert (part[border] == AIR).all()
        # As many voxels as the scan has, up to the scaling.
        inside = (part > AIR).sum() / np.prod(small)
        assert 1.3**-d < inside < 1.4**d


def test_every_scan_is_sampled_by_its_own_size():
    # Constant scans of several sizes, in a stack whose rest is poison.
    sizes = [(30, 34), (34, 31), (40, 40)]
    values = [-700.0, 40.0, 300.0]
    volumes = [np.full(n, v, np.float32) for n, v in zip(sizes, values, strict=True)]
    scans = _scans(*volumes, behind=POISON)
    keys = jax.random.split(jax.random.key(0), 90)
    parts = jax.jit(jax.vmap(lambda key: crop(key, scans, (3, 4))))(keys)
    # Crops this small lie inside.
    found, counts = np.unique(np.asarray(parts).round(), return_counts=True)
    np.testing.assert_array_equal(found, values)
    assert counts.min() > 15 * 12
