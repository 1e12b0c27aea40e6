"""Scans without their noise and their table, on analytic patients."""

import numpy as np
import pytest

from regnet_jax.hounsfield import AIR
from regnet_jax.synthesis.volumes.anatomy import anatomy, remove_noise, trunk_mask

SPACING = 2.0


def _scan(dimensions, *, joined=False):
    """A trunk with lungs and vessels, an arm, and a table of thin shells."""
    shape = (8, 80, 120)
    _, y, x = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    trunk = (y / 24) ** 2 + (x / 36) ** 2 < 1
    image = np.where(trunk, 40.0, AIR)
    image[(y / 14) ** 2 + ((abs(x) - 17) / 11) ** 2 < 1] = -850.0
    image[y**2 + (abs(x) - 17) ** 2 < 2**2] = -700.0  # a small vessel, partly air
    image[(y / 8) ** 2 + ((x - 50) / 8) ** 2 < 1] = 50.0
    below = 24 if joined else 28
    image[(y >= below) & (y < below + 2)] = 100.0
    if dimensions == 2:
        return image[4], trunk[4]
    return image, trunk


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_trunk_is_all_that_is_left(dimensions, joined):
    image, trunk = _scan(dimensions, joined=joined)
    got = trunk_mask(image, spacing=SPACING)
    assert got[trunk].mean() > 0.995
    # One voxel of skin, and where the table touches it.
    assert got[~trunk].mean() < 0.07
    result = anatomy(image, spacing=SPACING)
    assert (result[~got] == AIR).all()
    assert result.dtype == np.float32
    assert result[..., -10:].max() == AIR  # the arm


def test_noise_goes_and_small_vessels_stay():
    image, _ = _scan(3)
    rng = np.random.default_rng(0)
    noisy = image + rng.normal(0.0, 20.0, image.shape)
    got = remove_noise(noisy)
    flat = np.s_[:, 5:20, 5:20]
    assert got[flat].std() < 0.6 * noisy[flat].std()
    # 150 HU between vessel and lung, of which at most a tenth fades.
    _, y, x = (
        np.indices(image.shape) - (np.array(image.shape)[:, None, None, None] - 1) / 2
    )
    vessel = y**2 + (abs(x) - 17) ** 2 < 1
    around = (abs(y) < 9) & (abs(abs(x) - 17) < 6) & (y**2 + (abs(x) - 17) ** 2 > 16)
    assert got[vessel].mean() - got[around].mean() > 0.9 * 150


def test_what_has_no_trunk_stays():
    image = np.full((6, 7, 8), -990.0)
    np.testing.assert_allclose(anatomy(image, spacing=4.0), image)
