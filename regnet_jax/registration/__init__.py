"""Registration of two images: alignment, prediction, composition."""

from regnet_jax.registration.inference.network import (
    Network,
    default_network,
    load_network,
)
from regnet_jax.registration.inference.prediction import predict
from regnet_jax.registration.register import register
from regnet_jax.registration.result import Registration

__all__ = [
    "Network",
    "Registration",
    "default_network",
    "load_network",
    "predict",
    "register",
]
