"""Measures of a registration: similarity, overlap, regularity."""

from regnet_jax.evaluation.lungs import is_chest_ct, lung_mask
from regnet_jax.evaluation.regularity import jacobian_statistics
from regnet_jax.evaluation.similarity import correlation, dice

__all__ = ["correlation", "dice", "is_chest_ct", "jacobian_statistics", "lung_mask"]
