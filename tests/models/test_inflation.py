"""Where nothing changes along z, an inflated network is the 2D network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.geometry.slices import SLICE_AXES
from regnet_jax.models import HALVES, inflate, inflate_planes, make_model
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


def drawn(name, dimensions, seed):
    """A network, and weights that keep the size of what they are given."""
    model = make_model(name, dimensions=dimensions)
    image = jax.ShapeDtypeStruct((1, *(53,) * dimensions, 1), np.float32)
    init = functools.partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), image, image)
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        kind = path[-1].key
        if kind in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        spread = 0.1 if kind != "kernel" else np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return (spread * rng.normal(size=leaf.shape)).astype(np.float32)

    return model, jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.mark.parametrize(
    ("network", "names"),
    [
        ("regnet", ("axial", "coronal")),
        ("regnet", ("sagittal", "axial")),
        ("regnet_single", ("coronal", "sagittal")),
    ],
)
def test_two_planes_predict_all_components_of_extruded_slices(network, names):
    """Each exactly that of its network, alone or as the mean of both."""
    (model, first), (_, second) = (drawn(HALVES[network], 2, seed) for seed in (0, 1))
    planes = dict(zip(names, (first, second), strict=True))
    volume, fresh = drawn(network, 3, 2)
    inflated = inflate_planes(planes, fresh, noise=0.0)
    predict = jax.jit(functools.partial(model.apply, train=False))
    whole = jax.jit(functools.partial(volume.apply, train=False))
    slices = np.random.default_rng(5).uniform(size=(2, 1, 53, 55, 1)).astype(np.float32)
    for name, other in (names, names[::-1]):
        across, apart = SLICE_AXES[name], SLICE_AXES[other]
        # The component that the other network does not predict.
        want = predict(planes[name], *slices)
        within = [axis for axis in range(3) if axis != across]
        volumes = np.repeat(np.expand_dims(slices, 2 + across), 53, 2 + across)
        got = np.take(np.asarray(whole(inflated, *volumes)), 0, 1 + across)
        np.testing.assert_allclose(
            got[..., apart], want[..., within.index(apart)], atol=1e-4
        )
        assert np.std(want) > 0.1


def test_planes_leave_noise_where_neither_has_weights():
    planes = {
        axis: drawn("regnet_half", 2, seed)[1]
        for seed, axis in enumerate(("axial", "coronal"))
    }
    fresh = variables(3)
    silent, noisy = (inflate_planes(planes, fresh, noise=n) for n in (0.0, 0.5))
    kernels = [tree["params"]["Conv_7"]["kernel"] for tree in (silent, noisy)]
    given = kernels[0] != 0
    # One tap in three of a quarter of the channels for each network.
    assert given.sum() == 9 * (12 * 15 * 2)
    np.testing.assert_array_equal(kernels[1][given], kernels[0][given])
    rest = 0.5 * fresh["params"]["Conv_7"]["kernel"]
    np.testing.assert_allclose(kernels[1][~given], rest[~given])
