"""Masks of the body and the lungs on drawn images."""

import numpy as np
import pytest

from regnet_jax.hounsfield import body_mask, lung_mask


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
