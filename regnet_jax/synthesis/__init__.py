"""Artificial training data: procedural chests, displacement fields, pairs.

Every function is pure and takes its key first.
"""

from regnet_jax.synthesis.chest import chest
from regnet_jax.synthesis.deformation import Deformation, limit_folding
from regnet_jax.synthesis.families import FAMILIES, Family, draw_field
from regnet_jax.synthesis.generator import make_generator
from regnet_jax.synthesis.generator_config import GeneratorConfig
from regnet_jax.synthesis.pairs import (
    ArtificialPair,
    another_patient,
    artificial_pair,
)
from regnet_jax.synthesis.regions import random_regions
from regnet_jax.synthesis.statistics import FieldStatistics, field_statistics
from regnet_jax.synthesis.windows import Pairs

__all__ = [
    "FAMILIES",
    "ArtificialPair",
    "Deformation",
    "Family",
    "FieldStatistics",
    "GeneratorConfig",
    "Pairs",
    "another_patient",
    "artificial_pair",
    "chest",
    "draw_field",
    "field_statistics",
    "limit_folding",
    "make_generator",
    "random_regions",
]
