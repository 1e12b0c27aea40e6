"""The options of a registration; arguments, flags and reports derive from this list."""

import dataclasses
import math
import numbers
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from regnet_jax.errors import InputError, shown
from regnet_jax.geometry.slices import SLICE_AXES
from regnet_jax.intensity import PRESETS, check_intensity
from regnet_jax.io import COORDINATES
from regnet_jax.registration.alignment.linear import KINDS
from regnet_jax.registration.inference.network import AUTO, Network


class Effort(NamedTuple):
    """How much a registration does.

    Attributes:
        finer: whether voxels are smaller than the network's own by its ``fineness``; a
            network without one repeats its pass at the finest voxel size instead, if it
            has an ``extra_pass``.
        both_orders: whether the finest passes predict with the images in both orders.
        steps: of gradient descent after the network.
    """

    finer: bool = True
    both_orders: bool = False
    steps: int = 0


EFFORTS = {
    "fast": Effort(finer=False),
    "default": Effort(),
    "accurate": Effort(both_orders=True, steps=36),
}


def option(
    kind: type, help: str, check: Callable[[str, Any], None] | None = None
) -> dict[str, Any]:
    """Return the metadata of a field that is an option.

    Args:
        kind: type of its value on the command line: str, bool, int or float.
        help: effect of the option, in plain sentences, for ``--help``.
        check: ``check(name, value)`` raises InputError unless the value can be used.

    Returns:
        The metadata.
    """
    return {"kind": kind, "help": help, "check": check}


def check_switch(name: str, value) -> None:
    """Raise InputError unless a value is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name}: is {shown(value)}; give True or False")


def _check_model(name: str, value) -> None:
    if not (value is None or isinstance(value, str | os.PathLike | Network)):
        raise InputError(
            f"{name}: is of type {type(value).__name__}; give the name of a network"
            " that ships, the folder of a training run, or a Network"
        )


def _check_effort(name: str, value) -> None:
    if not isinstance(value, str) or value not in EFFORTS:
        raise InputError(f"{name}: is {shown(value)}; give one of {', '.join(EFFORTS)}")


def _check_intensity(name: str, value) -> None:
    if not isinstance(value, str):
        raise InputError(
            f"{name}: is {shown(value)}; give the name of a preset, or two"
            " percentiles such as '1,99'"
        )
    check_intensity(value)


def _check_steps(name: str, value) -> None:
    if value is None:
        return
    if not _is_number(numbers.Integral, value) or value < 0:
        raise InputError(
            f"{name}: is {shown(value)}; give a whole number of steps, from 0"
        )


def _check_memory(name: str, value) -> None:
    if value is not None and not _is_positive(value):
        raise InputError(f"{name}: is {shown(value)}; give GiB above 0, or None")


def _check_voxel_size(name: str, value) -> None:
    if value is not None and not _is_positive(value):
        raise InputError(
            f"{name}: is {shown(value)}; give mm above zero, or leave it out"
        )


def _check_slice_axis(name: str, value) -> None:
    if value is not None and value not in tuple(SLICE_AXES):
        raise InputError(
            f"{name}: is {shown(value)}; give one of {', '.join(SLICE_AXES)}"
        )


def _check_coordinates(name: str, value) -> None:
    if value is not None and value not in COORDINATES:
        raise InputError(
            f"{name}: is {shown(value)}; give one of {', '.join(COORDINATES)}"
        )


def _is_positive(value) -> bool:
    return _is_number(numbers.Real, value) and 0.0 < value < math.inf


def _is_number(kind: type, value) -> bool:
    """Whether a value is a number of a kind; True and False are not numbers."""
    return isinstance(value, kind) and not isinstance(value, bool)


@dataclass(frozen=True, kw_only=True)
class RegistrationOptions:
    """The options of a registration, checked when an object is made.

    The keyword arguments of ``regnet_jax.register``, the flags of ``regnet register``
    and the ``request`` and ``parameters`` of ``report.json`` are derived from the
    fields of this class.

    Attributes:
        model: name of a shipped network, folder of a training run, or a ``Network``
            that was loaded before. ``auto``, or None, takes ``lung`` for 3D images and
            ``lung2d`` for 2D images.
        initial: kind of linear alignment (``none``, ``center``, ``moments``, ``rigid``,
            ``affine``); or what to start from, from fixed to moving points: a SimpleITK
            transform, a deformation too, the path of one or several as for
            ``io.read_transform``, or a homogeneous matrix (mm, x first). The result is
            the total: the prediction, then this.
        intensity: ``auto``, ``ct``, ``ct+1024``, ``mr``, ``none``, or the percentiles
            ``LOW,HIGH`` that are mapped to air and bone.
        preset: ``fast``, which uses ``lung`` at voxels of 2 mm instead of 1.5 mm;
            ``default``; or ``accurate``, which predicts with the images in both orders
            at its finest voxels, and refines.
        refine: steps of gradient descent that start from the network's prediction. None
            takes those of the preset, 36 of ``accurate`` and none of the others.
        inverse_consistent: register in both directions and return the symmetric field,
            which becomes its inverse where the images are swapped and the start is
            inverted.
        confidence: estimate the error at every voxel, by networks that can.
        memory: limit of the process during the prediction, GiB; images that need more
            are predicted tile by tile, and voxels are those of the network's training,
            2 mm for ``lung``, unless ``voxel_size`` says otherwise. None sets no limit.
        voxel_size: of the isotropic working grid, mm. None takes that of the preset:
            one that suits the network or, for images too small or too large for a
            human body, one that gives them as many voxels as a chest has.
        slice_axis: ``axial``, ``coronal`` or ``sagittal``: slices of 3D images that a
            2D network registers one by one, so that nothing moves across them after
            the linear alignment. None takes those of the network's training, or axial
            ones. It has no effect for other networks.
        point_coordinates: ``lps``, ``ras``, ``voxels`` or ``voxels1``: of landmarks in
            files, by which the result is measured, see ``io.read_points``. None takes
            what the files say.

    Raises:
        InputError: if a value cannot be used.
    """

    model: str | os.PathLike | Network | None = field(
        default=AUTO,
        metadata=option(
            str,
            "Shipped network, or folder of a training run; list shows the shipped"
            " ones. auto is lung for 3D images and lung2d for 2D images, chosen for"
            " each pair.",
            _check_model,
        ),
    )
    initial: Any = field(
        default="affine",
        metadata=option(
            str,
            f"Linear alignment: {', '.join(KINDS)}; or a transform to start from, a"
            " deformation too, as for regnet warp.",
        ),
    )
    intensity: str = field(
        default="auto",
        metadata=option(
            str,
            f"Meaning of the intensities: {', '.join(PRESETS)}, or LOW,HIGH, the"
            " percentiles that stand for air and bone. auto is ct for images with air"
            " in Hounsfield units, ct+1024 where these are stored without a sign, and"
            " mr otherwise.",
            _check_intensity,
        ),
    )
    preset: str = field(
        default="default",
        metadata=option(
            str,
            "fast: larger voxels, for lung 2 mm and not 1.5 mm; default; accurate:"
            " predictions with the images in both orders, and 36 steps of refinement."
            " --refine and --voxel_size override it.",
            _check_effort,
        ),
    )
    refine: int | None = field(
        default=None,
        metadata=option(
            int,
            "Steps of gradient descent that start from the network's prediction. By"
            " default those of the preset.",
            _check_steps,
        ),
    )
    inverse_consistent: bool = field(
        default=False,
        metadata=option(
            bool,
            "Register in both directions and return the symmetric field.",
            check_switch,
        ),
    )
    confidence: bool = field(
        default=False,
        metadata=option(
            bool,
            "Estimate the error at every voxel, and write confidence.nii.gz: the"
            " distance in mm within which it lies with a probability of 95 %.",
            check_switch,
        ),
    )
    memory: float | None = field(
        default=None,
        metadata=option(
            float,
            "GiB that may be held during the prediction; larger images are predicted"
            " tile by tile, at larger voxels, 2 mm for lung, unless --voxel_size is"
            " given.",
            _check_memory,
        ),
    )
    voxel_size: float | None = field(
        default=None,
        metadata=option(
            float,
            "Voxel size of the working grid, mm. By default one that suits the network"
            " and the preset; for images too small or too large for a human body, one"
            " that gives them as many voxels as a chest has.",
            _check_voxel_size,
        ),
    )

    slice_axis: str | None = field(
        default=None,
        metadata=option(
            str,
            "Slices of 3D images that a 2D network registers one by one:"
            f" {', '.join(SLICE_AXES)}. Nothing moves across them after the linear"
            " alignment. By default those of the network's training, or axial ones.",
            _check_slice_axis,
        ),
    )
    point_coordinates: str | None = field(
        default=None,
        metadata=option(
            str,
            "Coordinates in the files of points: mm in LPS or RAS, voxels from 0 or"
            f" from 1 ({', '.join(COORDINATES)}); default what the files say.",
            _check_coordinates,
        ),
    )

    def __post_init__(self):
        for each in dataclasses.fields(self):
            if check := each.metadata["check"]:
                check(each.name, getattr(self, each.name))
        if self.model is None:
            object.__setattr__(self, "model", AUTO)

    @property
    def effort(self) -> Effort:
        """The effort of the preset, with the steps of ``refine`` where given."""
        effort = EFFORTS[self.preset]
        if self.refine is None:
            return effort
        return effort._replace(steps=int(self.refine))

    def to_keywords(self) -> dict[str, Any]:
        """Return the options as keyword arguments of ``regnet_jax.register``."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def to_dict(self) -> dict[str, Any]:
        """Return the options as values for JSON.

        Returns:
            A value for each field. A ``Network`` becomes its name, a path its text, and
            an alignment that is neither a kind nor a path becomes ``given``.
        """
        return {name: plain(value) for name, value in self.to_keywords().items()}


def plain(value):
    """Return the value of an option as one that JSON can hold."""
    if isinstance(value, Network):
        return value.config.name
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, str | int | float | None) else "given"
