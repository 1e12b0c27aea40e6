"""Registration of two images: alignment, prediction, refinement, composition.

The function is ``regnet_jax.register``; it stands in ``registration.register``.
"""

from regnet_jax.registration.inference.network import (
    Network,
    default_network,
    load_network,
    named_network,
)
from regnet_jax.registration.inference.prediction import predict
from regnet_jax.registration.options import RegistrationOptions
from regnet_jax.registration.result import Registration

__all__ = [
    "Network",
    "Registration",
    "RegistrationOptions",
    "default_network",
    "load_network",
    "named_network",
    "predict",
]
