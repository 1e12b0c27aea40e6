"""Boxes under jit: place, crops, displaced samples, and blending."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.geometry import warp
from regnet_jax.registration.inference.boxes import (
    BlendBox,
    blend_crop,
    cover_grid,
    crop_box,
    lung_box,
    sample_displaced,
)

SHAPES = [(40, 37), (30, 26, 33)]


def body(shape, first, last):
    """A body in air, with a lung from the first to the last voxel."""
    image = np.full(shape, -1000.0)
    image[:, 4:-4, 4:-4] = 40.0
    image[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))] = -850.0
    return image


@pytest.mark.parametrize(
    ("first", "last"),
    [((30, 40, 50), (80, 70, 90)), ((0, 40, 8), (110, 70, 90)), ((3, 9, 9), (4, 9, 9))],
)
def test_the_box_holds_the_lungs_and_a_margin(first, last):
    shape = (128, 128, 192)
    box = lung_box(body(shape, first, last), 3.0, multiple=2)
    start, stop = np.asarray(box.start), np.asarray(box.start) + box.shape
    assert all(n % 16 == 0 for n in box.shape)
    assert (start % 2 == 0).all()
    if np.prod(np.subtract(last, first) + 1) * 27 < 50_000:
        assert box.shape == shape  # too small for a lung
    assert (start <= np.maximum(np.array(first) - 8, 0)).all()
    assert (stop >= np.minimum(np.array(last) + 9, shape)).all()


def test_lungs_of_a_single_slice_have_a_box():
    image = np.full((5, 64, 64), -1000.0)
    image[1:4, 4:-4, 4:-4] = 40.0
    image[2, 20:44, 20:44] = -850.0
    box = lung_box(image, 6.0, multiple=1)
    assert box.shape == (5, 48, 48)


@pytest.mark.parametrize("shape", SHAPES)
def test_without_lungs_the_box_is_the_grid(shape):
    box = lung_box(np.zeros(shape), 2.0, multiple=2)
    assert box.shape == shape
    assert not box.start.any()


@pytest.mark.parametrize("shape", SHAPES)
def test_displaced_samples_equal_the_crop_of_a_warped_array(shape):
    d = len(shape)
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.normal(size=(*shape, 2)), jnp.float32)
    field = jnp.asarray(4 * rng.normal(size=(*shape, d)), jnp.float32)
    box = BlendBox(jnp.arange(5, 5 + d), (20, 17, 22)[:d])
    want = crop_box(warp(image, field), box)
    got = jax.jit(
        lambda start: sample_displaced(image, BlendBox(start, box.shape), part)
    )
    part = crop_box(field, box)
    np.testing.assert_allclose(got(box.start), want, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_crops_are_blended_at_inner_faces_only(shape):
    d = len(shape)
    old = jnp.zeros((*shape, d))
    box = BlendBox(jnp.array([0, *[6] * (d - 1)]), (shape[0], *[14] * (d - 1)))
    new = blend_crop(old, jnp.ones((*box.shape, d)), box)
    np.testing.assert_allclose(new[:, *[12] * (d - 1)], 1.0)  # from end to end
    row = np.asarray(new)[(3, slice(None), *[12] * (d - 2), 0)]
    np.testing.assert_allclose(row[:7], 0.0)
    np.testing.assert_allclose(row[6:13], np.arange(7) / 6, atol=1e-6)
    np.testing.assert_allclose(row[13:20], np.arange(7)[::-1] / 6, atol=1e-6)
    np.testing.assert_allclose(row[20:], 0.0)


def test_all_of_a_grid_is_replaced_as_a_cover_grid():
    old, new = jnp.zeros((9, 8, 2)), jnp.ones((9, 8, 2))
    np.testing.assert_array_equal(blend_crop(old, new, cover_grid((9, 8))), new)


def test_coarse_boxes_start_at_the_same_place():
    box = BlendBox(jnp.array([4, 0]), (9, 8)).coarsen(2)
    np.testing.assert_array_equal(box.start, [2, 0])
    assert box.shape == (5, 4)
