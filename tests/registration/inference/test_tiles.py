"""Tiles: their places, their memory, and fields without seams."""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax import load_network
from regnet_jax.errors import InputError
from regnet_jax.geometry import jacobian_determinant
from regnet_jax.models import MODELS, make_model
from regnet_jax.registration.inference.network import Network
from regnet_jax.registration.inference.passes import (
    in_both_orders,
    run_passes,
    whole_pass,
)
from regnet_jax.registration.inference.prediction import predict
from regnet_jax.registration.inference.tile_plan import (
    bytes_per_voxel,
    plan_equal,
    plan_tiles,
)
from regnet_jax.registration.inference.tiles import (
    _predict_tile,
    predict_lattice,
    tiled_pass,
)
from tests.helpers.networks import dense, smooth_image


def gentle(dimensions, scales, extra_pass, errors):
    """A CorrNet that nobody trained, whose displacements do not fold."""
    attributes = {"extra_pass": extra_pass, "estimates_errors": errors}
    network = dense(dimensions, 1.0, scales, **attributes)

    def weaken(leaf):
        return 0.02 * leaf if leaf.shape[-1:] == (dimensions,) else leaf

    return dataclasses.replace(
        network, variables=jax.tree.map(weaken, network.variables)
    )


def scaled(shape):
    images = [smooth_image(shape, seed) for seed in (0, 1)]
    return [np.clip((image + 1000) / 4095, 0, 1).astype(np.float32) for image in images]


@pytest.mark.parametrize(
    ("shape", "scales", "extra_pass", "hidden", "errors", "both"),
    [
        ((303, 270), (1.0,), False, False, False, False),
        ((303, 270), (1.0, 2.0), True, True, False, False),
        ((303, 270), (1.0, 2.0), True, True, True, False),
        ((303, 272), (1.0, 2.0), False, True, True, True),
        ((9, 12, 304), (1.0, 2.0), False, True, False, True),
        ((9, 12, 301), (1.0, 3.0), True, False, True, False),
    ],
)
@pytest.mark.slow
def test_passes_by_tiles_equal_passes_over_whole_images(
    shape, scales, extra_pass, hidden, errors, both
):
    network = gentle(len(shape), scales, extra_pass, errors)
    images = scaled(shape)
    images = [image[..., None] for image in images]
    if hidden:
        shown = np.ones((2, *shape, 1), np.float32)
        shown[0, ..., :40, :], shown[1, ..., -70:, :] = 0.0, 0.0
        images = [np.concatenate(pair, -1) for pair in zip(images, shown, strict=True)]
    factors, shrinkage = network.config.factors, network.config.shrinkage
    if errors:  # Those of random weights are large, and would shrink all to nothing.
        shrinkage = 0.01
    found = []

    def step(fixed, moving):
        given = network.predict_patch(fixed, moving)
        assert (given[1] is not None) == errors
        found.append(given[0])
        return given

    def passes(make, **options):
        return [
            make(shrinkage=shrinkage, pooled=factor > 1, **options)
            for factor in factors
        ]

    least = 184 ** len(shape) if len(shape) == 2 else 16 * 16 * 184
    memory = least * bytes_per_voxel(network.model, both_orders=both) / 2**30
    got = run_passes(
        passes(functools.partial(tiled_pass, network), memory=memory, both_orders=both),
        *images,
        factors=factors,
    )
    predicted = in_both_orders(step) if both else step
    whole = passes(functools.partial(whole_pass, predicted))
    want = run_passes(whole, *images, factors=factors)
    # Where a field folds, it tears apart what differs by rounding.
    for field in (*found, want):
        assert jacobian_determinant(field).min() > 0.3
    # Random weights take both orders for much the same.
    assert (0.002 if both else 0.05) < np.std(want) < 20
    np.testing.assert_allclose(got, want, atol=3e-5)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.slow
def test_the_memory_that_is_planned_for_a_tile_is_what_xla_needs(both, channels):
    """By the buffers of the compiled program of the network that ships."""
    network, shape = load_network("lung"), (64, 64, 64)

    def stub(*shape, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(shape, dtype)

    images = stub(*shape, channels), stub(*shape, channels)
    places = stub(32, 32, 32, 3), stub(3, dtype=jnp.int32), stub()
    program = jax.jit(
        functools.partial(
            _predict_tile._function,
            model=network.model,
            settled=False,
            both_orders=both,
        ),
        compiler_options={"xla_backend_optimization_level": 1},
    )
    compiled = program.lower(network.variables, stub(), *images, *places).compile()
    needed = compiled.memory_analysis()
    held = needed.temp_size_in_bytes + needed.output_size_in_bytes
    planned = bytes_per_voxel(network.model, both_orders=both)
    assert held / math.prod(shape) < planned < 1.5 * held / math.prod(shape)


@pytest.mark.parametrize("name", ["multiview", "cropped_unet"])
@pytest.mark.slow
def test_patches_of_any_size_give_the_same_field(name):
    """Networks without padding, in 2D, whose targets are at every voxel."""
    model = make_model(name, dimensions=2)
    window = jax.ShapeDtypeStruct((1, 100, 100, 1), jnp.float32)
    shapes = jax.eval_shape(
        lambda w: model.init(jax.random.key(0), w, w, train=False), window
    )
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key != "kernel":
            return np.full(leaf.shape, path[-1].key in ("scale", "var"), np.float32)
        spread = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return (spread * rng.normal(size=leaf.shape)).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    network = Network(dense(2, 1.0).config, model, variables)
    images = [image[..., None] for image in scaled((50, 41))]
    plans = [plan_equal(model.support, (50, 41), tile) for tile in (20, 52)]
    fields = [predict_lattice(network, *images, plan=plan)[0] for plan in plans]
    assert fields[0].shape == (50, 41, 2)
    assert np.std(fields[0]) > 0.05
    np.testing.assert_allclose(*fields, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("targets", [(1,), (41, 300), (500, 333, 97)])
def test_every_prediction_is_taken_once_and_from_a_patch_that_holds_its_support(
    name, targets
):
    support = MODELS[name].support
    size = max(2 * support.reach, 2 * support.margin) + 60
    memory = size ** len(targets) * 100 / 2**30
    plan = plan_tiles(support, targets, bytes_per_voxel=100, memory=memory)
    assert math.prod(plan.patch) * 100 <= memory * 2**30
    for total, window, axis in zip(targets, plan.patch, plan.axes, strict=True):
        given = (window - 2 * support.margin - 1) // support.stride + 1
        assert [tile.first for tile in axis] == list(
            itertools.accumulate([0, *(tile.count for tile in axis[:-1])])
        )
        assert sum(tile.count for tile in axis) == total
        for tile in axis:
            assert tile.start % support.period == 0
            assert tile.start // support.stride + tile.skip == tile.first
            assert tile.skip + tile.count <= given
            if not support.margin:
                assert tile.start == 0 or tile.skip >= support.reach
                after = tile.start + window - tile.first - tile.count
                assert tile.start + window >= total or after >= support.reach


def test_plans_compute_less_with_more_memory_and_one_tile_with_enough():
    support = MODELS["corrnet"].support
    plans = [
        plan_tiles(support, (200, 320), bytes_per_voxel=300, memory=memory)
        for memory in (0.012, 0.1)
    ]
    voxels = [math.prod(plan.patch) * len(plan.tiles) for plan in plans]
    assert voxels[0] > voxels[1] == 200 * 320
    assert len(plans[1].tiles) == 1


def test_too_little_memory_raises_an_error_that_names_what_is_needed():
    network, images = dense(2, 1.0), [smooth_image((400, 400))] * 2
    with pytest.raises(InputError, match=r"for a tile.*takes 0\.1"):
        predict(network, *images, memory=0.705)
