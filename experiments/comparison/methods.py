"""The methods that can be compared, by name.

Each method is called as ``register(fixed, moving, *, setting, masks)``, with images,
a ``Setting``, and two masks or None each, and returns the displacement
``[*fixed.frame.shape, d]``, mm, x first.
"""

import functools
import importlib
import os
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Literal, NamedTuple

from regnet_jax.errors import InputError

# All cores, set explicitly as the defaults of the tools differ.
THREADS = os.cpu_count() or 1

# The known content of the images: lungs in chest CT, or anything.
Setting = Literal["lung", "default"]


class Method(NamedTuple):
    """The implementation of a method, and the package that it needs.

    Attributes:
        module: name within ``experiments.comparison``.
        function: name within the module.
        package: distribution that is required and whose version is reported.
        description: short text for the reader of a report.
    """

    module: str
    function: str
    package: str
    description: str


METHODS = {
    "affine": Method("simpleitk", "affine", "SimpleITK", "linear alignment alone"),
    "regnet": Method("network", "register", "jax", "this project's network"),
    "regnet+refine": Method("network", "register", "jax", "the same, refined"),
    "demons": Method("simpleitk", "demons", "SimpleITK", "SimpleITK's demons"),
    "bspline": Method("simpleitk", "bspline", "SimpleITK", "SimpleITK's B-spline"),
    "elastix": Method("elastix", "register", "itk-elastix", "elastix, B-spline"),
    "greedy": Method("greedy", "register", "picsl_greedy", "greedy, diffeomorphic"),
}


def version(name: str) -> str | None:
    """Return the version of a method's package, or None if it is not installed."""
    try:
        return metadata.version(METHODS[name].package)
    except metadata.PackageNotFoundError:
        return None


def installed(names: Sequence[str]) -> dict[str, str]:
    """Return the installed methods with their versions; print the missing ones.

    Args:
        names: of the requested methods.

    Raises:
        InputError: if a name is unknown or none is installed.
    """
    found = {}
    for name in names:
        if name not in METHODS:
            raise InputError(
                f"--methods {name}: unknown; there are {', '.join(METHODS)}"
            )
        if (number := version(name)) is None:
            package = METHODS[name].package
            print(f"{name}: left out, {package} is not installed (pip install it)")
        else:
            found[name] = number
    if not found:
        raise InputError("--methods: none of them is installed; name others")
    return found


def load(name: str, *, model: str | None, refine: int) -> Callable:
    """Import a method.

    Args:
        name: one of ``METHODS``.
        model: of this project's methods.
        refine: steps of ``regnet+refine``.

    Returns:
        ``register(fixed, moving, *, setting, masks)``.
    """
    method = METHODS[name]
    module = importlib.import_module(f"experiments.comparison.{method.module}")
    function = getattr(module, method.function)
    if method.module != "network":
        return function
    steps = refine if name == "regnet+refine" else 0
    return functools.partial(function, model=model, refine=steps)
