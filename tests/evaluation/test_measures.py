"""``evaluate`` on pairs whose transform is known."""

import dataclasses
import json

import numpy as np
import pytest

from regnet_jax.errors import InputError
from regnet_jax.evaluation import Measures, evaluate, evaluate_before_and_after
from regnet_jax.files import strict_json
from regnet_jax.spatial import Frame, Image, affine_transform, composite, map_points
from tests.helpers.networks import smooth_image

SHAPES = {2: (40, 50), 3: (20, 24, 28)}
dimensions = pytest.mark.parametrize("d", [2, 3])


def shift(d):
    """A translation by three voxels of 2 mm along the last axis of the array."""
    matrix = np.eye(d + 1)
    matrix[0, -1] = 6.0
    return affine_transform(matrix)


def pair(d):
    """A fixed and a moving image, or a label map each, that the shift aligns."""
    moving = smooth_image(SHAPES[d])
    fixed = np.roll(moving, -3, axis=-1)
    images = [Image.from_array(array, 2.0) for array in (fixed, moving)]
    level = np.median(moving)
    maps = [
        Image.from_array((a > level).astype(np.uint8), 2.0) for a in (fixed, moving)
    ]
    return images, maps


@dimensions
def test_evaluate_of_the_true_transform_has_no_errors(d):
    transform, (images, maps) = shift(d), pair(d)
    frame = images[0].frame
    fixed = np.random.default_rng(0).uniform(10, 30, (7, d))
    truth = np.zeros((*frame.shape, d)) + np.eye(d)[0] * 6.0
    found = evaluate(
        transform,
        frame,
        landmarks=(fixed, map_points(transform, fixed)),
        labels=maps,
        images=images,
        moving_frame=frame,
        truth=truth,
    )
    assert found.tre.n == 7
    assert found.tre.max < 1e-9
    assert 0 < found.tre_snapped.max <= np.sqrt(d)
    assert found.overlap[1].dice > 0.9
    assert found.dice == found.overlap[1].dice
    assert found.similarity.correlation == pytest.approx(1, abs=1e-3)
    assert found.similarity.lung_correlation is None
    assert found.jacobian.min == pytest.approx(1, abs=1e-5)
    assert found.endpoint.n == np.prod(frame.shape)
    assert found.endpoint.max < 1e-9
    assert json.loads(strict_json(found.to_dict()))["overlap"]["1"]["dice"] > 0.9


@dimensions
def test_beyond_the_field_images_and_labels_are_measured_as_they_are_warped(d, caplog):
    """With the displacement of its edge, where ITK's is zero."""
    images, maps = pair(d)
    frame = images[0].frame
    small = dataclasses.replace(frame, shape=tuple(n // 2 for n in frame.shape))
    vectors = np.zeros((*small.shape, d)) + np.eye(d)[0] * 6.0
    field = composite(small, vectors, np.eye(d + 1))
    truth = np.zeros((*frame.shape, d)) + np.eye(d)[0] * 6.0
    given = {"labels": maps, "images": images, "truth": truth}
    found = evaluate(field, frame, **given)
    expected = evaluate(shift(d), frame, **given)
    assert found.overlap == expected.overlap
    assert found.endpoint.max == pytest.approx(0.0, abs=1e-6)
    for name in ("min", "max"):
        assert getattr(found.jacobian, name) == pytest.approx(1.0, abs=1e-5)
    assert found.jacobian.folding_fraction == 0.0
    assert found.similarity.correlation == pytest.approx(
        expected.similarity.correlation, abs=1e-6
    )
    told = [r for r in caplog.records if "lies beyond the grid" in r.getMessage()]
    assert len(told) == 2  # once for the images, once for the labels
    # Without images, too.
    alone = evaluate(field, frame)
    assert alone.jacobian.folding_fraction == 0.0
    assert "the transform: " in caplog.text


@dimensions
def test_evaluate_of_no_transform_measures_the_identity(d):
    truth = np.zeros((*SHAPES[d], d)) + np.eye(d)[0] * 6.0
    images, _ = pair(d)
    mask = np.zeros(SHAPES[d], bool)
    mask[2:4] = True
    found = evaluate(None, images[0].frame, truth=truth, truth_mask=mask)
    assert found.endpoint.mean == pytest.approx(6.0)
    assert found.endpoint.n == mask.sum()
    assert found.jacobian is None


def test_truth_of_a_transform_needs_its_grid():
    truth = np.zeros((*SHAPES[2], 2))
    with pytest.raises(ValueError, match="truth needs frame"):
        evaluate(shift(2), truth=truth)


@dimensions
def test_all_transforms_are_measured_on_the_same_labels(d):
    """A label that a transform moves out of sight counts as 0, and is not left out."""
    _, (fixed, moving) = pair(d)
    other = moving.array.copy()
    corner = (slice(0, 2),) * d
    other[corner] = 9
    moving = dataclasses.replace(moving, array=other)
    away = np.eye(d + 1)
    away[:d, d] = 1000.0
    far = affine_transform(away)
    for transform in (None, shift(d), far):
        found = evaluate(transform, labels=(fixed, moving))
        assert list(found.overlap) == [1, 9]
        assert found.overlap[9].dice == 0.0
        assert found.dice == found.overlap[1].dice / 2


POINTS = np.arange(30.0).reshape(10, 3)
HIDDEN = np.where(np.arange(30).reshape(10, 3) == 4, np.nan, POINTS)
GRID = Frame((4, 5, 6), (1, 1, 1), (0, 0, 0), np.eye(3))
LABELS = Image(np.ones(GRID.shape, np.uint8), GRID, "labels")
HALVES = Image(np.full(GRID.shape, 0.5), GRID, "halves")
TRUTH = np.zeros((*GRID.shape, 3))


@pytest.mark.parametrize(
    ("given", "fact"),
    [
        ({"landmarks": (POINTS, POINTS[:1])}, "[n, 3] each"),
        ({"landmarks": (POINTS, POINTS[0])}, "[n, 3] each"),
        ({"landmarks": (POINTS, POINTS[:, :1])}, "[n, 3] each"),
        ({"landmarks": (POINTS[:, :2], POINTS[:, :2])}, "[n, 3] each"),
        ({"landmarks": (POINTS, POINTS, POINTS)}, "[n, 3] each"),
        ({"landmarks": (5.0, 5.0)}, "[n, 3] each"),
        ({"landmarks": ()}, "[n, 3] each"),
        ({"landmarks": (POINTS, HIDDEN)}, "NaN"),
        ({"landmarks": (POINTS, np.ma.masked_greater(POINTS, 20))}, "masked"),
        ({"labels": (HALVES, HALVES)}, "holds fractions"),
        ({"labels": (LABELS.array, LABELS.array)}, "two of regnet_jax.Image"),
        ({"images": (LABELS,)}, "two of regnet_jax.Image"),
        ({"truth": TRUTH[1:]}, "vectors on the fixed grid"),
        ({"truth": TRUTH[..., :1]}, "vectors on the fixed grid"),
        ({"truth": TRUTH, "truth_mask": np.ones(120, bool)}, "one of the fixed grid"),
    ],
)
def test_evaluate_refuses_arguments_that_do_not_fit(given, fact):
    with pytest.raises(InputError) as caught:
        evaluate(shift(3), GRID, **given)
    assert fact in str(caught.value)
    with pytest.raises(InputError, match="give a SimpleITK transform"):
        evaluate(np.eye(4), GRID)


def test_a_mask_of_the_truth_may_have_whole_numbers():
    mask = np.zeros(GRID.shape, np.uint8)
    mask[:2] = 7
    found = evaluate(None, GRID, truth=TRUTH + 1.0, truth_mask=mask).endpoint
    assert found.n == 60


def test_evaluate_of_nothing_is_empty():
    assert evaluate(shift(2)) == Measures()
    assert evaluate(shift(2)).to_dict() == {}
    assert np.isnan(Measures().dice)


@dimensions
def test_before_and_after_are_the_identity_and_the_transform(d):
    transform, (images, maps) = shift(d), pair(d)
    frame = images[0].frame
    points = np.full((4, d), 20.0)
    given = {"landmarks": (points, points + np.eye(d)[0] * 6.0), "labels": maps}
    found = evaluate_before_and_after(transform, frame, images=images, **given)
    assert found.before == evaluate(None, images=images, **given)
    assert found.after == evaluate(transform, frame, images=images, **given)
    listed = found.to_dict()
    assert set(listed) == {"tre", "overlap", "similarity", "jacobian"}
    assert listed["tre"]["before"]["mean"] == pytest.approx(6.0)
    assert listed["tre"]["after"]["mean"] == pytest.approx(0.0)
    assert listed["tre"]["after"]["sd"] == pytest.approx(0.0)
    assert "before" not in listed["jacobian"]


def test_evaluate_leaves_the_jacobian_out_where_an_axis_has_one_voxel():
    frame = Image.from_array(np.arange(12.0).reshape(1, 3, 4), 2.0).frame
    assert evaluate(shift(3), frame).jacobian is None
