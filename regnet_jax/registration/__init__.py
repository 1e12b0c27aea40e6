"""Registration of two images: alignment, prediction, composition."""

from regnet_jax.registration.network import Network, load_network
from regnet_jax.registration.prediction import predict_displacement
from regnet_jax.registration.register import Registration, register

__all__ = [
    "Network",
    "Registration",
    "load_network",
    "predict_displacement",
    "register",
]
