"""Overlap and surface distance against geometry, SimpleITK and brute force."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.distance import cdist

from regnet_jax.evaluation import (
    LabelOverlap,
    describe_overlap,
    dice,
    hd95,
    label_overlap,
)

SPACINGS = [(1.0, 1.0, 1.0), (2.5, 0.8, 1.5)]


def box(shape, low, size):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))] = True
    return mask


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_hd95_of_shifted_boxes_is_the_shift(spacing, axis):
    """More than a twentieth of each surface is the whole shift away."""
    size, shift = (9, 10, 11), 3
    low = np.array([2, 2, 2])
    second = low + shift * np.eye(3, dtype=int)[axis]
    masks = box((20, 20, 20), low, size), box((20, 20, 20), second, size)
    assert hd95(*masks, spacing) == pytest.approx(shift * spacing[axis])
    found = label_overlap(*(mask.astype(np.uint8) for mask in masks), spacing)
    assert found[1].dice == pytest.approx((size[axis] - shift) / size[axis])
    assert list(found) == [1]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_hd95_of_shifted_boxes_equals_simpleitks_hausdorff_distance(spacing, axis):
    """More than a twentieth of the surface is the whole shift away."""
    low = np.array([2, 3, 1])
    second = low + 4 * np.eye(3, dtype=int)[axis]
    masks = [box((20, 20, 20), place, (9, 8, 10)) for place in (low, second)]
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in masks]
    for image in images:
        image.SetSpacing(spacing[::-1])
    distance = sitk.HausdorffDistanceImageFilter()
    distance.Execute(*images)
    assert hd95(*masks, spacing) == pytest.approx(distance.GetHausdorffDistance())


@pytest.mark.parametrize("spacing", SPACINGS)
def test_hd95_and_dice_of_concentric_balls(spacing):
    """Every point of one surface is the difference of the radii away."""
    small, large = 7.0, 12.0
    shape = [int(30 / s) + 1 for s in spacing]
    grid = np.indices(shape).T * np.array(spacing) - 15.0
    radius = np.linalg.norm(grid, axis=-1).T
    first, second = radius <= small, radius <= large
    # A surface of voxels is up to a voxel within the ball.
    found = hd95(first, second, spacing)
    assert found == pytest.approx(large - small, abs=max(spacing))
    overlap = label_overlap(first * 3, second * 3, spacing)[3]
    ratio = (small / large) ** 3
    assert overlap.dice == pytest.approx(2 * ratio / (1 + ratio), abs=0.03)
    assert overlap.hd95 == found


def contour(mask):
    """Voxels with a face on the outside, as SimpleITK finds them."""
    padded = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
    edge = sitk.GetArrayFromImage(sitk.BinaryContour(padded, fullyConnected=False))
    return np.argwhere(edge) - 1


@pytest.mark.parametrize("shape", [(12, 14), (7, 9, 8)])
@pytest.mark.parametrize("density", [0.02, 0.3, 0.9])
def test_hd95_of_random_masks_equals_brute_force(shape, density):
    rng = np.random.default_rng(0)
    spacing = (2.0, 0.7, 1.3)[: len(shape)]
    first, second = rng.random((2, *shape)) < density
    apart = cdist(contour(first) * spacing, contour(second) * spacing)
    expected = max(np.percentile(apart.min(axis), 95) for axis in (0, 1))
    assert hd95(first, second, spacing) == pytest.approx(expected)
    assert hd95(second, first, spacing) == pytest.approx(expected)
    assert hd95(first, first, spacing) == 0


def test_label_overlap_has_simpleitks_dice_of_every_label():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 6, (2, 7, 8, 9)).astype(np.uint8)
    found = label_overlap(first, second, (1.0, 1.0, 1.0))
    measures = sitk.LabelOverlapMeasuresImageFilter()
    measures.Execute(
        *(sitk.GetImageFromArray(a.astype(np.uint8)) for a in (first, second))
    )
    assert list(found) == [1, 2, 3, 4, 5]
    for label, values in found.items():
        assert values.dice == pytest.approx(measures.GetDiceCoefficient(label))
        assert values.hd95 >= 0


def test_label_overlap_of_a_missing_label_has_no_distance():
    first = np.zeros((4, 5), np.int16)
    second = first.copy()
    first[1, 1], second[2, 2], first[3, 3], second[3, 3] = 7, -2, 300, 300
    found = label_overlap(first, second, (1.0, 1.0))
    assert list(found) == [-2, 7, 300]
    assert found[300] == LabelOverlap(dice=1, hd95=0)
    for label in (-2, 7):
        assert found[label].dice == 0
        assert np.isnan(found[label].hd95)
    assert label_overlap(first * 0, first * 0, (1.0, 1.0)) == {}
    assert np.isnan(hd95(first > 999, first > 999, (1.0, 1.0)))


def test_dice_equals_simpleitks():
    a, b = np.random.default_rng(3).random((2, 6, 7, 8)) < 0.3
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*(sitk.GetImageFromArray(m.astype(np.uint8)) for m in (a, b)))
    assert dice(a, b) == pytest.approx(overlap.GetDiceCoefficient())
    assert np.isnan(dice(a & False, b & False))


def test_odd_labels_are_described():
    first = np.zeros((6, 7), int)
    first[2:4, 2:5] = 3
    assert describe_overlap(label_overlap(first, first, (1, 1))) == []
    assert describe_overlap({}) == []
    (line,) = describe_overlap(label_overlap(first, 2 * first, (1, 1)))
    assert line.startswith("no label is in both label maps")
    second = first.copy()
    second[0] = range(10, 17)
    (line,) = describe_overlap(label_overlap(first, second, (1, 1)))
    assert line.startswith("label 10, 11, 12, 13, 14, ...: is not in both label maps")


def test_labels_to_compare_can_be_named():
    first = np.zeros((6, 7), int)
    first[2:4, 2:5] = 3
    first[5] = 9
    found = label_overlap(first, np.where(first == 3, 3, 0), (1, 1), labels=[8, 3])
    assert list(found) == [3, 8]
    assert found[3].dice == 1.0
    assert found[8].dice == 0.0
    assert np.isnan(found[8].hd95)
