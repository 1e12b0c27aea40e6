"""Networks that take two images and predict a displacement field."""

from regnet_jax.models.registry import MODELS, inflate, make_model

__all__ = [
    "MODELS",
    "inflate",
    "make_model",
]
