"""What counts as padding, on pictures of which every voxel is known."""

import numpy as np
import pytest
from scipy import ndimage

from regnet_jax.spatial import (
    Frame,
    Image,
    affine_transform,
    fill_padding,
    find_padding,
    where_shown,
)

SHAPES = [(60, 70), (24, 60, 70)]
CENTRE = np.array([30, 35])


def radius(shape):
    """Distance of each voxel from the axis of the scanner, voxels."""
    y, x = np.indices(shape)[-2:]
    return np.hypot(y - CENTRE[0], x - CENTRE[1])


def chest_ct(shape, body=18, seed=0):
    """Tissue with a texture in air, with the noise of a scanner."""
    rng = np.random.default_rng(seed)
    texture = 40 * ndimage.gaussian_filter(rng.normal(size=shape), 2)
    image = np.where(radius(shape) < body, 40 + 5 * texture, -1000.0)
    return ndimage.gaussian_filter(image, 1) + rng.normal(0, 15, shape)


def magnitude_mr(shape, seed=0):
    """Bright tissue on noise that is never negative."""
    rng = np.random.default_rng(seed)
    signal = np.where(radius(shape) < 18, 400.0, 0.0)
    return np.hypot(signal + rng.normal(0, 15, shape), rng.normal(0, 15, shape)) + 1


def grown(mask):
    return ndimage.binary_dilation(mask)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("value", [-3024, -2000, -32768, 0, 3071])
def test_a_constant_beside_the_round_field_of_view_is_padding(shape, value):
    beside = radius(shape) > 25
    image = np.where(beside, value, chest_ct(shape)).round().astype(np.int16)
    np.testing.assert_array_equal(find_padding(image), grown(beside))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_zeros_beside_an_mr_image_are_padding(shape):
    image = magnitude_mr(shape)
    image[..., :25] = 0.0
    np.testing.assert_array_equal(find_padding(image), grown(image == 0.0))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("index", [0, -1])
def test_a_single_slice_of_padding_is_found(shape, axis, index):
    first = np.zeros(shape, bool)
    np.moveaxis(first, axis, 0)[index] = True
    image = np.where(first, -2000, chest_ct(shape)).round().astype(np.int16)
    np.testing.assert_array_equal(find_padding(image), grown(first))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_that_noise_repeats_are_padding_only_where_they_are_connected(shape):
    noise = np.maximum(magnitude_mr(shape) - 8.0, 0.0).round().astype(np.uint16)
    band = np.zeros(shape, bool)
    band[..., :25] = True
    image = np.where(band, 0, noise)
    pieces, _ = ndimage.label(image == 0)
    whole = pieces == pieces[band][0]
    assert 0.05 < (noise == 0).mean() < 0.2
    assert whole.sum() > band.sum()
    np.testing.assert_array_equal(find_padding(image), grown(whole))
    assert find_padding(noise) is None


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_everything_outside_of_an_organ_is_padding(shape):
    outside = radius(shape) > 15
    image = np.where(outside, 0.0, magnitude_mr(shape))
    np.testing.assert_array_equal(find_padding(image), grown(outside))


def test_a_padded_image_that_was_padded_again_is_found_whole():
    shape = (60, 70)
    circle = (radius(shape) > 22) & (radius(shape) < 28)
    rest = radius(shape) >= 28
    image = np.where(circle, -2000, np.where(rest, 0, chest_ct(shape)))
    np.testing.assert_array_equal(find_padding(image), grown(circle | rest))


def test_rounding_and_blending_of_a_resampled_image_belong_to_the_padding():
    shape = (60, 70)
    beside = radius(shape) > 25
    image = np.where(beside, -3024.0, chest_ct(shape)).astype(np.float32)
    image[beside] += np.random.default_rng(1).uniform(-1e-3, 1e-3, beside.sum())
    ring = (radius(shape) > 23) & ~beside
    image[ring] = -1700.0
    np.testing.assert_array_equal(find_padding(image), grown(beside | ring))


def test_a_body_that_is_cut_by_the_field_of_view_ends_in_padding():
    # -1024 is nearly the value of air, which is no reason to take it for air.
    shape = (24, 60, 70)
    beside = radius(shape) > 25
    image = np.where(beside, -1024.0, chest_ct(shape, body=40))
    np.testing.assert_array_equal(find_padding(image), grown(beside))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_clipped_air_is_no_padding(shape):
    assert find_padding(np.maximum(chest_ct(shape), -1000.0)) is None


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_background_that_goes_over_into_the_picture_is_no_padding(shape):
    image = np.maximum(magnitude_mr(shape) - 20.0, 0.0)
    assert (image == 0.0).mean() > 0.2
    assert find_padding(image) is None
    smooth = 500 * np.exp(-((radius(shape) / 12) ** 2)).round(3)
    assert find_padding(smooth) is None


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((9, 8)),
        np.pad(np.ones((9, 8), bool), 20),
        np.pad(np.full((5, 9, 8), 7, np.uint8), 10),
        np.ones((1, 9)),
    ],
    ids=["constant", "mask", "labels", "line"],
)
def test_of_a_picture_of_two_values_neither_is_padding(image):
    assert find_padding(image) is None


def test_a_single_voxel_has_no_padding():
    assert find_padding(np.full((1, 1, 1), -2000)) is None


def test_noise_alone_has_no_padding():
    rng = np.random.default_rng(0)
    assert find_padding(rng.normal(size=(30, 30))) is None
    assert find_padding(rng.integers(0, 3, (20, 30, 30))) is None


def test_padding_is_filled_in_a_type_that_holds_the_value():
    image = np.array([[1, 2], [3, 4]], np.uint8)
    padding = np.array([[True, False], [False, False]])
    np.testing.assert_array_equal(
        fill_padding(image, padding, -1000.0), [[-1000.0, 2], [3, 4]]
    )
    assert fill_padding(image, None, 0.0) is image


@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_where_an_image_shows_something_on_another_grid(flip):
    """In millimetres: shown from 10 to 30 along x, padded from there to 40."""
    shape, spacing = (6, 5, 15), (2.0, 3.0, 4.0)
    direction = np.diag([flip, 1.0, 1.0])
    frame = Frame(shape, spacing, (11.0 if flip > 0 else 39.0, 0.0, 0.0), direction)
    image = Image(np.zeros(shape), frame, "image")
    x = 11.0 + 2.0 * np.arange(15)
    padding = np.broadcast_to((x if flip > 0 else x[::-1]) > 30, shape)
    grid = Frame((6, 5, 60), (1.0, 3.0, 4.0), (0.5, 0.0, 0.0), np.eye(3))
    points = 0.5 + np.arange(60)
    everywhere = where_shown(image, None, grid)[2, 2]
    np.testing.assert_array_equal(everywhere, (points > 10) & (points < 40))
    seen = where_shown(image, padding, grid)[2, 2]
    # The last voxel that shows something is centred at 29.
    np.testing.assert_array_equal(seen, (points > 10) & (points <= 29))
    # On its own grid nothing is interpolated.
    np.testing.assert_array_equal(where_shown(image, padding, frame), ~padding)
    assert where_shown(image, None, frame).all()
    shift = np.eye(4)
    shift[0, 3] = 5.0
    moved = where_shown(image, None, grid, affine_transform(shift))[2, 2]
    np.testing.assert_array_equal(moved, (points > 5) & (points < 35))
