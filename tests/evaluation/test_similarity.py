"""Correlation against NumPy."""

import numpy as np
import pytest

from regnet_jax.evaluation import correlation, evaluate
from regnet_jax.spatial import Frame, Image, affine_transform
from tests.helpers.chest import chest


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


def test_lungs_are_compared_where_both_images_show_them():
    frame = Frame((60, 80, 80), (3.0,) * 3, (0.0,) * 3, np.eye(3))
    whole = Image(chest(frame, frame.centre, -800.0), frame, "chest")
    half = Frame((30, 80, 80), (3.0,) * 3, (0.0,) * 3, np.eye(3))
    found = evaluate(None, images=(whole, Image(whole.array[:30], half, "half")))
    assert found.similarity.lung_overlap > 0.98


@pytest.mark.parametrize("spacing", [(3.0, 3.0, 3.0), (2.5, 3.0, 4.0)])
def test_lungs_are_compared_where_the_transform_carries_them(spacing):
    """Chests that are 12 mm apart: the masks overlap after the right shift alone."""
    shape = tuple(round(240 / s) for s in spacing[::-1])
    frame = Frame(shape, spacing, (-30.0, 20.0, 5.0), np.eye(3))
    shift = np.array([12.0, 0.0, 0.0])
    arrays = [chest(frame, frame.centre + s, -800.0) for s in (0 * shift, shift)]
    images = [Image(array, frame, "chest") for array in arrays]
    lungs = [array == -800.0 for array in arrays]
    apart = 2 * (lungs[0] & lungs[1]).sum() / (lungs[0].sum() + lungs[1].sum())

    def overlap(vector):
        matrix = np.eye(4)
        matrix[:3, 3] = vector
        found = evaluate(affine_transform(matrix), images=images)
        return found.similarity.lung_overlap

    before = evaluate(None, images=images).similarity.lung_overlap
    assert before == pytest.approx(apart, abs=0.03)
    assert overlap(shift) > 0.98
    assert overlap(-shift) < before - 0.1
