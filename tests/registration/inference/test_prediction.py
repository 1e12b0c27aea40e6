"""Networks with a margin: places of their vectors, and tiles against a single call."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from regnet_jax.registration.inference.prediction import predict
from tests.helpers.networks import fake, smooth_image

MARGIN, STRIDE = 26, 2


TILE = {2: 6, 3: 4}


def reader(d):
    """A network that shows the intensities: fixed first, moving last."""

    def apply(fixed, moving):
        cut = (
            slice(None),
            *(slice(MARGIN, n - MARGIN, STRIDE) for n in fixed.shape[1:-1]),
        )
        values = [fixed[cut]] * (d - 1) + [moving[cut]]
        return np.concatenate(values, axis=-1)

    return fake(d, 1.0, apply, tile=TILE[d])


def ramp(shape, slope):
    """HU that the network sees as ``slope @ index``."""
    return np.tensordot(slope, np.indices(shape), 1) * 4095.0 - 1000.0


@pytest.mark.parametrize(
    "shape", [(27, 41), (8, 9), (20, 3), (18, 19), (1, 30), (7, 12, 9), (2, 3, 16)]
)
def test_each_vector_lies_at_its_voxel(shape):
    d = len(shape)
    first, last = np.array([3e-3, 7e-3, -2e-3])[:d], np.array([-4e-3, 5e-3, 9e-3])[:d]
    images = [ramp(shape, slope) + 900.0 for slope in (first, last)]
    field = predict(reader(d), *images)
    assert field.shape == (*shape, d)
    assert field.dtype == np.float32
    expected = [(image + 1000.0) / 4095.0 for image in images]
    # The lattice point beyond the last voxel sees the continued image.
    inner = tuple(slice(n if n % 2 else n - 1) for n in shape)
    np.testing.assert_allclose(field[..., 0][inner], expected[0][inner], atol=2e-6)
    np.testing.assert_allclose(field[..., -1][inner], expected[1][inner], atol=2e-6)


@pytest.mark.parametrize("shape", [(27, 42), (9, 8), (33, 2)])
def test_tiles_equal_one_call_of_the_network(network2d, shape):
    images = [smooth_image(shape, seed) for seed in (0, 1)]
    use = dataclasses.replace(network2d.config, tile=TILE[2])
    network = dataclasses.replace(network2d, config=use)
    field = predict(network, *images)
    points = [-(-(n - 1) // STRIDE) + 1 for n in shape]
    # One window for all shapes, so that it is compiled once.
    window = 2 * MARGIN + 1 + STRIDE * 21
    pads = [(MARGIN, window - MARGIN - n) for n in shape]
    scaled = [np.clip((image + 1000) / 4095, 0, 1) for image in images]
    whole = [np.pad(s, pads, mode="edge")[None, ..., None] for s in scaled]
    apply = jax.jit(functools.partial(network.model.apply, train=False))
    lattice = np.asarray(apply(network.variables, *whole))[0]
    lattice = lattice[tuple(slice(n) for n in points)]
    assert lattice.std(axis=(0, 1)).min() > 0.05
    at_points = field[::STRIDE, ::STRIDE]
    n, m = at_points.shape[:2]
    np.testing.assert_allclose(at_points, lattice[:n, :m], atol=1e-4)
    between = (lattice[:-1] + lattice[1:])[: field[1::2].shape[0], :m] / 2
    np.testing.assert_allclose(field[1::2, ::2], between, atol=1e-4)


def test_intensities_beyond_the_range_of_scanners_are_clipped():
    extreme = np.full((9, 9), -3000.0)
    field = predict(reader(2), extreme, extreme + 20000.0)
    np.testing.assert_array_equal(field[..., 0], 0.0)
    np.testing.assert_array_equal(field[..., 1], 1.0)
