"""Volumes of random regions: what they are made of, and that no two are alike."""

import functools

import jax
import numpy as np
import pytest
import scipy.ndimage as ndi

from regnet_jax.synthesis import random_regions

SHAPES = {2: (96, 80), 3: (40, 48, 44)}


jitted = jax.jit(random_regions, static_argnames=("shape", "spacing"))


@functools.cache
def _draw(dimensions, seed):
    shape = SHAPES[dimensions]
    return np.asarray(jitted(jax.random.key(seed), shape=shape, spacing=3.0))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_regions_are_finite_varied_and_functions_of_the_key(dimensions):
    drawn = [_draw(dimensions, seed) for seed in range(4)]
    for volume in drawn:
        assert volume.shape == (*SHAPES[dimensions], 1)
        assert np.isfinite(volume).all()
        assert -1000 <= volume.min() < volume.max() <= 3000
        assert volume.std() > 80
    for a in range(4):
        for b in range(a):
            assert np.abs(drawn[a] - drawn[b]).mean() > 50


@pytest.mark.parametrize("dimensions", [2, 3])
def test_regions_are_blocks_with_edges_not_a_blur(dimensions):
    """Most of a volume is flat, and a small part of it steep."""
    flat, steep = [], []
    for seed in range(4):
        image = _draw(dimensions, seed)[..., 0]
        slope = ndi.gaussian_gradient_magnitude(image, 1.0) / 3.0
        flat.append(np.mean(slope < 12))
        steep.append(np.mean(slope > 40))
    assert np.mean(flat) > 0.4
    assert 0.01 < np.mean(steep) < 0.3


def test_some_regions_lie_in_air_and_some_fill_the_volume():
    corners = [_draw(2, seed)[0, 0, 0] for seed in range(12)]
    assert 3 <= np.sum(np.array(corners) < -990) <= 11
