"""The network's estimate of errors: where it looks, and by tiles as in one."""

import dataclasses

import jax
import numpy as np
import pytest

from regnet_jax import register
from regnet_jax.errors import InputError
from regnet_jax.geometry import warp
from regnet_jax.hounsfield import AIR, scale_hounsfield
from regnet_jax.registration.inference import confidence
from regnet_jax.registration.inference.confidence import (
    check_confidence,
    estimate_errors,
)
from regnet_jax.registration.inference.tiles import store_tile
from regnet_jax.spatial import Frame, Image
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


def pair_of(shape, border=2):
    """Two bodies in air, of different structure."""
    images = []
    for seed in (0, 1):
        image = np.full(shape, AIR, np.float32)
        inside = tuple(slice(border, -2) for _ in shape)
        image[inside] = 50.0 + 0.1 * smooth_image(shape, seed)[inside]
        images.append(image)
    return images


def test_errors_are_those_of_points_in_the_moving_image():
    """An enlargement after the field enlarges its errors, a rotation does not."""
    shape, network = (45, 38), confident(2, 2.0)
    still = np.zeros((*shape, 2), np.float32)
    given = network, *pair_of(shape, border=14), still, frame_of(shape, 2.0)
    affine = np.eye(3)
    affine[:2, :2] = 1.6 * np.array([[0.8, -0.6], [0.6, 0.8]])
    alone, enlarged = estimate_errors(*given), estimate_errors(*given, affine=affine)
    known = alone.known
    np.testing.assert_allclose(
        enlarged.bound()[known], 1.6 * alone.bound()[known], rtol=1e-5
    )


@pytest.mark.parametrize("shape", [(45, 38), (29, 31, 27)])
def test_the_network_looks_at_the_image_as_warped_by_the_field(shape):
    """Its correction is an error of the field that it is given."""
    d = len(shape)
    network = confident(d, 2.0)
    fixed, moving = pair_of(shape, border=14)
    rng = np.random.default_rng(3)
    field = rng.uniform(-2, 2, (*shape, d)).astype(np.float32)
    found = estimate_errors(network, fixed, moving, field, frame_of(shape, 2.0))
    # What it says of an image that was warped beforehand, in the box around the body,
    # which begins 8 voxels before it.
    warped = np.asarray(warp(moving[..., None], field))[..., 0]
    box, inside = (slice(6, None),) * d, tuple(slice(n - 6) for n in shape)
    images = [
        np.pad(image[box], [(0, (6 - n) % 16) for n in shape], constant_values=AIR)
        for image in (fixed, warped)
    ]
    scaled = (scale_hounsfield(image[None, ..., None]) for image in images)
    apply = jax.jit(network.model.apply, static_argnames=("train", "mutable"))
    change, said = apply(network.variables, *scaled, train=False, mutable=("errors",))
    mean, width = np.moveaxis(said["errors"]["logarithm"][0][0][inside], -1, 0)
    length = np.linalg.norm(change[0][inside], axis=-1)
    assert np.std(length) > 0.1
    assert min(np.std(mean), np.std(width)) > 0.01
    mean = 0.5 * np.log(np.exp(2 * mean) + length**2)
    inner = tuple(slice(4, -4) for _ in shape)  # where no image is continued
    want = np.log(2.0) + mean[inner]
    np.testing.assert_allclose(found.log_mean[box][inner], want, atol=3e-3)
    want = np.exp(width[inner])
    np.testing.assert_allclose(found.log_sd[box][inner], want, rtol=3e-3)


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
    frame = frame_of(shape, 1.0)
    everywhere = estimate_errors(network, fixed, moving, still, frame)
    np.testing.assert_array_equal(everywhere.known, body)
    found = estimate_errors(network, fixed, moving, still, frame, shown=(both, other))
    np.testing.assert_array_equal(found.known, body & other)
    # Beyond the last of 33 rows there is nothing.
    away = still + np.float32([20.0, 0.0])
    found = estimate_errors(network, fixed, moving, away, frame)
    left = np.arange(33)[:, None] < 13
    np.testing.assert_array_equal(found.known, body & left)


@pytest.mark.slow
def test_estimates_by_tiles_equal_those_in_one(monkeypatch):
    shape = (20, 24, 300)
    network = confident(3, 1.0)
    pair = pair_of(shape)
    field = 0.3 * np.ones((*shape, 3), np.float32)
    arguments = (network, *pair, field, frame_of(shape, 1.0))
    tiles = []

    def store(found, values, tile):
        tiles.append(tile)
        store_tile(found, values, tile)

    monkeypatch.setattr(confidence, "store_tile", store)
    whole = estimate_errors(*arguments)
    assert len(tiles) == 1
    tiled = estimate_errors(*arguments, memory=0.863)
    assert len(tiles) > 2
    np.testing.assert_allclose(tiled.log_mean, whole.log_mean, atol=1e-4)
    np.testing.assert_allclose(tiled.log_sd, whole.log_sd, rtol=1e-4)


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
    np.testing.assert_allclose(other.log_sd, 1.5 * one.log_sd, rtol=1e-6)
    np.testing.assert_array_equal(other.log_mean, one.log_mean)


def test_networks_without_an_estimate_are_refused():
    check_confidence(confident(2, 1.0), "mine")
    with pytest.raises(InputError, match="confidence: lung2d does not estimate its"):
        check_confidence(dense(2, 1.0), "lung2d")
    with pytest.raises(InputError, match="mine does not estimate by slices"):
        check_confidence(confident(2, 1.0), "mine", "axial")


def test_a_registration_estimates_its_errors():
    """On the working grid, which is not that of a flipped image."""
    frame = Frame((40, 46), (1.5, 2.0), (5.0, 90.0), np.diag([1.0, -1.0]))
    images = [Image(image, frame, "body") for image in pair_of(frame.shape)]
    network = confident(2, 2.0)
    options = {"initial": "none", "voxel_size": 2.0, "refine": 2}
    options |= {"confidence": True, "inverse_consistent": True}
    result = register(*images, network, **options)
    assert result.error_estimate.frame == result.grid
    errors = result.error_estimate.on(result.frame)
    assert errors.known.shape == frame.shape
    assert errors.known[10:-10, 10:-10].mean() > 0.9
    assert not errors.known[0].any()
    assert 0 < errors.bound_within(errors.known) < np.inf
    assert result.report().confidence == {
        "body": pytest.approx(errors.bound_within(errors.known))
    }
    with pytest.raises(InputError, match="take the estimate on the grid of the mask"):
        result.error_estimate.bound_within(np.ones(frame.shape))
