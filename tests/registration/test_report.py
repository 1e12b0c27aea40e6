"""The warnings and measures of a report, on chests with a texture in the lungs."""

import dataclasses

import numpy as np
import pytest

from regnet_jax.registration import report as reports
from regnet_jax.registration.report import build_report
from regnet_jax.registration.result import Registration, Shown
from regnet_jax.reporting.schema import RegistrationReport
from regnet_jax.spatial import Frame, Image, affine_transform, warp_image

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


def registered(
    fixed,
    moving,
    residual=None,
    shown=(EVERYWHERE,) * 3,
    parameters=None,
    notices=(),
    warped=None,
):
    """A registration that found nothing but the residual."""
    images = [Image(a, FRAME, name) for a, name in ((fixed, "a"), (moving, "b"))]
    residual = np.zeros((*SHAPE, 3)) if residual is None else residual
    parameters = {"model": "m"} | (parameters or {})
    after = images[1] if warped is None else Image(warped, FRAME, "b")
    return Registration(
        *(*images, np.eye(4), residual, FRAME, after, Shown(*shown), {}, parameters),
        tuple(notices),
    )


def report(*images, landmarks=None, labels=None, request=None, **how):
    """The report of a registration that found nothing but the residual."""
    known = {"landmarks": landmarks, "labels": labels, "request": request}
    return build_report(registered(*images, **how), **known)[0]


def test_large_images_are_measured_at_larger_voxels(monkeypatch):
    """Landmarks, snapped to voxels too, do not depend on that."""
    rng = np.random.default_rng(0)
    points = rng.uniform(20, 90, (30, 3))
    known = {"landmarks": (points, points + 3.0)}
    whole = report(chest(0), chest(0), **known)
    monkeypatch.setattr(reports, "_MOST_VOXELS", 0.3 * np.prod(SHAPE))
    images = [Image(chest(0), FRAME, "a") for _ in range(2)]
    everywhere = Shown(*[np.ones(SHAPE, bool)] * 3)
    found = Registration(
        *(*images, np.eye(4), np.zeros((*SHAPE, 3)), FRAME, images[1], everywhere),
        *({}, {"model": "m"}),
    )
    measured, arrays = build_report(found, **known)
    for array in (arrays.fixed, arrays.warped, arrays.determinant):
        assert 0.1 * np.prod(SHAPE) < array.size <= 0.3 * np.prod(SHAPE)
    assert measured.parameters["measured_at_mm"] == list(arrays.spacing[::-1])
    assert measured.after.tre_snapped == whole.after.tre_snapped
    assert measured.after.similarity.correlation == pytest.approx(1.0)
    assert measured.after.similarity.lung_overlap == pytest.approx(1.0)
    assert measured.warnings == whole.warnings == ()


def warnings(fixed, moving, residual=None):
    return list(report(fixed, moving, residual).warnings)


def test_good_registration_gets_no_warning():
    assert warnings(chest(0), chest(0)) == []


def test_lungs_of_two_people_get_a_warning():
    (text,) = warnings(chest(0), chest(1))
    assert "both scans are of one patient" in text
    half = 0.5 * (chest(0) + chest(1))
    assert warnings(chest(0), half) == []


def test_lungs_of_undefined_correlation_get_a_warning():
    (text,) = warnings(chest(0), np.where(chest(0) > -500, chest(0), -850.0))
    assert "nothing in the lungs could be compared" in text


@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_an_image_cut_off_by_a_window_gets_a_warning(side):
    """Padding of the largest value is no window."""
    images = {"fixed": chest(0), "moving": chest(0)}
    images[side] = np.minimum(images[side], np.percentile(chest(0), 80))
    (text,) = warnings(**images)
    # A fifth of all, and more of what is not the constant air around the body.
    assert f"31% of the voxels of the {side} image have its largest value" in text
    images = {"fixed": chest(0), "moving": chest(0)}
    images[side][:3] = 4000.0
    assert not any("largest value" in text for text in warnings(**images))
    images[side] = np.where(chest(0) > -500, 1.0, 0.0)
    assert not any("largest value" in text for text in warnings(**images))


@pytest.mark.parametrize("step", [-2.5, 2.5])
def test_folds_get_a_warning(step):
    residual = np.zeros((*SHAPE, 3))
    residual[:, 10:, :, 1] = step * 2.2
    expected = ["the field folds in places; see the Jacobian map"] if step < 0 else []
    assert warnings(chest(0), chest(0), residual) == expected


def test_images_that_are_not_ct_get_a_warning():
    image = np.random.default_rng(0).uniform(0, 300, SHAPE)
    (text,) = warnings(image, image)
    assert "does not look like CT" in text


@pytest.mark.parametrize(("slices", "warned"), [(2, False), (3, True), (12, True)])
def test_unmatched_fraction_is_reported_and_not_compared(slices, warned):
    after = EVERYWHERE.copy()
    after[:slices] = False
    fixed, moving = chest(0), chest(0)
    moving[:slices] = 500.0
    result = report(fixed, moving, shown=(EVERYWHERE, EVERYWHERE, after))
    assert result.unmatched_fraction == pytest.approx(slices / 24)
    assert result.after.similarity.correlation == pytest.approx(1.0)
    assert result.before.similarity.correlation < 0.9
    texts = [w for w in result.warnings if "shows nothing at" in w]
    assert bool(texts) == warned
    if warned:
        assert f"at {slices / 24:.0%} of the fixed image" in texts[0]


def test_padding_of_the_fixed_image_needs_no_counterpart():
    own = EVERYWHERE.copy()
    own[:12] = False
    result = report(chest(0), chest(0), shown=(own, EVERYWHERE, own))
    assert result.unmatched_fraction == 0.0
    assert result.warnings == ()


def test_guessed_voxel_size_gets_a_warning():
    voxel = {"mm": 0.125, "network": 2.0, "adapted": True, "given": False}
    (text,) = report(chest(0), chest(0), parameters={"voxel_size": voxel}).warnings
    assert "voxels of 0.125 mm instead of 2" in text
    assert "--voxel_size" in text
    # As with --voxel_size, and with --preset accurate.
    parameters = {"voxel_size": voxel | {"adapted": False}}
    assert report(chest(0), chest(0), parameters=parameters).warnings == ()


def test_shifted_hounsfield_units_get_a_warning():
    parameters = {"intensity": {"fixed": "ct+1024", "moving": "ct"}}
    stored = chest(0) + 1024
    (text,) = report(stored, chest(0), parameters=parameters).warnings
    assert "values of the fixed image were taken for Hounsfield units + 1024" in text
    # Unless the user has said so.
    parameters["intensity"]["given"] = True
    assert report(stored, chest(0), parameters=parameters).warnings == ()


def test_ct_and_another_image_get_a_warning():
    parameters = {"intensity": {"fixed": "ct", "moving": "mr"}}
    (text,) = report(chest(0), chest(0), parameters=parameters).warnings
    assert "the fixed image looks like CT in Hounsfield units and the moving" in text


def test_images_that_are_unlike_get_a_warning():
    """Less alike than before, unlike, and nothing to compare."""
    rng = np.random.default_rng(0)
    noise = [rng.normal(0, 300, SHAPE) for _ in range(2)]
    texts = warnings(*noise)
    assert any("still unlike after the registration (correlation" in t for t in texts)
    off = np.roll(chest(0), 8, axis=2)
    worse = report(chest(0), chest(0), warped=off).warnings
    assert any("are less alike after the registration (correlation" in t for t in worse)
    nothing = np.zeros(SHAPE, bool)
    texts = report(chest(0), chest(0), shown=(EVERYWHERE, EVERYWHERE, nothing)).warnings
    assert any("no part of the images could be compared" in text for text in texts)


@pytest.mark.parametrize("opposite", [False, True])
def test_opposite_contrasts_on_a_dark_background_get_a_warning(opposite):
    body = chest(0) > -500
    values = np.random.default_rng(3).normal(0, 40, SHAPE)
    fixed = np.where(body, 300 + values, 5.0)
    moving = np.where(body, 300 - values if opposite else 900 + 2 * values, 5.0)
    texts = warnings(fixed, moving)
    assert np.corrcoef(fixed.ravel(), moving.ravel())[0, 1] > 0.9
    found = [text for text in texts if "opposite contrasts" in text]
    assert bool(found) == opposite
    assert not opposite or "(correlation -1.00)" in found[0]


def test_before_and_after_are_sampled_alike():
    """Slices that are thicker in the fixed image: nothing has moved."""
    fine = Frame((72, 50, 66), (3.0, 2.5, 4 / 3), FRAME.origin, np.eye(3))
    moving = Image(np.random.default_rng(0).normal(size=fine.shape), fine, "b")
    still = registered(chest(0), chest(0))
    fixed = warp_image(moving, FRAME, affine_transform(np.eye(4)))
    found = build_report(
        dataclasses.replace(still, fixed=fixed, moving=moving, warped=fixed)
    )[0]
    assert found.before.similarity == found.after.similarity
    assert found.before.similarity.correlation == pytest.approx(1.0)


def test_sizes_that_differ_tenfold_get_a_warning():
    small = Frame(SHAPE, tuple(s / 10 for s in SPACING), FRAME.origin, np.eye(3))
    assert not any("mm long" in text for text in warnings(chest(0), chest(0)))
    fixed = Image(chest(0), small, "a")
    found = dataclasses.replace(registered(chest(0), chest(0)), fixed=fixed)
    (text,) = reports.list_warnings(found)
    assert "the fixed image is 19.8 mm long and the moving image 198 mm" in text


def test_landmarks_and_labels_are_measured_before_and_after():
    residual = np.zeros((*SHAPE, 3))
    residual[..., 0] = SPACING[0]
    points = np.array([[50.0, 40.0, 70.0], [60.0, 45.0, 80.0]])
    labels = tuple(
        Image((chest(0) < -500).astype(np.uint8), FRAME, name) for name in "ab"
    )
    result = report(
        chest(0),
        chest(0),
        residual,
        landmarks=(points, points + np.array([[SPACING[0], 0.0, 0.0]])),
        labels=labels,
        request={"refine": None},
        notices=["first"],
    )
    assert result.before.tre.mean == pytest.approx(3.0)
    assert result.after.tre.mean == pytest.approx(0.0, abs=1e-9)
    assert result.before.overlap[1].dice == 1.0
    assert result.after.overlap[1].dice < 1.0
    assert result.warnings[0] == "first"
    assert RegistrationReport.from_json(result.to_json()) == result
