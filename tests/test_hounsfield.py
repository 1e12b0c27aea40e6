"""Masks of the body and the lungs on drawn images."""

import jax.numpy as jnp
import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax.hounsfield import (
    body_mask,
    lung_mask,
    traced_body_mask,
    traced_lung_mask,
    vessel_mask,
)


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


def _tubes(spacing):
    """A lung with tubes along the first axis in a chest wall; radii and their masks."""
    shape = tuple(
        round(n / s) for n, s in zip((60.0, 90.0, 120.0), spacing, strict=True)
    )
    _, y, x = (i * s for i, s in zip(np.indices(shape), spacing, strict=True))
    body = (y > 5) & (y < 85) & (x > 5) & (x < 115)
    lung = (y > 15) & (y < 75) & (x > 15) & (x < 105)
    image = np.where(body, 40.0, -1000.0)
    image[lung] = -850.0
    tubes = {}
    for radius, middle in ((1.6, 30.0), (3.0, 48.0), (4.5, 66.0), (9.0, 90.0)):
        tubes[radius] = np.hypot(y - 45, x - middle) <= radius
        image[tubes[radius]] = 40.0
    faint = np.hypot(y - 25, x - 30) <= 3.0
    image[faint] = -750.0
    return image, lung, tubes


@pytest.mark.parametrize("spacing", [(2.0, 1.0, 1.5), (3.0, 1.1, 0.9)])
def test_vessels_are_the_thin_bright_tubes_in_the_lung(spacing):
    """Neither the thick tube nor the wall, nor what is hardly brighter than lung."""
    image, lung, tubes = _tubes(spacing)
    lungs = lung_mask(image, spacing)
    assert lungs[lung].mean() > 0.9
    thin = tubes[1.6] | tubes[3.0] | tubes[4.5]
    found = vessel_mask(image, lungs, spacing)
    np.testing.assert_array_equal(found & ~tubes[9.0], thin)
    # But for a few voxels that stick out of a round shape on a grid.
    assert found[tubes[9.0]].mean() < 0.05
    # Noise of a scan makes no vessels.
    noisy = image + np.random.default_rng(0).normal(0, 25, image.shape)
    found = vessel_mask(noisy, lung_mask(noisy, spacing), spacing)
    assert found[thin].mean() > 0.99
    assert found[~thin].mean() < 1e-3


def test_vessels_are_those_of_another_top_hat_and_closing():
    """Of ITK's, on noise."""
    rng = np.random.default_rng(2)
    image = rng.normal(-600, 250, (17, 22, 19)).astype(np.float32)
    lungs = np.zeros(image.shape, bool)
    lungs[2:15, 5:20, 3:16] = rng.random((13, 15, 13)) < 0.7
    # A ball of 5 mm is a cross of voxels of 4 mm.
    ball = [1, 1, 1]
    padded = np.pad(image, 5, mode="symmetric")
    hat = sitk.WhiteTopHat(sitk.GetImageFromArray(padded), ball, sitk.sitkCross)
    bright = sitk.GetArrayFromImage(hat)[5:-5, 5:-5, 5:-5] >= 200
    wide = sitk.GetImageFromArray(np.pad(lungs, 5, mode="edge").astype(np.uint8))
    closed = sitk.BinaryMorphologicalClosing(wide, ball, sitk.sitkCross)
    closed = sitk.GetArrayFromImage(closed)[5:-5, 5:-5, 5:-5] > 0
    found = vessel_mask(image, lungs, (4.0, 4.0, 4.0))
    np.testing.assert_array_equal(found, bright & closed)
    assert 0.05 < found.mean() < 0.5


@pytest.mark.parametrize("shape", [(9, 11), (5, 9, 11)])
def test_without_lungs_there_are_no_vessels(shape):
    nothing = np.zeros(shape, bool)
    assert not vessel_mask(np.zeros(shape), nothing, (1.0,) * len(shape)).any()


def test_traced_masks_go_on_where_a_box_ends_in_the_lungs():
    _, y, x = np.indices((4, 60, 90)) - np.array([1.5, 29.5, 44.5])[:, None, None, None]
    body = (y / 26) ** 2 + (x / 40) ** 2 < 1
    lungs = (y / 16) ** 2 + ((abs(x) - 20) / 13) ** 2 < 1
    image = np.where(lungs, -850.0, np.where(body, 40.0, -1000.0))
    box = np.s_[:, 20:40, 10:60]
    assert lungs[box][:, 0].any()
    for cut in (np.s_[:], box):
        volume = jnp.asarray(image[cut][..., None], jnp.float32)
        np.testing.assert_array_equal(traced_body_mask(volume), body[cut])
        np.testing.assert_array_equal(traced_lung_mask(volume), lungs[cut])
