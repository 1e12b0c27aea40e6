"""The one call for images at hand: ``regnet_jax.register``."""

import logging
import math
import numbers
import os
from dataclasses import replace

import numpy as np

from regnet_jax.errors import InputError, shown
from regnet_jax.io import affine_matrix, as_image, has_geometry
from regnet_jax.registration.alignment.linear import KINDS
from regnet_jax.registration.inference.network import (
    Network,
    default_network,
    load_network,
)
from regnet_jax.registration.register import register as register_images
from regnet_jax.registration.report import collect_warnings
from regnet_jax.registration.result import Registration
from regnet_jax.spatial import as_mask

_LOG = logging.getLogger(__name__)


def register(
    fixed,
    moving,
    *,
    spacing=None,
    model: str | os.PathLike | Network | None = None,
    initial="affine",
    fixed_mask=None,
    moving_mask=None,
    intensity: str = "auto",
    inverse_consistent: bool = False,
    refine: int = 0,
    memory: float | None = None,
    voxel_size: float | None = None,
    progress: bool = False,
) -> Registration:
    """Registers a moving to a fixed image.

    Images and masks are SimpleITK images, paths, arrays with their geometry
    (``regnet_jax.io.Image``), or bare arrays: images with ``spacing``, and masks of
    the shape of their image. The axes of arrays are (z, y, x) or (y, x), as in NumPy;
    everything in millimetres is in (x, y, z) or (x, y) order, as in SimpleITK.

    Args:
        fixed: the image that stays.
        moving: the image that is warped; any grid.
        spacing: mm between the voxels of images that are bare arrays, x first, or one
            number for all axes; voxel zero lies at the origin. Where two arrays have
            different grids, give each as ``regnet_jax.io.Image.from_array``.
        model: a network that ships, the folder of a training run, or a ``Network``
            that was loaded before; by default ``lung`` for 3D images and ``lung2d``,
            with a logged warning, for 2D images.
        initial: ``none``, ``center``, ``moments``, ``rigid`` or ``affine``; or a
            linear SimpleITK transform, the path of one, or a homogeneous matrix as an
            array or nested lists (mm, x first), from fixed to moving points.
        fixed_mask: restricts the linear alignment to what is inside: not zero, or of
            fractions above half of their maximum.
        moving_mask: the same for the moving image.
        intensity: ``auto``, ``ct``, ``ct+1024``, ``mr``, ``none`` or percentiles
            ``LOW,HIGH``.
        inverse_consistent: go both ways and take the field half way between.
        refine: steps of descent from the network's answer.
        memory: the most that the process should hold while it predicts, GiB.
        voxel_size: of the isotropic grid that is worked on, mm; None takes the
            network's own or, where the images are too small or too large for a human
            body, one that gives them as many voxels as a chest has.
        progress: show bars.

    Returns:
        The registration: ``transform`` maps fixed points to moving points,
        ``warped_sitk`` is the moving image on the fixed grid, ``displacement`` the
        vectors there (mm). The warped image has the type of the moving one, or where
        SimpleITK lacks that a wider one: uint8 for bool, float32 for half precision,
        float64 for extended precision.

    Raises:
        InputError: if anything that is given cannot be used, or does not fit the rest.
    """
    _check_options(
        intensity=intensity,
        inverse_consistent=inverse_consistent,
        refine=refine,
        memory=memory,
        progress=progress,
    )
    if spacing is not None and has_geometry(fixed) and has_geometry(moving):
        raise InputError(
            "spacing: is for images that are bare arrays, and both of these have their"
            " own; leave it out"
        )
    fixed = as_image(fixed, "fixed", spacing=spacing)
    moving = as_image(moving, "moving", spacing=spacing)
    initial = _initial(initial, fixed.frame.ndim)
    masks = [
        None if mask is None else as_mask(as_image(mask, name, frame=frame), frame)
        for mask, name, frame in (
            (fixed_mask, "fixed_mask", fixed.frame),
            (moving_mask, "moving_mask", moving.frame),
        )
    ]
    name, network = _network(model, fixed.frame.ndim)
    result = register_images(
        fixed,
        moving,
        network,
        initial=initial,
        fixed_mask=masks[0],
        moving_mask=masks[1],
        intensity=intensity,
        inverse_consistent=inverse_consistent,
        refine=int(refine),
        memory=memory,
        voxel_size=voxel_size,
        progress=progress,
    )
    for warning in collect_warnings(result):
        _LOG.warning("%s: %s", fixed.name, warning)
    return replace(result, parameters=result.parameters | {"model": name})


def _check_options(*, intensity, inverse_consistent, refine, memory, progress):
    """What each option must be by itself; what it does is checked where it is done."""
    if not isinstance(intensity, str):
        raise InputError(
            f"intensity: is {shown(intensity)}; give the name of a preset, or two"
            " percentiles such as '1,99'"
        )
    flags = {"inverse_consistent": inverse_consistent, "progress": progress}
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            raise InputError(f"{name}: is {shown(value)}; give True or False")
    if not _is(numbers.Integral, refine) or refine < 0:
        raise InputError(
            f"refine: is {shown(refine)}; give a whole number of steps, from 0"
        )
    if memory is not None and not (_is(numbers.Real, memory) and 0 < memory < math.inf):
        raise InputError(f"memory: is {shown(memory)}; give GiB above 0, or None")


def _is(kind: type, value) -> bool:
    """Whether a value is a number of a kind; True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _initial(given, dimension: int):
    """The kind of alignment, or the matrix that is given."""
    if isinstance(given, str) and (given in KINDS or not os.path.exists(given)):
        if given not in KINDS:
            raise InputError(
                f"initial: {given!r} is no alignment and no file; give one of"
                f" {', '.join(KINDS)}, or a linear transform"
            )
        return given
    try:
        return affine_matrix(given, dimension)
    except InputError as error:
        raise InputError(f"initial: {error}") from None


def _network(model, dimensions: int) -> tuple[str, Network]:
    """The network, and its name."""
    if isinstance(model, Network):
        return model.config.name, model
    if model is None:
        model, notices = default_network(dimensions)
        for notice in notices:
            _LOG.warning(notice)
    if not isinstance(model, str | os.PathLike):
        raise InputError(
            f"model: is of type {type(model).__name__}; give the name of a network that"
            " ships, the folder of a training run, or a Network"
        )
    return str(model), load_network(model)
