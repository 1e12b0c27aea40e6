"""regnet_jax: nonrigid registration learned from artificial deformations.

Conventions, followed in every module:

Arrays
    Images are ``[z, y, x, channel]`` in 3D and ``[y, x, channel]`` in 2D,
    with a leading batch axis where a function says so. Core functions have
    no batch axis: ``jax.vmap`` adds it.
Displacement fields
    A displacement vector field (DVF) ``u`` is ``[z, y, x, 3]`` or
    ``[y, x, 2]``. It lives on the grid of the fixed image, its components
    are in array-axis order (z, y, x), its unit is the voxel of that grid, and
    it maps fixed to moving: ``fixed(x) ~ moving(x + u(x))``, as in ITK.
Composition
    ``compose(u, v)`` is the field of "first u, then v":
    ``u(x) + v(x + u(x))``.
World coordinates
    Millimetres, (x, y, z) order, origin, spacing and direction cosines belong to
    ``regnet_jax.spatial``, ``regnet_jax.io`` and whatever a user sees. Networks and
    ``regnet_jax.geometry`` know voxels only.
Artificial pairs
    Sample a volume ``I`` and a field ``u``: the moving image is ``I``, the fixed image
    is ``I`` warped by ``u``, and ``u`` is the target, known exactly.
Randomness
    ``key`` is the first argument wherever randomness is used. Keys derive by
    ``fold_in(stream, step, global sample index)``, so a batch is a pure
    function of (seed, step) whatever the number of devices.
Errors
    Files, arguments and settings that cannot be used raise
    ``regnet_jax.errors.InputError``, whose one line says what to do.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regnet_jax.errors import InputError
    from regnet_jax.evaluation import evaluate
    from regnet_jax.io import read_image
    from regnet_jax.registration import (
        Network,
        Registration,
        RegistrationOptions,
        load_network,
    )
    from regnet_jax.registration.register import register
    from regnet_jax.registration.series import SeriesRegistration, register_series
    from regnet_jax.spatial import Frame, Image
    from regnet_jax.training.config import ExperimentConfig
    from regnet_jax.training.loop import train

__version__ = "0.1.0"

__all__ = [
    "ExperimentConfig",
    "Frame",
    "Image",
    "InputError",
    "Network",
    "Registration",
    "RegistrationOptions",
    "SeriesRegistration",
    "evaluate",
    "load_network",
    "read_image",
    "register",
    "register_series",
    "train",
]

# Where the public names are defined.
_HOMES = {
    "ExperimentConfig": "regnet_jax.training.config",
    "Frame": "regnet_jax.spatial",
    "Image": "regnet_jax.spatial",
    "InputError": "regnet_jax.errors",
    "Network": "regnet_jax.registration",
    "Registration": "regnet_jax.registration",
    "RegistrationOptions": "regnet_jax.registration",
    "SeriesRegistration": "regnet_jax.registration.series",
    "evaluate": "regnet_jax.evaluation",
    "load_network": "regnet_jax.registration",
    "read_image": "regnet_jax.io",
    "register": "regnet_jax.registration.register",
    "register_series": "regnet_jax.registration.series",
    "train": "regnet_jax.training.loop",
}


def __getattr__(name: str):
    """Import a public name when it is first used.

    So ``import regnet_jax`` loads neither JAX nor SimpleITK.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
