"""Measures of a registration: landmarks, labels, fields, similarity, regularity."""

from regnet_jax.evaluation.confidence import ErrorEstimate
from regnet_jax.evaluation.fields import (
    JacobianStatistics,
    endpoint_error,
    jacobian_statistics,
    local_volume_change,
)
from regnet_jax.evaluation.labels import (
    LabelOverlap,
    describe_overlap,
    dice,
    hd95,
    label_overlap,
)
from regnet_jax.evaluation.landmarks import (
    check_landmarks,
    registration_errors,
    snap_to_voxels,
)
from regnet_jax.evaluation.lung_function import Ventilation, require_lungs, ventilation
from regnet_jax.evaluation.measures import (
    BeforeAndAfter,
    Measures,
    evaluate,
    evaluate_before_and_after,
)
from regnet_jax.evaluation.motion import (
    MotionStatistics,
    motion_statistics,
    orient_to_expansion,
    scattered_jacobian,
)
from regnet_jax.evaluation.similarity import (
    Lungs,
    Similarity,
    correlation,
    find_body,
    find_lungs,
    image_similarity,
    make_similarity,
    segment_lungs,
)
from regnet_jax.evaluation.statistics import (
    ErrorStatistics,
    PairedDifference,
    PairErrors,
    Statistics,
    bootstrap_interval,
    error_statistics,
    pair_errors,
    paired_difference,
    sample_deviation,
    statistics_over_pairs,
)

__all__ = [
    "BeforeAndAfter",
    "ErrorEstimate",
    "ErrorStatistics",
    "JacobianStatistics",
    "LabelOverlap",
    "Lungs",
    "Measures",
    "MotionStatistics",
    "PairErrors",
    "PairedDifference",
    "Similarity",
    "Statistics",
    "Ventilation",
    "bootstrap_interval",
    "check_landmarks",
    "correlation",
    "describe_overlap",
    "dice",
    "endpoint_error",
    "error_statistics",
    "evaluate",
    "evaluate_before_and_after",
    "find_body",
    "find_lungs",
    "hd95",
    "image_similarity",
    "jacobian_statistics",
    "label_overlap",
    "local_volume_change",
    "make_similarity",
    "motion_statistics",
    "orient_to_expansion",
    "pair_errors",
    "paired_difference",
    "registration_errors",
    "require_lungs",
    "sample_deviation",
    "scattered_jacobian",
    "segment_lungs",
    "snap_to_voxels",
    "statistics_over_pairs",
    "ventilation",
]
