"""The networks by name."""

from regnet_jax.errors import InputError
from regnet_jax.models.regnet import RegNet

MODELS = {"regnet": RegNet}


def make_model(name: str, *, dimensions: int, **options):
    """Builds a network.

    Args:
        name: a key of ``MODELS``.
        dimensions: 2 or 3.
        **options: attributes of the network's module.

    Returns:
        A Flax module, called with (fixed, moving, train=...).

    Raises:
        InputError: if no network has that name.
    """
    if name not in MODELS:
        raise InputError(f"model {name!r}: unknown; there are {', '.join(MODELS)}")
    return MODELS[name](dimensions=dimensions, **options)
