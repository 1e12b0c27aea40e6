"""Endpoint errors and the body that they are taken over."""

import numpy as np
import pytest

from regnet_jax.evaluation import endpoint_errors, endpoint_statistics
from regnet_jax.hounsfield import body_mask


@pytest.mark.parametrize("shape", [(5, 7), (4, 5, 6)])
def test_endpoint_errors_are_distances_in_the_mask(shape):
    rng = np.random.default_rng(0)
    d = len(shape)
    found, truth = rng.normal(size=(2, *shape, d))
    mask = rng.random(shape) < 0.4
    expected = [
        np.sqrt(sum((found[i][k] - truth[i][k]) ** 2 for k in range(d)))
        for i in zip(*np.nonzero(mask), strict=True)
    ]
    np.testing.assert_allclose(endpoint_errors(found, truth, mask), expected)
    assert endpoint_errors(found, truth).shape == (mask.size,)


def test_endpoint_statistics_are_numpys():
    errors = np.random.default_rng(1).gamma(2.0, size=1001)
    statistics = endpoint_statistics(errors)
    assert statistics["mean"] == pytest.approx(errors.sum() / 1001)
    assert statistics["sd"] == pytest.approx(np.sqrt(errors.var()))
    assert statistics["p95"] == pytest.approx(np.sort(errors)[950])
    assert statistics["median"] == pytest.approx(np.sort(errors)[500])
    assert statistics["max"] == errors.max()


def chest(shape):
    """A body with a lung that reaches the first slice, a table, and the mask."""
    y, x = np.indices(shape[-2:])
    body = ((y - 20) / 15) ** 2 + ((x - 25) / 20) ** 2 <= 1
    lung = ((y - 20) / 8) ** 2 + ((x - 20) / 6) ** 2 <= 1
    image = np.where(body & ~lung, 40.0, -1000.0)
    image[38:40, 5:45] = 100.0
    return np.broadcast_to(image, shape), np.broadcast_to(body, shape)


@pytest.mark.parametrize("shape", [(43, 51), (5, 43, 51)])
def test_body_holds_the_lungs_but_neither_air_nor_table(shape):
    image, body = chest(shape)
    np.testing.assert_array_equal(body_mask(image), body)


def test_no_tissue_gives_an_empty_body():
    assert not body_mask(np.full((4, 5), -1000.0)).any()
