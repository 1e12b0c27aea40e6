"""Artificial training data: procedural chests, displacement fields, pairs.

Every function is pure and takes its key first.
"""

from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.synthesis.fields.deformation import Deformation, limit_folding
from regnet_jax.synthesis.fields.families import FAMILIES, Family, sample_field
from regnet_jax.synthesis.fields.statistics import FieldStatistics, field_statistics
from regnet_jax.synthesis.generator import make_generator
from regnet_jax.synthesis.pairs import ArtificialPair, another_patient, artificial_pair
from regnet_jax.synthesis.patches import PatchBatch, TargetGrid
from regnet_jax.synthesis.volumes.chest import chest
from regnet_jax.synthesis.volumes.regions import random_regions

__all__ = [
    "FAMILIES",
    "ArtificialPair",
    "Deformation",
    "Family",
    "FieldStatistics",
    "GeneratorConfig",
    "PatchBatch",
    "TargetGrid",
    "another_patient",
    "artificial_pair",
    "chest",
    "field_statistics",
    "limit_folding",
    "make_generator",
    "random_regions",
    "sample_field",
]
