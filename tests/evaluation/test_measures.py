import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax.evaluation import correlation, dice, jacobian_statistics
from regnet_jax.hounsfield import lung_mask


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize("shape", [(7, 9), (5, 6, 7)])
def test_correlation_is_pearson_inside_the_mask(rng, shape):
    a, b = rng.normal(size=(2, *shape))
    mask = rng.random(shape) < 0.4
    expected = np.corrcoef(a[mask], b[mask])[0, 1]
    assert correlation(a, b, mask) == pytest.approx(expected, abs=1e-12)
    assert correlation(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_correlation_ignores_contrast_but_not_its_sign(rng):
    a = rng.normal(size=(4, 5, 6))
    assert correlation(a, 3 * a + 2) == pytest.approx(1)
    assert correlation(a, -a) == pytest.approx(-1)


def test_correlation_of_nothing_is_not_a_number(rng):
    a = rng.normal(size=(4, 5))
    assert np.isnan(correlation(a, np.ones_like(a)))
    assert np.isnan(correlation(a, a, np.zeros(a.shape, bool)))


def test_dice_agrees_with_simpleitk(rng):
    a, b = rng.random((2, 6, 7, 8)) < 0.3
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*(sitk.GetImageFromArray(m.astype(np.uint8)) for m in (a, b)))
    assert dice(a, b) == pytest.approx(overlap.GetDiceCoefficient())
    assert np.isnan(dice(a & False, b & False))


def test_jacobian_statistics_of_known_values():
    values = np.array([[-0.5, 0.0], [1.0, np.e]])
    found = jacobian_statistics(values)
    assert found["min"] == -0.5
    assert found["max"] == pytest.approx(np.e)
    assert found["folding_fraction"] == 0.5
    assert found["sd_log"] == pytest.approx(0.5)
    inside = jacobian_statistics(values, values > 0)
    assert inside["folding_fraction"] == 0


def _phantom():
    """Body of tissue in air with two lungs, one of which reaches the last slice."""
    z, y, x = np.indices((30, 60, 80))
    body = ((y - 30) / 26) ** 2 + ((x - 40) / 36) ** 2 < 1
    lungs = sum(
        ((z - 20) / 14) ** 2 + ((y - 30) / 15) ** 2 + ((x - c) / 12) ** 2 < 1
        for c in (24, 56)
    )
    gas = (z - 3) ** 2 + (y - 40) ** 2 + (x - 40) ** 2 < 4
    image = np.where(body, 40, -1000)
    image[gas] = -900
    image[lungs > 0] = -850
    return image, lungs > 0


def test_lungs_are_found_without_outside_air_and_small_gas():
    image, lungs = _phantom()
    np.testing.assert_array_equal(lung_mask(image, (3.0, 3.0, 3.0)), lungs)


def test_lungs_that_open_to_the_air_outside_are_found():
    """By a slit at the end of the image, as airways do at the mouth."""
    image, lungs = _phantom()
    image[-1, :, :] = np.where(lungs[-1], image[-1], -1000.0)
    np.testing.assert_array_equal(lung_mask(image, (3.0, 3.0, 3.0))[:-1], lungs[:-1])


def test_only_chest_cts_have_lungs():
    image, _ = _phantom()
    assert lung_mask(image, (3.0, 3.0, 3.0)).any()
    assert not lung_mask(np.clip(image, 0, None), (3.0, 3.0, 3.0)).any()
    assert not lung_mask(image, (0.5, 0.5, 0.5)).any()  # a mouse's lungs, or a bubble
    assert not lung_mask(image[10], (3.0, 3.0)).any()
