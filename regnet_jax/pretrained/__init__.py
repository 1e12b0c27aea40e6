"""Trained networks: their weights, and how registration uses them."""

from regnet_jax.pretrained.inference import DEFAULT_TILE, InferenceConfig
from regnet_jax.pretrained.weights import CARD, names, read_weights, summary

__all__ = [
    "CARD",
    "DEFAULT_TILE",
    "InferenceConfig",
    "names",
    "read_weights",
    "summary",
]
