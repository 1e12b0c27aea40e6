"""Presets of intensity: what is recognised, and what is mapped to what."""

import numpy as np
import pytest

from regnet_jax.errors import InputError
from regnet_jax.intensity import (
    check_intensity,
    intensity_map,
    map_intensity,
    resolve_intensity,
    resolve_pair,
)

CT = np.array([[-3024.0, -1000.0, -800.0], [40.0, 300.0, 9000.0]])
MR = np.arange(101.0).reshape(1, -1) * 7.0 + 20.0


def mapped(preset, image):
    return map_intensity(image, intensity_map(preset, image))


@pytest.mark.parametrize(
    ("image", "expected"), [(CT, "ct"), (MR, "mr"), (MR.astype(np.uint16), "mr")]
)
def test_hounsfield_units_are_recognised(image, expected):
    assert resolve_intensity("auto", image) == expected
    assert resolve_intensity("none", image) == "none"


def a_chest(rng):
    """HU of air, lung, fat and tissue with noise, ``[20, 30, 30]``."""
    index = np.stack(np.indices((20, 30, 30)), -1) / (20, 30, 30) - 0.5
    radius = np.linalg.norm(index[..., 1:], axis=-1)
    hu = np.select([radius < 0.2, radius < 0.35, radius < 0.42], [-850, 50, -90], -1000)
    return hu + rng.normal(0, 15, hu.shape)


def test_overshoot_and_other_scales_are_no_ct():
    rng = np.random.default_rng(0)
    mr = np.abs(rng.normal(900, 300, (20, 30, 30)))
    mr[0, 0, :10] = -700.0
    assert resolve_intensity("auto", mr) == "mr"
    hu = a_chest(rng)
    assert resolve_intensity("auto", hu) == "ct"
    assert resolve_intensity("auto", 10 * hu) == "mr"
    # Little air beside soft tissue is that of a CT.
    tissue = np.where(rng.random((20, 30, 30)) < 0.3, -90, 50) + rng.normal(
        0, 60, (20, 30, 30)
    )
    tissue[0, 0, :10] = -950.0
    assert resolve_intensity("auto", tissue) == "ct"


def test_a_crop_of_soft_tissue_is_ct_beside_a_ct():
    rng = np.random.default_rng(0)
    chest = a_chest(rng)
    tissue = np.where(rng.random(chest.shape) < 0.3, -90, 50)
    tissue = tissue + rng.normal(0, 60, chest.shape).clip(-200, 200)
    mr = np.abs(rng.normal(900, 300, chest.shape))
    for other, expected in ((tissue, "ct"), (mr, "mr")):
        pair = [chest, other]
        assert resolve_pair("auto", pair, [None, None]) == ["ct", expected]
        assert resolve_pair("auto", pair[::-1], [None, None]) == [expected, "ct"]
    assert resolve_pair("auto", [tissue, tissue], [None, None]) == ["mr", "mr"]
    assert resolve_pair("1,99", [chest, mr], [None, None]) == ["1,99", "1,99"]


def test_ct_is_clipped_and_no_more():
    expected = [[-1024.0, -1000.0, -800.0], [40.0, 300.0, 3071.0]]
    np.testing.assert_array_equal(mapped("ct", CT), np.float32(expected))


@pytest.mark.parametrize("shape", [(60, 70), (24, 30, 32)])
def test_hounsfield_units_without_a_sign_are_recognised_and_shifted(shape):
    index = np.stack(np.indices(shape), -1) / np.array(shape) - 0.5
    radius = np.linalg.norm(index, axis=-1)
    tissue = 30.0 + 40.0 * np.sin(20.0 * index[..., 0])
    hu = np.where(radius < 0.2, -850.0, np.where(radius < 0.4, tissue, -1000.0))
    stored = (hu + 1024).astype(np.uint16)
    assert resolve_intensity("auto", stored) == "ct+1024"
    np.testing.assert_allclose(mapped("ct+1024", stored), hu, atol=1.0)


def test_none_changes_nothing():
    np.testing.assert_array_equal(mapped("none", CT), np.float32(CT))


@pytest.mark.parametrize(("preset", "low"), [("mr", 1), ("10,90", 10), ("0,100", 0)])
def test_percentiles_become_air_and_bone(preset, low):
    found = mapped(preset, MR)[0]
    assert found[low] == pytest.approx(-1000.0, abs=1e-2)
    assert found[100 - low] == pytest.approx(400.0, abs=1e-2)
    assert found[50] == pytest.approx(-300.0, abs=1e-2)
    assert found.min() >= -1000.0
    assert found.max() <= 400.0


def test_an_image_with_little_in_it():
    image = np.zeros((30, 30))
    image[4, 5] = 9.0
    found = mapped("mr", image)
    assert found[4, 5] == pytest.approx(400.0)
    assert found[0, 0] == pytest.approx(-1000.0)


@pytest.mark.parametrize("preset", ["pet", "5", "90,10", "-1,50", "1,101", "1,nan"])
def test_presets_that_there_are_not(preset):
    with pytest.raises(InputError, match=f"{preset}: is no intensity preset"):
        check_intensity(preset)
