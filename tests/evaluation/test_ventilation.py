"""Ventilation against its formulas, on a chest whose lungs take a known breath."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regnet_jax.errors import InputError
from regnet_jax.evaluation import local_volume_change, ventilation
from regnet_jax.evaluation.lung_function import air_change
from regnet_jax.spatial import Frame, Image, affine_transform, sample_transform
from tests.helpers.chest import chest, grown
from tests.helpers.frames import rotation


@given(
    air=st.floats(0.45, 0.95),
    gained=st.floats(-0.3, 1.5),
)
def test_air_change_is_the_gain_of_a_mixture_of_air_and_tissue(air, gained):
    """A litre of lung with so much air takes in a fraction of that air."""
    volume = 1.0 + gained * air
    after = air * (1.0 + gained) / volume
    # Tissue is water, air is -1000.
    fixed, moving = np.array([[-1000.0 * air]]), np.array([[-1000.0 * after]])
    found = air_change(fixed, moving, np.ones((1, 1), bool))
    np.testing.assert_allclose(found, gained, atol=1e-9)


def test_air_change_leaves_airways_and_what_is_no_lung_out():
    fixed = np.array([-1000.0, -800.0, -800.0, -800.0, 40.0])
    moving = np.array([-900.0, -1000.0, -850.0, -850.0, -850.0])
    lungs = np.array([True, True, True, False, True])
    found = air_change(fixed, moving, lungs)
    np.testing.assert_allclose(found, [0, 0, 1000 * -50 / (-800 * 150), 0, 0])


FRAMES = {
    "plain": Frame((24, 40, 44), (5.0, 5.0, 5.0), (0, 0, 0), np.eye(3)),
    "oblique": Frame((24, 40, 44), (5.0, 4.5, 6.0), (3, 9, -200),
                     rotation(3, 0.2) @ np.diag([-1, 1, -1])),
}  # fmt: skip


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("offset", [0, 1024])
def test_ventilation_of_lungs_that_grow(frame, offset):
    """Everything grows by a known factor, and the air in it with it."""
    growth = 1.08
    matrix, fixed, moving, gained = grown(frame, growth)
    images = [
        Image((array + offset).astype(np.int16), frame, name)
        for array, name in ((fixed, "exhale"), (moving, "inhale"))
    ]
    transform = affine_transform(matrix)
    determinant = local_volume_change(frame, sample_transform(transform, frame))
    found = ventilation(*images, transform, determinant)
    lungs = fixed == -800
    assert (found.lungs & lungs).sum() > 0.8 * lungs.sum()
    assert not found.lungs[~lungs].any()
    inside = found.lungs
    np.testing.assert_allclose(found.jacobian[inside], growth**3 - 1, atol=1e-3)
    assert np.median(found.hounsfield[inside]) == pytest.approx(gained, abs=0.02)
    assert not found.jacobian[~inside].any()
    assert not found.hounsfield[~inside].any()


def test_ventilation_needs_lungs():
    frame = FRAMES["plain"]
    _, fixed, _, _ = grown(frame, 1.05)
    images = [Image(fixed, frame, "exhale"), Image(fixed * 0 + 40, frame, "soft")]
    with pytest.raises(InputError, match="exhale and soft do not both show lungs"):
        ventilation(*images, affine_transform(np.eye(4)), np.ones(frame.shape))


def test_chest_of_the_tests_has_lungs():
    frame = FRAMES["plain"]
    assert {-1000, -800, 40} == set(np.unique(chest(frame, frame.centre, -800.0)))
