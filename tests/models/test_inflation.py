"""Where nothing changes along z, an inflated network is the 2D network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.models import inflate, make_model
from tests.helpers.networks import config, untrained


@functools.cache
def variables(dimensions):
    return untrained(config(dimensions, 2.0)).variables


def test_inflated_network_predicts_extruded_slices_as_the_2d_network():
    rng = np.random.default_rng(0)
    slices = rng.uniform(size=(2, 1, 55, 57, 1)).astype(np.float32)
    plane = make_model("regnet", dimensions=2)
    predict = jax.jit(functools.partial(plane.apply, train=False))
    want = predict(variables(2), *slices)
    inflated = inflate(variables(2), variables(3), noise=0.0)
    extruded = np.repeat(slices[:, :, None], 53, axis=2)
    model = make_model("regnet", dimensions=3)
    got = jax.jit(functools.partial(model.apply, train=False))(inflated, *extruded)
    np.testing.assert_allclose(got[:, 0, ..., 1:], want, atol=2e-4)
    # The last kernel has no entry for z, its bias keeps the fresh one: 1 voxel.
    np.testing.assert_allclose(got[..., 0], 1.0, atol=1e-6)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_inflation_randomises_new_weights_alone(noise):
    inflated = inflate(variables(2), variables(3), noise=noise)

    def check(path, got, plane, fresh):
        assert got.shape == fresh.shape
        if path[-1].key != "kernel":
            start = fresh.shape[0] - plane.shape[0]
            np.testing.assert_array_equal(got[start:], plane)
            np.testing.assert_array_equal(got[:start], fresh[:start])
            return
        middle = fresh.shape[0] // 2
        start = fresh.shape[-1] - plane.shape[-1]
        np.testing.assert_array_equal(got[middle, ..., start:], plane)
        others = np.delete(got, middle, axis=0)
        np.testing.assert_allclose(others, noise * np.delete(fresh, middle, axis=0))
        np.testing.assert_allclose(
            got[middle, ..., :start], noise * fresh[middle, ..., :start]
        )

    volume = jax.tree.map(jnp.asarray, variables(3))
    jax.tree_util.tree_map_with_path(check, inflated, variables(2), volume)
