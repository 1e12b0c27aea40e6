"""The networks by name."""

import dataclasses

from regnet_jax.errors import InputError
from regnet_jax.models.corrnet import CorrNet
from regnet_jax.models.cropped_unet import CroppedUNet
from regnet_jax.models.multiview import MultiView
from regnet_jax.models.regnet import RegNet, SingleScaleRegNet
from regnet_jax.models.unet import UNet

MODELS = {
    "regnet": RegNet,
    "regnet_single": SingleScaleRegNet,
    "unet": UNet,
    "multiview": MultiView,
    "cropped_unet": CroppedUNet,
    "corrnet": CorrNet,
}


def make_model(name: str, *, dimensions: int, **options):
    """Builds a network.

    Args:
        name: a key of ``MODELS``.
        dimensions: 2 or 3.
        **options: attributes of the network's module.

    Returns:
        A Flax module, called with (fixed, moving, train=...).

    Raises:
        InputError: if no network has that name, that dimension or such an option.
    """
    if name not in MODELS:
        raise InputError(f"model {name!r}: unknown; there are {', '.join(MODELS)}")
    if dimensions not in (2, 3):
        raise InputError(f"model {name!r}: dimensions are 2 or 3, not {dimensions}")
    attributes = {field.name for field in dataclasses.fields(MODELS[name])}
    known = sorted(attributes - {"dimensions", "parent", "name"})
    for option in options:
        if option not in known:
            known = ", ".join(known)
            raise InputError(f"model {name!r}: no option {option!r}; there are {known}")
    return MODELS[name](dimensions=dimensions, **options)
