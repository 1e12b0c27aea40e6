"""The methods that can be compared, by name, and the variants in which each is run.

Each method is called as ``register(task)`` and returns the displacement
``[*task.fixed.frame.shape, d]``, mm, x first.
"""

import functools
import importlib
import os
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Literal, NamedTuple

import numpy as np

import regnet_jax
from regnet_jax.errors import InputError
from regnet_jax.spatial import Image

# All cores, set explicitly as the defaults of the tools differ.
THREADS = os.cpu_count() or 1

# The known content of the images: lungs in chest CT, or anything.
Setting = Literal["lung", "default"]


class Task(NamedTuple):
    """A pair of images as a method gets it.

    Attributes:
        fixed: image that stays.
        moving: image that is warped.
        masks: of the fixed and the moving image, those of the list of pairs; or None.
        lungs: mask of the fixed lungs, for the methods that use it; None where there
            are none.
        setting: content of the images.
        initial: linear alignment to start from, a homogeneous matrix
            ``[d + 1, d + 1]`` from fixed to moving points (mm, x first); None for the
            tool's own alignment.
    """

    fixed: Image
    moving: Image
    masks: tuple[Image | None, Image | None] = (None, None)
    lungs: Image | None = None
    setting: Setting = "default"
    initial: np.ndarray | None = None


class Method(NamedTuple):
    """The implementation of a method, and what it can do.

    Attributes:
        module: name within ``experiments.comparison``.
        function: name within the module.
        package: distribution that is required and whose version is reported.
        description: short text for the reader of a report.
        aligns: it has a linear alignment of its own.
        any_resolution: it works at the voxels that it is given; others choose theirs.
        uses_lungs: it takes a mask of the fixed lungs.
    """

    module: str
    function: str
    package: str
    description: str
    aligns: bool = False
    any_resolution: bool = True
    uses_lungs: bool = False


# The name of the results before any registration.
BEFORE = "before"
# The method that the others are compared with.
REFERENCE = "regnet"
# The methods of this project, with their presets.
OURS = {"regnet-fast": "fast", "regnet": "default", "regnet-accurate": "accurate"}

METHODS = {
    "affine": Method(
        *("simpleitk", "affine", "SimpleITK"),
        "this project's linear alignment alone",
        any_resolution=False,
    ),
    **{
        name: Method(
            *("network", "register", "regnet_jax"),
            f"this project's network, preset {preset}",
            any_resolution=False,
        )
        for name, preset in OURS.items()
    },
    "demons": Method(
        *("simpleitk", "demons", "SimpleITK"),
        "SimpleITK's demons with symmetric forces",
    ),
    "bspline": Method(
        *("simpleitk", "bspline", "SimpleITK"), "SimpleITK's cubic B-spline"
    ),
    "elastix": Method(
        *("elastix", "par0011", "itk-elastix"),
        "elastix, Par0011 of EMPIRE10",
        aligns=True,
        uses_lungs=True,
    ),
    "elastix-short": Method(
        *("elastix", "short", "itk-elastix"),
        "elastix, one B-spline of 10 mm, no penalty, no lung mask",
        aligns=True,
    ),
    "greedy": Method(
        *("greedy", "register", "picsl_greedy"),
        "greedy, local correlation, smoothing 1.732 and 0.7071 voxels",
        aligns=True,
    ),
    "ants": Method(
        *("syn", "register", "antspyx"),
        "ANTs, SyN with local correlation",
        aligns=True,
    ),
    "convexadam": Method(
        *("convex_adam", "register", "convexadam"), "ConvexAdam on MIND, 3D alone"
    ),
}


def version(name: str) -> str | None:
    """Return the version of a method's package, or None if it is not installed."""
    if name in OURS:
        # A checkout need not be installed.
        return regnet_jax.__version__
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


class Variant(NamedTuple):
    """A method, and how it is run.

    Attributes:
        method: one of ``METHODS``.
        resolution: ``full``, the voxels of the fixed image, or ``network``.
        alignment: ``shared``, this project's, or ``own``.
    """

    method: str
    resolution: str = "full"
    alignment: str = "shared"

    @property
    def label(self) -> str:
        """The name of its rows: the method, and how it differs from the usual."""
        label = self.method
        if self.resolution == "network":
            label += ", network's voxels"
        if self.alignment == "own":
            label += ", own alignment"
        return label


def variants(names: Sequence[str], *, resolution: str, alignment: str) -> list[Variant]:
    """Return what is to be run.

    With ``both`` the usual variant, at full resolution from the shared alignment,
    is followed by those in which one of the two differs; never both at once, which
    would double the rows and answer no further question.

    Args:
        names: of methods.
        resolution: ``full``, ``network`` or ``both``.
        alignment: ``shared``, ``own`` or ``both``.

    Returns:
        Variants in the order of the names. A method that has no choice gets a single
        one.
    """
    result = []
    for name in names:
        method = METHODS[name]
        sizes, starts = ["full"], ["shared"]
        if method.any_resolution:
            sizes = ["full", "network"] if resolution == "both" else [resolution]
        if method.aligns:
            starts = ["shared", "own"] if alignment == "both" else [alignment]
        result += [Variant(name, size, starts[0]) for size in sizes]
        result += [Variant(name, sizes[0], start) for start in starts[1:]]
    return result


def load(name: str, *, model: str) -> Callable:
    """Import a method.

    Args:
        name: one of ``METHODS``.
        model: of this project's methods.

    Returns:
        ``register(task)``.
    """
    method = METHODS[name]
    module = importlib.import_module(f"experiments.comparison.{method.module}")
    function = getattr(module, method.function)
    if name in OURS:
        return functools.partial(function, model=model, preset=OURS[name])
    return function
