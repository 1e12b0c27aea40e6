"""Images and transforms that follow from a transform: what ``--write`` adds."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.evaluation import ErrorEstimate, Ventilation
from regnet_jax.io import write_displacement, write_image, write_transform
from regnet_jax.spatial import Frame, Image, sample_transform

# The bound where nothing is known, and the largest one.
UNKNOWN_MM = 1000.0
MAPS = ("inverse", "jacobian", "ventilation")


def check_maps(names: Collection[str], frame: Frame, name: str) -> None:
    """Raise InputError if maps cannot be made on a fixed grid.

    Args:
        names: of ``MAPS``; others are ignored.
        frame: the fixed grid.
        name: of the fixed image in messages.
    """
    for kind in ("jacobian", "ventilation"):
        if kind in names and min(frame.shape) < 2:
            raise InputError(
                f"{kind}: {name} has an axis of a single voxel, along which there is no"
                " derivative; leave it out"
            )


def write_inverse(folder: Path, inverse: sitk.Transform, frame: Frame) -> None:
    """Write ``inverse_transform.h5`` and ``inverse_displacement.nii.gz``.

    Args:
        folder: an existing folder.
        inverse: from moving points to fixed points.
        frame: the moving grid, on which the displacement lies.
    """
    write_transform(folder / "inverse_transform.h5", inverse, grid=frame)
    displacement = sample_transform(inverse, frame, np.float32)
    write_displacement(folder / "inverse_displacement.nii.gz", displacement, frame)


def write_jacobian(folder: Path, determinant: np.ndarray, frame: Frame) -> None:
    """Write ``jacobian.nii.gz``.

    Args:
        folder: an existing folder.
        determinant: ``[*frame.shape]``, the volume in the moving image divided by that
            in the fixed image.
        frame: the fixed grid.
    """
    write_image(folder / "jacobian.nii.gz", determinant, frame)


def write_confidence(folder: Path, errors: ErrorEstimate) -> None:
    """Write ``confidence.nii.gz``: the bound of the error at a probability of 95 %, mm.

    Args:
        folder: an existing folder.
        errors: on the fixed grid.
    """
    bound = np.minimum(errors.bound(), np.float32(UNKNOWN_MM))
    write_image(folder / "confidence.nii.gz", bound, errors.frame)


def write_ventilation(folder: Path, ventilation: Ventilation, image: Image) -> None:
    """Write ``ventilation_jacobian.nii.gz`` and ``ventilation_hu.nii.gz``.

    Args:
        folder: an existing folder.
        ventilation: the maps.
        image: the fixed image, on whose grid they lie.
    """
    for name, array in (
        ("jacobian", ventilation.jacobian),
        ("hu", ventilation.hounsfield),
    ):
        write_image(folder / f"ventilation_{name}.nii.gz", array, image.frame)
