"""What a report warns of, on phantoms of a chest with a texture in the lungs."""

import numpy as np
import pytest

from regnet_jax.evaluation import segment_lungs
from regnet_jax.registration.result import Registration, Shown
from regnet_jax.registration.summary import make_views, summarise
from regnet_jax.spatial import Frame, Image

SHAPE, SPACING = (24, 50, 66), (3.0, 2.5, 4.0)
FRAME = Frame(SHAPE, SPACING, (5.0, -8.0, 40.0), np.eye(3))


def chest(seed):
    """Lungs of the same shape whatever the seed; their texture is drawn from it."""
    z, y, x = np.indices(SHAPE)
    body = ((y - 25) / 22) ** 2 + ((x - 33) / 30) ** 2 < 1
    lungs = sum(
        ((z - 12) / 15) ** 2 + ((y - 25) / 13) ** 2 + ((x - c) / 10) ** 2 < 1
        for c in (20, 46)
    )
    texture = np.random.default_rng(seed).normal(-850, 60, SHAPE)
    # Not constant, which at the border of an image would be padding.
    tissue = np.random.default_rng(9).normal(40, 5, SHAPE)
    return np.where(lungs > 0, texture, np.where(body, tissue, -1000.0))


EVERYWHERE = np.ones(SHAPE, bool)


def report(fixed, moving, residual=None, shown=(EVERYWHERE,) * 3, parameters=None):
    """Of a registration that found nothing but the residual."""
    images = [Image(a, FRAME, name) for a, name in ((fixed, "a"), (moving, "b"))]
    residual = np.zeros((*SHAPE, 3)) if residual is None else residual
    found = Registration(
        FRAME, np.eye(4), residual, images[1], Shown(*shown), {}, parameters or {}
    )
    views = make_views(found, *images)
    lungs = segment_lungs(found.transform, *images)
    return summarise(found, views, lungs, model="m")


def warnings(fixed, moving, residual=None):
    return report(fixed, moving, residual)["warnings"]


def test_a_good_registration_is_not_warned_of():
    assert warnings(chest(0), chest(0)) == []


def test_lungs_of_two_people_are_warned_of():
    (text,) = warnings(chest(0), chest(1))
    assert "both scans are of one patient" in text
    half = 0.5 * (chest(0) + chest(1))
    assert warnings(chest(0), half) == []


def test_lungs_without_any_likeness_are_warned_of():
    (text,) = warnings(chest(0), np.where(chest(0) > -500, chest(0), -850.0))
    assert "correlation nan" in text


@pytest.mark.parametrize("step", [-2.5, 2.5])
def test_folds_are_warned_of(step):
    residual = np.zeros((*SHAPE, 3))
    residual[:, 10:, :, 1] = step * 2.2
    expected = ["the field folds in places; see the Jacobian map"] if step < 0 else []
    assert warnings(chest(0), chest(0), residual) == expected


def test_other_intensities_are_warned_of():
    image = np.random.default_rng(0).uniform(0, 300, SHAPE)
    (text,) = warnings(image, image)
    assert "does not look like CT" in text


@pytest.mark.parametrize(("slices", "warned"), [(2, False), (3, True), (12, True)])
def test_what_the_moving_image_does_not_show_is_told_and_not_compared(slices, warned):
    after = EVERYWHERE.copy()
    after[:slices] = False
    fixed, moving = chest(0), chest(0)
    moving[:slices] = 500.0
    told = report(fixed, moving, shown=(EVERYWHERE, EVERYWHERE, after))
    assert told["unmatched_fraction"] == pytest.approx(slices / 24)
    assert told["similarity"]["after"]["correlation"] == pytest.approx(1.0)
    assert told["similarity"]["before"]["correlation"] < 0.9
    texts = [w for w in told["warnings"] if "shows nothing at" in w]
    assert bool(texts) == warned
    if warned:
        assert f"at {slices / 24:.0%} of the fixed image" in texts[0]


def test_padding_of_the_fixed_image_wants_no_counterpart():
    own = EVERYWHERE.copy()
    own[:12] = False
    told = report(chest(0), chest(0), shown=(own, EVERYWHERE, own))
    assert told["unmatched_fraction"] == 0.0
    assert told["warnings"] == []


def test_a_guessed_voxel_size_is_warned_of():
    voxel = {"mm": 0.125, "network": 2.0, "given": False}
    (text,) = report(chest(0), chest(0), parameters={"voxel_size": voxel})["warnings"]
    assert "voxels of 0.125 mm instead of 2" in text
    assert "--voxel_size" in text
    for quiet in ({"mm": 2.0}, {"given": True}):
        parameters = {"voxel_size": voxel | quiet}
        assert report(chest(0), chest(0), parameters=parameters)["warnings"] == []


def test_shifted_hounsfield_units_are_warned_of():
    parameters = {"intensity": {"fixed": "ct+1024", "moving": "ct"}}
    stored = chest(0) + 1024
    (text,) = report(stored, chest(0), parameters=parameters)["warnings"]
    assert "values of the fixed image were taken for Hounsfield units + 1024" in text
