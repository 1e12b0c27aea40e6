"""Measures of a registration: landmarks, overlap, similarity, regularity."""

from regnet_jax.evaluation.body import body_mask
from regnet_jax.evaluation.displacements import endpoint_errors, endpoint_statistics
from regnet_jax.evaluation.landmarks import (
    error_statistics,
    registration_errors,
    snap_to_voxels,
)
from regnet_jax.evaluation.lungs import lung_mask
from regnet_jax.evaluation.overlap import hd95, label_overlap
from regnet_jax.evaluation.regularity import jacobian_statistics
from regnet_jax.evaluation.similarity import correlation, dice

__all__ = [
    "body_mask",
    "correlation",
    "dice",
    "endpoint_errors",
    "endpoint_statistics",
    "error_statistics",
    "hd95",
    "jacobian_statistics",
    "label_overlap",
    "lung_mask",
    "registration_errors",
    "snap_to_voxels",
]
