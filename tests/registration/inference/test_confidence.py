"""The network's estimate of errors: where it looks, and by tiles as in one."""

import dataclasses

import jax
import numpy as np
import pytest

from regnet_jax.errors import InputError
from regnet_jax.geometry import warp
from regnet_jax.hounsfield import AIR, scale_hounsfield
from regnet_jax.registration.inference.confidence import (
    check_confidence,
    estimate_errors,
)
from regnet_jax.spatial import Frame
from tests.helpers.networks import dense, smooth_image


def frame_of(shape, spacing):
    d = len(shape)
    return Frame(shape, (spacing,) * d, (0.0,) * d, np.eye(d))


def confident(dimensions, spacing):
    """A network that nobody trained, whose widths stay within their bounds."""
    network = dense(dimensions, spacing, estimates_errors=True)
    params = network.variables["params"]
    weak = jax.tree.map(lambda leaf: 0.1 * leaf, params["errors_2"])
    return dataclasses.replace(
        network, variables={"params": params | {"errors_2": weak}}
    )


def pair_of(shape):
    """Two bodies in air, of different structure."""
    images = []
    for seed in (0, 1):
        image = np.full(shape, AIR, np.float32)
        inside = tuple(slice(2, -2) for _ in shape)
        image[inside] = 50.0 + 0.1 * smooth_image(shape, seed)[inside]
        images.append(image)
    return images


@pytest.mark.parametrize("shape", [(33, 26), (17, 20, 15)])
def test_the_network_looks_at_the_image_as_warped_by_the_field(shape):
    network = confident(len(shape), 2.0)
    fixed, moving = pair_of(shape)
    rng = np.random.default_rng(3)
    field = rng.uniform(-2, 2, (*shape, len(shape))).astype(np.float32)
    found = estimate_errors(network, fixed, moving, field, frame_of(shape, 2.0))
    # What it says of an image that was warped beforehand, without a field.
    warped = np.asarray(warp(moving[..., None], field))
    pads = [(0, -n % 32) for n in shape]
    images = [
        np.pad(image, pads, constant_values=AIR)[None, ..., None]
        for image in (fixed, warped[..., 0])
    ]
    scaled = map(scale_hounsfield, images)
    apply = jax.jit(network.model.apply, static_argnames=("train", "mutable"))
    _, said = apply(network.variables, *scaled, train=False, mutable=("errors",))
    want = np.asarray(said["errors"]["logarithm"][0][0])[tuple(map(slice, shape))]
    inner = tuple(slice(4, -4) for _ in shape)  # where no image is continued
    assert np.std(want[inner], axis=tuple(range(len(shape)))).min() > 0.01
    np.testing.assert_allclose(
        found.mean[inner], want[inner][..., 0] + np.log(2.0), atol=2e-3
    )
    np.testing.assert_allclose(
        found.width[inner], np.exp(want[inner][..., 1]), rtol=2e-3
    )


def test_errors_are_known_in_the_body_that_both_images_show():
    shape = (33, 26)
    network = confident(2, 1.0)
    fixed, moving = pair_of(shape)
    body = np.zeros(shape, bool)
    body[2:-2, 2:-2] = True
    both = np.ones(shape, bool)
    other = both.copy()
    other[:, :10] = False
    still = np.zeros((*shape, 2), np.float32)
    everywhere = estimate_errors(network, fixed, moving, still, frame_of(shape, 1.0))
    np.testing.assert_array_equal(everywhere.known, body)
    found = estimate_errors(
        *(network, fixed, moving, still, frame_of(shape, 1.0)), shown=(both, other)
    )
    np.testing.assert_array_equal(found.known, body & other)


@pytest.mark.slow
def test_estimates_by_tiles_equal_those_in_one():
    shape = (20, 24, 300)
    network = confident(3, 1.0)
    pair = pair_of(shape)
    field = 0.3 * np.ones((*shape, 3), np.float32)
    arguments = (network, *pair, field, frame_of(shape, 1.0))
    whole = estimate_errors(*arguments)
    tiled = estimate_errors(*arguments, memory=0.85)
    np.testing.assert_allclose(tiled.mean, whole.mean, atol=1e-4)
    np.testing.assert_allclose(tiled.width, whole.width, rtol=1e-4)


def test_widths_are_multiplied_by_the_calibrated_factor():
    shape = (33, 26)
    network = confident(2, 1.0)
    wide = dataclasses.replace(
        network, config=dataclasses.replace(network.config, error_width=1.5)
    )
    pair, still = pair_of(shape), np.zeros((*shape, 2), np.float32)
    one, other = (
        estimate_errors(each, *pair, still, frame_of(shape, 1.0))
        for each in (network, wide)
    )
    np.testing.assert_allclose(other.width, 1.5 * one.width, rtol=1e-6)
    np.testing.assert_array_equal(other.mean, one.mean)


def test_networks_without_an_estimate_are_refused():
    check_confidence(confident(2, 1.0), "mine")
    with pytest.raises(InputError, match="confidence: lung2d does not estimate its"):
        check_confidence(dense(2, 1.0), "lung2d")
