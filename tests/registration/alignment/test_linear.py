"""Known rigid and affine motions are found, whatever the grid, pose or contrast."""

import logging

import numpy as np
import pytest

from regnet_jax.errors import InputError
from regnet_jax.registration.alignment.linear import align
from regnet_jax.spatial import Frame, Image, to_world
from tests.helpers.bodies import (
    FRAMES,
    SHIFT,
    corner_error,
    frame_of,
    image_of,
    motion_of,
    turn,
)


def shear(d):
    return (
        np.eye(d)
        + np.array([[0.06, 0.04, 0], [-0.03, -0.05, 0.02], [0, 0.03, 0.04]])[:d, :d]
    )


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_alignment_finds_known_motions(d, kind):
    linear = turn(d, 12) @ (shear(d) if kind == "affine" else np.eye(d))
    true = motion_of(linear, SHIFT)
    fixed_frame, moving_frame = FRAMES[d]
    fixed, moving = image_of(fixed_frame), image_of(moving_frame, true)
    assert corner_error(np.eye(d + 1), true) > 8
    found = align(fixed, moving, kind=kind)
    assert corner_error(found, true) < 0.3
    if kind == "rigid":
        linear = found[:d, :d]
        np.testing.assert_allclose(linear @ linear.T, np.eye(d), atol=1e-9)


@pytest.mark.parametrize(
    "contrast",
    [
        lambda values: 300 - 200 * values,
        lambda values: values**2,
        lambda values: np.abs(values - 0.8),
    ],
    ids=["inverted", "curved", "folded"],
)
def test_alignment_finds_a_motion_between_different_contrasts(contrast):
    true = motion_of(turn(2, 8), SHIFT)
    fixed_frame, moving_frame = FRAMES[2]
    found = align(
        image_of(fixed_frame), image_of(moving_frame, true, contrast), kind="rigid"
    )
    assert corner_error(found, true) < 0.5


def test_alignment_of_the_same_images_is_repeatable():
    frame = FRAMES[2][0]
    pair = image_of(frame), image_of(frame, motion_of(turn(2, 8), SHIFT))
    np.testing.assert_array_equal(align(*pair), align(*pair))


def test_alignment_is_independent_of_pose_and_voxel_order():
    frame = FRAMES[3][0]
    fixed, moving = image_of(frame), image_of(frame, motion_of(turn(3, 8), SHIFT))
    plain = align(fixed, moving, kind="rigid")
    world = motion_of(turn(3, 75), (300.0, -200.0, 900.0))
    posed = [posed_image(image, world) for image in (fixed, reordered(moving))]
    found = np.linalg.inv(world) @ align(*posed, kind="rigid") @ world
    assert corner_error(found, plain) < 1e-2


def posed_image(image, world):
    frame = image.frame
    direction = world[:3, :3] @ np.reshape(frame.direction, (3, 3))
    origin = (world @ [*frame.origin, 1])[:3]
    return Image(
        image.array, Frame(frame.shape, frame.spacing, origin, direction), image.name
    )


def reordered(image):
    """The same voxels, stored with z and x swapped and y reversed."""
    frame = image.frame
    stored = Frame(
        frame.shape[::-1],
        frame.spacing[::-1],
        to_world(frame, (0, frame.shape[1] - 1, 0)),
        np.eye(3)[:, ::-1] * [1, -1, 1],
    )
    return Image(np.flip(image.array.transpose(2, 1, 0), 1), stored, image.name)


def part(image, low, high, name):
    """The slices of an image from one share of its first axis to another."""
    frame = image.frame
    first, last = (round(share * frame.shape[0]) for share in (low, high))
    array = image.array[first:last]
    start = to_world(frame, (first, *(0,) * (frame.ndim - 1)))
    return Image(array, Frame(array.shape, frame.spacing, start, frame.direction), name)


def moved(image, vector):
    """The same voxels elsewhere in the world."""
    frame = image.frame
    origin = np.add(frame.origin, vector)
    return Image(
        image.array,
        Frame(frame.shape, frame.spacing, origin, frame.direction),
        image.name,
    )


@pytest.mark.parametrize(
    ("fixed_part", "moving_part"),
    [((0, 1), (0, 0.5)), ((0.5, 1), (0, 1)), ((0, 0.67), (0.33, 1))],
    ids=["whole-half", "half-whole", "two-thirds"],
)
@pytest.mark.parametrize("shift", [(60.0, 0.0, 0.0), (0.0, -30.0, 52.0)])
def test_alignment_finds_the_shift_of_fields_of_view_that_overlap_by_half(
    fixed_part, moving_part, shift
):
    """Nothing tells where the parts belong but what they show."""
    whole = image_of(FRAMES[3][0])
    noise = np.random.default_rng(0).normal(0, 0.05, whole.array.shape)
    other = Image((whole.array + noise).astype(np.float32), whole.frame, "other")
    fixed, moving = part(whole, *fixed_part, "fixed"), part(other, *moving_part, "b")
    found = align(fixed, moved(moving, shift), kind="rigid")
    # A voxel, over all of the body, though half of it is not seen.
    assert corner_error(found, motion_of(np.eye(3), shift)) < 3.0


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("kind", ["center", "moments", "rigid", "affine"])
def test_alignment_of_an_image_with_itself_is_the_identity(d, kind):
    image = image_of(FRAMES[d][1])
    assert corner_error(align(image, image, kind=kind), np.eye(d + 1)) < 0.01


@pytest.mark.parametrize("d", [2, 3])
def test_moments_find_a_large_turn(d):
    true = motion_of(turn(d, 70), SHIFT)
    frame = frame_of(d, (2.0, 2.0, 2.0), size=130.0)
    found = align(image_of(frame), image_of(frame, true), kind="moments")
    # The moments of the body alone, which is nearly round, do not do better.
    assert corner_error(found, true) < 8
    assert corner_error(motion_of(np.eye(d), SHIFT), true) > 30
    np.testing.assert_allclose(found[:d, :d] @ found[:d, :d].T, np.eye(d), atol=1e-9)


def test_masks_exclude_the_voxels_outside():
    frame = FRAMES[2][0]
    true = motion_of(turn(2, 5), SHIFT)
    fixed, moving = image_of(frame), image_of(frame, true)
    inside = Image((fixed.array > 0.2).astype(np.uint8), frame, "mask")
    inside_moving = Image((moving.array > 0.2).astype(np.uint8), frame, "mask")
    junk = np.random.default_rng(0).uniform(0, 3, frame.shape)
    fixed = Image(np.where(inside.array, fixed.array, junk), frame, "fixed")
    moving = Image(np.where(inside_moving.array, moving.array, junk), frame, "moving")
    found = align(
        fixed, moving, kind="rigid", fixed_mask=inside, moving_mask=inside_moving
    )
    assert corner_error(found, true) < 0.7


def test_center_is_a_shift_and_none_the_identity():
    frame = FRAMES[2][0]
    far = Frame(frame.shape, frame.spacing, np.add(frame.origin, 500), frame.direction)
    true = motion_of(np.eye(2), (500, 500))
    fixed, moving = image_of(frame), image_of(far, true)
    found = align(fixed, moving, kind="center")
    np.testing.assert_array_equal(found[:2, :2], np.eye(2))
    assert corner_error(found, true) < 1
    np.testing.assert_array_equal(align(fixed, moving, kind="none"), np.eye(3))
    assert corner_error(align(fixed, moving, kind="rigid"), true) < 0.3


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_a_small_part_is_found_where_its_header_places_it(d, kind):
    """An eighth of the body: less than the least overlap, of the larger image."""
    fixed = image_of(FRAMES[d][0])
    true = motion_of(np.eye(d), SHIFT)
    whole = image_of(FRAMES[d][0], true)
    frame = whole.frame
    first = [n // 5 for n in frame.shape]
    sizes = [round(n * 0.125 ** (1 / d)) for n in frame.shape]
    array = whole.array[
        tuple(slice(i, i + n) for i, n in zip(first, sizes, strict=True))
    ]
    start = to_world(frame, np.array(first))
    small = Frame(array.shape, frame.spacing, start, frame.direction)
    moving = Image(array, small, "part")
    for one, other, expected in (
        (fixed, moving, true),
        (moving, fixed, np.linalg.inv(true)),
    ):
        found = align(one, other, kind=kind)
        # In the part that both show; an affine map is loose elsewhere.
        points = to_world(small, np.moveaxis(np.indices(small.shape), 0, -1))
        difference = points.reshape(-1, d) @ (found - expected)[:d, :d].T
        difference += (found - expected)[:d, d]
        assert np.linalg.norm(difference, axis=1).mean() < 3.0


@pytest.mark.parametrize("thin", ["fixed", "moving"])
@pytest.mark.parametrize("slices", [1, 3])
def test_thin_images_stay_where_their_headers_place_them(thin, slices):
    """Slices far from the middle of a volume."""
    whole = image_of(FRAMES[3][0])
    slab = part(whole, 0.25, 0.25 + slices / whole.array.shape[0], "slab")
    assert slab.array.shape[0] == slices
    pair = (slab, whole) if thin == "fixed" else (whole, slab)
    np.testing.assert_allclose(align(*pair), np.eye(4), atol=1e-9)


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_thin_images_are_centred_with_a_warning(caplog, slices):
    frame = Frame((slices, 40, 40), (2, 2, 5), (-40, -40, 0), np.eye(3))
    fixed = image_of(frame)
    moving = image_of(frame, motion_of(np.eye(3), (3, 0, 0)))
    found = align(fixed, moving)
    np.testing.assert_array_equal(found[:3, :3], np.eye(3))
    assert "thin" in caplog.text


def test_images_that_share_nothing_keep_a_simpler_alignment_with_a_warning(caplog):
    frame = FRAMES[2][0]
    rng = np.random.default_rng(0)
    fixed, moving = (Image(rng.normal(size=frame.shape), frame, n) for n in "ab")
    with caplog.at_level(logging.WARNING):
        found = align(fixed, moving)
    scales = np.linalg.svd(found[:2, :2], compute_uv=False)
    assert scales.min() > 0.5
    assert scales.max() < 2


def test_alignment_refuses_bad_input():
    frame = FRAMES[2][0]
    image = image_of(frame)
    elsewhere = Frame(frame.shape, frame.spacing, (1e4, 0), frame.direction)
    away = Image(np.ones(frame.shape, np.uint8), elsewhere, "mask.mha")
    with pytest.raises(InputError, match="bspline: is no alignment; use one of none"):
        align(image, image, kind="bspline")
    small = np.zeros(frame.shape, np.uint8)
    small[10:15, 10:15] = 1
    for mask in (away, Image(small, frame, "mask.mha")):
        for side in ("fixed_mask", "moving_mask"):
            with pytest.raises(InputError, match=r"mask\.mha: covers too little"):
                align(image, image, **{side: mask})
