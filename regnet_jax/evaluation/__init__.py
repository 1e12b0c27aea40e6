"""Measures of a registration: landmarks, overlap, similarity, regularity."""

from regnet_jax.evaluation.fields import (
    endpoint_errors,
    endpoint_statistics,
    jacobian_statistics,
)
from regnet_jax.evaluation.labels import hd95, label_overlap
from regnet_jax.evaluation.landmarks import (
    error_statistics,
    registration_errors,
    snap_to_voxels,
)
from regnet_jax.evaluation.similarity import correlation, dice

__all__ = [
    "correlation",
    "dice",
    "endpoint_errors",
    "endpoint_statistics",
    "error_statistics",
    "hd95",
    "jacobian_statistics",
    "label_overlap",
    "registration_errors",
    "snap_to_voxels",
]
