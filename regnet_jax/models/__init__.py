"""Networks that take two images and predict a displacement field."""

from regnet_jax.models.registry import (
    HALVES,
    MODELS,
    inflate,
    inflate_planes,
    make_model,
)

__all__ = [
    "HALVES",
    "MODELS",
    "inflate",
    "inflate_planes",
    "make_model",
]
