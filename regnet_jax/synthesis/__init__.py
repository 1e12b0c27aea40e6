"""Artificial training data: procedural chests, displacement fields, pairs.

Every function is pure and takes its key first.
"""

from regnet_jax.synthesis.chest import chest
from regnet_jax.synthesis.deformation import Deformation, limit_folding
from regnet_jax.synthesis.families import FAMILIES, Family, draw_field
from regnet_jax.synthesis.generator import GeneratorConfig, Pairs, make_generator
from regnet_jax.synthesis.pairs import ArtificialPair, artificial_pair

__all__ = [
    "FAMILIES",
    "ArtificialPair",
    "Deformation",
    "Family",
    "GeneratorConfig",
    "Pairs",
    "artificial_pair",
    "chest",
    "draw_field",
    "limit_folding",
    "make_generator",
]
