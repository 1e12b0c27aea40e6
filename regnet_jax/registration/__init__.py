"""Registration of two images: alignment, prediction, composition."""

from regnet_jax.registration.network import Network, default_network, load_network
from regnet_jax.registration.prediction import predict_displacement
from regnet_jax.registration.register import Registration, register

__all__ = [
    "Network",
    "Registration",
    "default_network",
    "load_network",
    "predict_displacement",
    "register",
]
