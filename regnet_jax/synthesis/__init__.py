"""Artificial training data: procedural chests, displacement fields, pairs.

Every function is pure and takes its key first.
"""

from regnet_jax.synthesis.chest import chest
from regnet_jax.synthesis.generator import GeneratorConfig, Pairs, make_generator
from regnet_jax.synthesis.pairs import ArtificialPair, artificial_pair
from regnet_jax.synthesis.peaks import FAMILIES, Deformation, PeakFamily, peak_field

__all__ = [
    "FAMILIES",
    "ArtificialPair",
    "Deformation",
    "GeneratorConfig",
    "Pairs",
    "PeakFamily",
    "artificial_pair",
    "chest",
    "make_generator",
    "peak_field",
]
