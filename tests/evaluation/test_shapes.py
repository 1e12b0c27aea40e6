"""Shapes in the annotations of the public functions hold when these run."""

import numpy as np
import pytest

from regnet_jax.evaluation import (
    fields,
    labels,
    landmarks,
    motion,
    similarity,
    statistics,
)
from regnet_jax.spatial import Frame
from tests.helpers.shapes import annotated, checked

SHAPE, SPACING = (5, 7, 6), (1.0, 2.0, 0.5)
IMAGE = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
MASK = np.ones(SHAPE, bool)
FIELD = np.zeros((*SHAPE, 3), np.float32)
POINTS = np.zeros((4, 3))
CLOUD = np.random.default_rng(0).uniform(0, 100, (70, 3))

EXAMPLES = [
    (fields.endpoint_error, (FIELD, FIELD)),
    (
        fields.local_volume_change,
        (Frame(SHAPE, SPACING, np.zeros(3), np.eye(3)), FIELD),
    ),
    (fields.jacobian_statistics, (np.exp(IMAGE), MASK)),
    (labels.labels_of, (MASK.astype(np.uint8), MASK.astype(np.int16))),
    (labels.label_overlap, (MASK.astype(np.uint8), MASK.astype(np.int16), SPACING)),
    (labels.dice, (MASK, MASK)),
    (labels.hd95, (MASK, MASK, SPACING)),
    (landmarks.registration_errors, (POINTS, POINTS)),
    (landmarks.snap_to_voxels, (POINTS, np.eye(3), np.zeros(3))),
    (motion.motion_statistics, (CLOUD, CLOUD)),
    (motion.scattered_jacobian, (CLOUD, CLOUD)),
    (motion.orient_to_expansion, (CLOUD, CLOUD)),
    (similarity.correlation, (IMAGE, IMAGE, MASK)),
    (similarity.image_similarity, (IMAGE, IMAGE, MASK, MASK, MASK)),
    (statistics.sample_deviation, (IMAGE.ravel(),)),
    (statistics.error_statistics, ([1.0, 2.0],)),
    (statistics.bootstrap_interval, ([1.0, 2.0], ["a", "b"])),
    (statistics.paired_difference, ([1.0, 2.0], [2.0, 3.0], ["a", "b"])),
    (statistics.pair_errors, (IMAGE.ravel(), IMAGE.ravel())),
]


def test_every_annotated_function_has_an_example():
    modules = (fields, labels, landmarks, motion, similarity, statistics)
    want = {function for module in modules for function in annotated(module)}
    assert want == {function for function, _ in EXAMPLES}


@pytest.mark.parametrize(("function", "arguments"), EXAMPLES)
def test_function_keeps_the_shapes_of_its_annotations(function, arguments):
    checked(function)(*arguments)


def test_wrong_shape_is_found():
    with pytest.raises(Exception, match="truth"):
        checked(fields.endpoint_error)(FIELD, FIELD[:-1])
