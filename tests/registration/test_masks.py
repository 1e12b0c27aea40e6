"""Masks that limit a registration: lesions that are ignored, implants that stay."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from regnet_jax import register
from regnet_jax.errors import InputError
from regnet_jax.geometry import jacobian_determinant
from regnet_jax.models.support import Support
from regnet_jax.registration import load_network
from regnet_jax.registration.masks import (
    check_limits,
    continue_into_ignored,
    fill_harmonically,
    hold,
    immobile_on_grid,
    neutralise,
)
from regnet_jax.spatial import (
    Frame,
    Image,
    canonical_frame,
    displacement_to_world,
    isotropic_frame,
    resample_field,
    to_world,
)
from tests.helpers.chest import SPACING, slice_of_a_chest
from tests.helpers.frames import FRAMES
from tests.helpers.laplace import laplace
from tests.helpers.networks import dense, smooth_image

SHAPES = [(37, 50), (21, 18, 27)]


def ball(shape, centre, radius, spacing=1.0):
    """True within a distance of a place, in voxels unless there is a spacing."""
    index = np.moveaxis(np.indices(shape), 0, -1)
    return np.linalg.norm((index - centre) * spacing, axis=-1) <= radius


def linear_field(shape):
    """Every component differs, and depends on every axis."""
    d = len(shape)
    slopes = 0.3 * np.random.default_rng(0).normal(size=(d, d))
    return np.moveaxis(np.indices(shape), 0, -1) @ slopes + np.arange(d)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("radius", [1, 6])
def test_linear_field_with_a_hole_is_restored(shape, radius):
    field = linear_field(shape)
    hole = ball(shape, np.divide(shape, 2.1), radius)
    spoilt = np.where(hole[..., None], 50.0, field)
    np.testing.assert_allclose(fill_harmonically(spoilt, hole), field, atol=2e-3)
    np.testing.assert_array_equal(
        fill_harmonically(spoilt, hole)[~hole], np.float32(field[~hole])
    )


@pytest.mark.parametrize("shape", [(19, 24), (9, 8, 11)], ids=str)
def test_hole_is_filled_by_the_solution_of_laplaces_equation(shape):
    """Also where it reaches the border, and in several pieces."""
    rng = np.random.default_rng(1)
    hole = ndimage.gaussian_filter(rng.normal(size=shape), 1.5) > 0.05
    assert hole[0].any()
    assert ndimage.label(hole)[1] > 1
    values = rng.normal(size=(*shape, 2))
    got = fill_harmonically(values, hole)
    for channel in range(2):
        want = laplace(values[..., channel], ~hole)
        np.testing.assert_allclose(got[..., channel], want, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mask_of_the_moving_image_is_warped_along(shape):
    """The field is wrong where it points into the mask."""
    d = len(shape)
    field = linear_field(shape) * 0.1 + 4.0
    there = ball(shape, np.divide(shape, 2), 3)
    here = ndimage.shift(there.astype(float), [-4] * d, order=1) > 0.9
    wide = ndimage.binary_dilation(here, iterations=1)
    spoilt = np.where(here[..., None], field + 0.4, field)
    got = continue_into_ignored(spoilt.astype(np.float32), (None, there))
    changed = np.abs(got - spoilt).max(-1) > 1e-3
    assert changed[here].mean() > 0.8
    assert not changed[~ndimage.binary_dilation(wide, iterations=3)].any()
    assert np.abs(got - field)[here].max() < 0.3
    nothing = continue_into_ignored(spoilt, (None, None))
    np.testing.assert_array_equal(nothing, spoilt)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 2.0, 4.5)])
@pytest.mark.parametrize("d", [2, 3])
def test_ignored_values_become_those_of_the_nearest_voxels(d, spacing):
    """By the distance in mm, whatever the values were."""
    shape = (13, 18, 11)[:d]
    frame = Frame(shape, spacing[:d], (5.0,) * d, np.eye(d))
    array = np.random.default_rng(0).normal(size=shape)
    ignored = ball(shape, np.divide(shape, 2), 4) | ball(shape, (0,) * d, 3)
    filled = neutralise(Image(array, frame, "a"), ignored).array
    spoilt = np.where(ignored, 1e6, array)
    again = neutralise(Image(spoilt, frame, "a"), ignored).array
    np.testing.assert_array_equal(again, filled)
    np.testing.assert_array_equal(filled[~ignored], array[~ignored])
    steps = np.asarray(spacing[:d])[::-1]
    others = np.argwhere(~ignored)
    for place in np.argwhere(ignored):
        distances = np.linalg.norm((others - place) * steps, axis=-1)
        nearest = others[np.isclose(distances, distances.min())]
        assert filled[tuple(place)] in array[tuple(nearest.T)]
    image = Image(array, frame, "a")
    assert neutralise(image, None) is image


@pytest.mark.parametrize("size", [0.8, 2.5, 7.0])
@pytest.mark.parametrize("name", FRAMES)
def test_field_is_zero_at_every_voxel_of_an_immobile_mask(name, size):
    """On finer and coarser, oblique, flipped and anisotropic grids."""
    frame = FRAMES[name]
    rng = np.random.default_rng(2)
    noise = ndimage.gaussian_filter(rng.normal(size=frame.shape), 1.5)
    # Single voxels, too.
    inside = (noise > 1.5 * noise.std()) | (rng.uniform(size=frame.shape) > 0.998)
    mask = Image(inside.astype(np.uint8), frame, "mask")
    grid = isotropic_frame(canonical_frame(frame), size)
    still = immobile_on_grid(mask, grid)
    field = np.where(still[..., None], 0.0, 9.0 * np.ones(frame.ndim))
    vectors = resample_field(displacement_to_world(grid, field), grid, frame)
    np.testing.assert_array_equal(vectors[inside], 0.0)


@pytest.mark.parametrize("shape", [(90, 70), (60, 45, 50)], ids=str)
@pytest.mark.parametrize("size", [1.0, 3.0])
@pytest.mark.parametrize("length", [2.0, 12.0])
def test_field_rises_beside_what_is_immobile_without_a_fold(shape, size, length):
    """Even where everything moves into it; far away nothing changes."""
    d = len(shape)
    still = ball(shape, np.multiply(shape, 0.2), 4)
    field = np.full((*shape, d), -length / size / np.sqrt(d))
    held, mobility, voxels = hold(field, still, size)
    width = size * voxels
    np.testing.assert_array_equal(held[still], 0.0)
    np.testing.assert_allclose(held, mobility[..., None] * field, rtol=1e-6)
    assert np.asarray(jacobian_determinant(held)).min() >= 0.3
    distance = size * ndimage.distance_transform_edt(~still)
    np.testing.assert_allclose(held[distance >= width], field[distance >= width])
    assert (width == pytest.approx(10.0)) == (length == 2.0)
    assert width <= 4 * max(length, 10.0)


def test_what_folds_already_does_not_widen_the_transition():
    shape = (60, 50)
    field = np.zeros((*shape, 2), np.float32)
    field[20:, :, 0] = -4.0
    assert np.asarray(jacobian_determinant(field)).min() < 0
    held, _, width = hold(field, ball(shape, (10, 25), 4), 1.0)
    assert width == 10.0
    np.testing.assert_array_equal(held[26:], field[26:])


@pytest.fixture(scope="module")
def lung2d():
    return load_network("lung2d")


LESION = (45, 37)


def with_lesion(image, value, centre=LESION, radius=13.0):
    """An image with a disk of a value, and its mask."""
    inside = ball(image.frame.shape, centre, radius, SPACING)
    array = np.where(inside, value, image.array)
    return Image(array, image.frame, image.name), inside


@functools.cache
def moved_slices():
    """A slice, the same breathed in by 15 mm at the bottom, and the field (x, y)."""
    moving = slice_of_a_chest()
    y, x = np.indices(moving.frame.shape)
    down = 5.0 * np.exp(-(((y - 60) / 22) ** 2) - ((x - 40) / 40) ** 2)
    places = [y + down, x]
    array = ndimage.map_coordinates(moving.array, places, order=1, mode="nearest")
    truth = np.stack([np.zeros_like(down), SPACING * down], -1)
    return Image(array, moving.frame, "fixed"), moving, truth


@pytest.mark.parametrize(("side", "refine"), [("fixed", 0), ("moving", 30)])
def test_field_in_an_ignored_lesion_is_that_of_its_surroundings(lung2d, side, refine):
    fixed, moving, truth = moved_slices()
    options = {"model": lung2d, "initial": "none", "refine": refine}
    images = {"fixed": fixed, "moving": moving}
    images[side], inside = with_lesion(images[side], 60.0)
    seen = register(*images.values(), **options)
    found = register(*images.values(), **options, **{f"ignore_{side}": inside})
    errors = [
        np.linalg.norm(each.displacement - truth, axis=-1)[inside].mean()
        for each in (seen, found)
    ]
    assert np.linalg.norm(truth, axis=-1)[inside].mean() > 6.0
    assert errors[1] < 1.5
    assert errors[1] < 0.7 * errors[0]
    assert found.jacobian.min() > 0


@pytest.mark.parametrize(
    ("side", "options"),
    [
        ("fixed", {"refine": 6, "initial": "none"}),
        ("moving", {"inverse_consistent": True, "intensity": "1,99"}),
    ],
    ids=["fixed", "moving"],
)
def test_intensities_of_ignored_voxels_change_nothing(lung2d, side, options):
    """Not a bit of the field, by no path: padding, percentiles, alignment, network."""
    fixed, moving, _ = moved_slices()
    images = {"fixed": fixed, "moving": moving}
    # Another touches the border, where padding is looked for.
    corner = ball(fixed.frame.shape, (0, 0), 60, SPACING)
    fields = []
    for value in (-3024.0, 7000.0):
        spoilt, inside = with_lesion(images[side], value)
        array = np.where(corner, value, spoilt.array)
        given = images | {side: Image(array, spoilt.frame, side)}
        masks = {f"ignore_{side}": inside | corner}
        found = register(*given.values(), lung2d, **options, **masks)
        fields.append(found.displacement)
    assert np.abs(fields[0]).max() > 5.0
    np.testing.assert_array_equal(*fields)


class Difference:
    """A network whose field is the difference of the images."""

    support = Support(reach=0, period=1)

    def __init__(self, d):
        self.d = d

    def apply(self, variables, fixed, moving, *, train):
        return 10.0 * jnp.repeat(fixed - moving, self.d, -1)


@pytest.mark.parametrize("slices", [False, True], ids=["3d", "slices"])
def test_ignored_voxels_and_immobile_ones_in_3d(slices):
    """By a 3D network, and by a 2D one slice by slice, on an oblique grid."""
    turn = 0.3
    direction = np.eye(3)
    direction[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    frame = Frame((16, 23, 19), (2.0, 2.5, 3.0), (7.0, -3.0, 2.0), direction)
    fixed, moving = (
        Image(smooth_image(frame.shape, seed), frame, f"{seed}") for seed in (0, 1)
    )
    d = 2 if slices else 3
    network = dense(d, 3.0, model=Difference(d))
    inside = ball(frame.shape, (8, 11, 9), 3)
    still = ball(frame.shape, (8, 2, 9), 4)
    shift = sitk.TranslationTransform(3, (3.0, -2.0, 1.0))
    spoilt = Image(np.where(inside, 5000.0, fixed.array), frame, "0")
    found, again = (
        register(
            *(image, moving, network),
            initial=shift,
            intensity="ct",
            refine=4 if slices else 0,
            ignore_fixed=inside,
            immobile=still,
        )
        for image in (fixed, spoilt)
    )
    np.testing.assert_array_equal(again.displacement, found.displacement)
    beyond = found.displacement - (3.0, -2.0, 1.0)
    assert np.abs(beyond[still]).max() < 1e-5
    assert np.abs(beyond).max() > 0.5


@pytest.mark.parametrize(
    ("refine", "inverse_consistent"), [(0, False), (15, True)], ids=str
)
def test_immobile_part_stays_with_the_alignment(lung2d, refine, inverse_consistent):
    """On a coarser mask in another place, and nothing folds around it."""
    fixed, moving, _ = moved_slices()
    grid = Frame((30, 25), (8.0, 7.0), (40.0, 30.0), np.eye(2))
    centre = SPACING * np.array([40, 58])
    points = to_world(grid, np.moveaxis(np.indices(grid.shape), 0, -1))
    array = np.linalg.norm(points - centre, axis=-1) < 25
    found = register(
        *(fixed, moving, lung2d),
        initial="rigid",
        refine=refine,
        inverse_consistent=inverse_consistent,
        immobile=Image(array.astype(np.uint8), grid, "implant"),
    )
    free = register(*(fixed, moving, lung2d), initial="rigid", refine=refine)
    inside = ball(fixed.frame.shape, centre[::-1] / SPACING, 18, SPACING)
    still, moved = (
        resample_field(each.residual, each.grid, fixed.frame) for each in (found, free)
    )
    assert np.linalg.norm(still, axis=-1)[inside].max() < 1e-5
    assert np.linalg.norm(moved, axis=-1)[inside].min() > 5.0
    assert found.jacobian.min() > 0
    far = ball(fixed.frame.shape, (45, 90), 30, SPACING)
    assert np.abs(still - moved)[far].mean() < 0.5
    described = found.parameters["masks"]["immobile"]
    assert described["transition_mm"] > 10.0
    assert 0 < described["fraction"] < 0.1


def test_an_immobile_part_holds_as_many_voxels_of_a_small_image(lung2d):
    """A small pair at half of its size has the same field, in voxels."""
    fixed, moving, _ = moved_slices()
    array = np.zeros(fixed.frame.shape, np.uint8)
    array[20:24, 20:24] = 1
    fields, widths = [], []
    for scale in (0.1, 0.05):
        frame = Frame(array.shape, (scale * SPACING,) * 2, (0, 0), np.eye(2))
        pair = [Image(each.array, frame, each.name) for each in (fixed, moving)]
        mask = Image(array, frame, "implant")
        found = register(*pair, lung2d, initial="none", immobile=mask)
        fields.append(found.displacement / scale)
        widths.append(found.parameters["masks"]["immobile"]["transition_mm"] / scale)
    assert np.abs(fields[0]).max() > 5.0
    np.testing.assert_allclose(fields[1], fields[0], atol=0.01)
    assert widths[1] == pytest.approx(widths[0])
    assert 5.0 < widths[0] < 50.0


def test_immobile_part_keeps_a_given_deformation(lung2d):
    fixed, moving, truth = moved_slices()
    field = sitk.GetImageFromArray(truth.astype(np.float64), isVector=True)
    field.SetSpacing((SPACING,) * 2)
    inside = ball(fixed.frame.shape, (40, 58), 20, SPACING)
    found = register(
        *(fixed, moving, lung2d),
        initial=sitk.DisplacementFieldTransform(field),
        immobile=inside,
    )
    np.testing.assert_allclose(found.displacement[inside], truth[inside], atol=1e-3)


def test_masks_are_not_compared_and_reported(lung2d):
    fixed, moving, _ = moved_slices()
    spoilt, inside = with_lesion(fixed, 3000.0)
    other = ball(fixed.frame.shape, (45, 75), 12, SPACING)
    found = register(spoilt, moving, lung2d, ignore_fixed=inside, ignore_moving=other)
    assert not found.shown.fixed[inside].any()
    assert found.shown.before.mean() == pytest.approx(1 - other.mean(), abs=0.01)
    # Both images show something there.
    assert found.shown.unmatched < 0.05
    masks = found.report().parameters["masks"]
    assert masks["ignore_fixed"]["fraction"] == pytest.approx(inside.mean())
    assert "not compared" in masks["ignore_moving"]["effect"]
    clean = register(fixed, moving, lung2d, ignore_fixed=inside, ignore_moving=other)
    seen, unseen = (each.report().after.similarity for each in (found, clean))
    assert seen.correlation == unseen.correlation


@pytest.mark.parametrize("name", ["ignore_fixed", "ignore_moving", "immobile"])
def test_masks_that_leave_nothing_are_refused(lung2d, name):
    fixed, moving, _ = moved_slices()
    everything = np.ones(fixed.frame.shape, bool)
    with pytest.raises(InputError, match=f"{name}: covers 100% of .* a smaller mask"):
        register(fixed, moving, lung2d, **{name: everything})
    with pytest.raises(InputError, match=f"{name}: is empty"):
        register(fixed, moving, lung2d, **{name: ~everything})
    frame = Frame(fixed.frame.shape, (3.0, 3.0), (900.0, 0.0), np.eye(2))
    away = Image(everything.astype(np.uint8), frame, name)
    with pytest.raises(InputError, match=f"{name}: lies outside of its image"):
        register(fixed, moving, lung2d, **{name: away})


def test_mask_that_covers_most_gets_a_warning(caplog):
    """Of what the image shows, not of its padding."""
    frame = Frame((20, 30), (3.0, 3.0), (0.0, 0.0), np.eye(2))
    image = Image(np.zeros(frame.shape), frame, "scan")
    padding = np.zeros(frame.shape, bool)
    padding[:10] = True
    for rows, warned in ((18, True), (16, False)):
        inside = np.zeros(frame.shape, np.uint8)
        inside[:rows] = 1
        caplog.clear()
        check_limits(
            {"immobile": Image(inside, frame, "implant")},
            (image, image),
            (padding, None),
        )
        assert ("implant: covers 80% of scan" in caplog.text) == warned
    with pytest.raises(InputError, match="implant: covers 100% of scan"):
        check_limits(
            {"ignore_fixed": Image(~padding * np.uint8(1), frame, "implant")},
            (image, image),
            (padding, None),
        )
