"""Registration of images that do not show the same part, by the network that ships."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import regnet_jax
from regnet_jax import register
from regnet_jax.errors import InputError
from regnet_jax.models.support import Support
from regnet_jax.registration import load_network
from regnet_jax.registration.alignment.linear import align
from regnet_jax.spatial import Frame, Image
from tests.helpers.chest import SPACING, slice_of_a_chest
from tests.helpers.networks import dense


@pytest.fixture(scope="module")
def network():
    return load_network("lung2d")


def padded(image, centre, radius, value):
    """The image with a value outside of a circle, mm."""
    index = np.moveaxis(np.indices(image.frame.shape), 0, -1)[..., ::-1]
    points = SPACING * index + np.asarray(image.frame.origin)
    beside = np.hypot(*(points - np.asarray(centre)).transpose(2, 0, 1)) > radius
    return Image(np.where(beside, value, image.array), image.frame, image.name)


def length(registration):
    return np.linalg.norm(registration.displacement, axis=-1)


@pytest.mark.parametrize("value", [-3024.0, -2000.0, 0.0])
@pytest.mark.parametrize("refine", [0, 15])
def test_field_is_zero_for_a_still_patient_in_two_fields_of_view(
    network, value, refine
):
    fixed = padded(slice_of_a_chest(), (165.0, 135.0), 135.0, value)
    moving = padded(
        slice_of_a_chest(origin=(24.0, -15.0), seed=1), (189.0, 120.0), 135.0, value
    )
    found = register(fixed, moving, network, refine=refine, intensity="auto")
    both = found.shown.fixed & found.shown.after
    assert 0.4 < both.mean() < 0.9
    # Refinement follows the noise, without padding by 0.6 to 0.8 mm.
    assert length(found)[both].mean() < (1.0 if refine else 0.6)
    # Nor is anything invented where one shows nothing.
    assert length(found)[found.shown.fixed].max() < 4.0


@pytest.mark.parametrize("value", [-3024.0, 0.0])
def test_padding_does_not_hold_back_the_field_of_a_patient_who_moved(network, value):
    shift = np.array([30.0, -12.0])
    fixed = padded(slice_of_a_chest(), (165.0, 135.0), 150.0, value)
    moving = padded(slice_of_a_chest(shift, seed=1), (165.0, 135.0), 150.0, value)
    found = register(fixed, moving, network, intensity="auto")
    both = found.shown.fixed & found.shown.after
    assert np.abs(found.displacement - shift)[both].mean() < 0.6


def test_zeros_beside_an_mr_image_do_not_hold_back_the_alignment():
    shift = np.array([24.0, 15.0])

    def magnitude(image, centre):
        bright = np.abs(image.array + 1100.0) / 3.0
        return padded(Image(bright, image.frame, "mr"), centre, 130.0, 0.0)

    fixed = magnitude(slice_of_a_chest(), (165.0, 135.0))
    moving = magnitude(slice_of_a_chest(shift, seed=1), (165.0, 135.0))
    matrix = align(fixed, moving, kind="rigid")
    np.testing.assert_allclose(
        matrix[:2, 2] + (matrix[:2, :2] - np.eye(2)) @ (165, 135), shift, atol=1.0
    )


@pytest.mark.parametrize("refine", [0, 15])
def test_field_is_small_where_the_moving_image_shows_nothing(network, refine):
    fixed, whole = slice_of_a_chest(), slice_of_a_chest(seed=1)
    frame = Frame((50, 110), (SPACING,) * 2, (0.0, 0.0), np.eye(2))
    moving = Image(whole.array[:50], frame, "upper part")
    found = register(fixed, moving, network, refine=refine)
    hidden = np.zeros(fixed.frame.shape, bool)
    hidden[54:] = True
    assert found.shown.unmatched == pytest.approx(40 / 90, abs=0.02)
    assert not found.shown.after[hidden].any()
    assert length(found)[hidden].mean() < 2.0
    assert length(found)[:40].mean() < (1.0 if refine else 0.6)


def test_field_is_continued_smoothly_where_the_moving_image_ends(network):
    """A shift of all that is shown is the shift of what is not, too."""
    shift = np.array([12.0, -9.0])
    whole = slice_of_a_chest(shift, seed=1)
    frame = Frame((90, 62), (SPACING,) * 2, (0.0, 0.0), np.eye(2))
    moving = Image(whole.array[:, :62], frame, "left part")
    found = register(slice_of_a_chest(), moving, network, initial="none")
    off = np.linalg.norm(found.displacement - shift, axis=-1)
    hidden = ~found.shown.after
    assert hidden.mean() > 0.3
    assert off[hidden].mean() < 0.5 * np.linalg.norm(shift)
    steps = np.abs(np.diff(found.displacement, axis=1)).max()
    assert steps < 2 * SPACING


class Broken:
    """A network without a field."""

    support = Support(reach=0, period=1)

    def apply(self, variables, fixed, moving, *, train):
        return jnp.full((*fixed.shape[:-1], 2), jnp.nan)


def test_prediction_that_is_not_finite_is_refused():
    image = slice_of_a_chest()
    with pytest.raises(InputError, match="prediction of the network gave values that"):
        register(image, image, dense(2, 3.0, model=Broken()), initial="none")


@pytest.mark.parametrize("factor", [16.0, 2000.0])
def test_small_images_are_registered_with_small_voxels(network, factor):
    """The same picture with smaller voxels, so the same result in its own size."""
    bend = 6.0
    fixed, moving = slice_of_a_chest(), slice_of_a_chest((0.0, bend), seed=1)

    def small(image):
        frame = Frame(image.frame.shape, (SPACING / factor,) * 2, (0.0, 0.0), np.eye(2))
        return Image(image.array, frame, image.name)

    found = register(small(fixed), small(moving), network)
    lungs = fixed.array < -500
    off = np.abs(factor * found.displacement - np.array([0.0, bend]))[lungs]
    assert off.mean() < 0.7
    assert not found.parameters["voxel_size"]["given"]
    given = register(small(fixed), small(moving), network, voxel_size=4.0 / factor)
    assert given.parameters["voxel_size"]["mm"] == 4.0 / factor


def test_voxel_size_is_checked(network):
    image = slice_of_a_chest()
    with pytest.raises(InputError, match="voxel_size: is -1"):
        regnet_jax.register(image, image, model=network, voxel_size=-1.0)


def test_parameters_are_json(network):
    image, other = slice_of_a_chest(), slice_of_a_chest(seed=1)
    json.dumps(register(image, other, network).parameters, allow_nan=False)
