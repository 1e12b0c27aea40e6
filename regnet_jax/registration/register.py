"""Registration of two images in the world: align, predict, compose."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.io import (
    Frame,
    Image,
    affine_transform,
    canonicalise,
    check_pair,
    composite,
    displacement_to_world,
    isotropic_frame,
    resample,
    resample_field,
    total_displacement,
    warp_image,
)
from regnet_jax.registration.affine import align
from regnet_jax.registration.network import Network
from regnet_jax.registration.prediction import predict
from regnet_jax.registration.refinement import refine_on_body


@dataclass(frozen=True, eq=False)
class Registration:
    """Where every point of the fixed image lies in the moving image.

    The map is ``x -> A(x + r(x))`` with the affine ``A`` and the residual ``r``.

    Attributes:
        frame: the fixed image's own grid.
        affine: homogeneous ``[d + 1, d + 1]``, mm, x first.
        residual: ``[*frame.shape, d]`` vectors, mm, x first.
        warped: the moving image on the fixed grid, in the moving image's type.
        seconds: of each phase.
    """

    frame: Frame
    affine: np.ndarray
    residual: np.ndarray
    warped: Image
    seconds: dict

    @property
    def transform(self):
        """The SimpleITK transform from fixed points to moving points."""
        return composite(self.frame, self.residual, self.affine)

    @property
    def displacement(self) -> np.ndarray:
        """``[*frame.shape, d]`` vectors, mm, x first: affine and residual."""
        return total_displacement(self.frame, self.residual, self.affine)


def register(
    fixed: Image,
    moving: Image,
    network: Network,
    *,
    initial: str | np.ndarray = "affine",
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    refine: int = 0,
    progress: bool = False,
) -> Registration:
    """Registers a pair of images of any spacing and orientation.

    Both images are brought to an isotropic grid of the network's voxel size that
    hangs on the anatomical axes of the fixed image, so the result does not depend
    on how either file stores its voxels.

    Args:
        fixed: Hounsfield units.
        moving: Hounsfield units, any grid.
        network: of the images' dimension.
        initial: kind of linear alignment (see ``affine.align``), or a homogeneous
            matrix from fixed to moving points.
        fixed_mask: restricts the linear alignment.
        moving_mask: the same for the moving image.
        refine: steps of descent from the network's field, see ``refinement``.
        progress: show bars.

    Returns:
        The registration, on the fixed image's own grid.

    Raises:
        InputError: if the images or the network do not fit each other.
    """
    check_pair(fixed, moving)
    if network.dimensions != fixed.frame.ndim:
        raise InputError(
            f"the network is {network.dimensions}D and {fixed.name} is"
            f" {fixed.frame.ndim}D; choose a model of the images' dimension"
        )
    seconds: dict = {}
    with _timed(seconds, "alignment"):
        affine = _initial(fixed, moving, initial, fixed_mask, moving_mask)
    with _timed(seconds, "prediction"):
        grid, images = _on_grid(fixed, moving, network.spacing, affine)
        displacement = predict(network, *images, progress=progress)
    if refine:
        with _timed(seconds, "refinement"):
            displacement = refine_on_body(*images, displacement, refine)
    with _timed(seconds, "resampling"):
        vectors = displacement_to_world(grid, displacement)
        residual = resample_field(vectors, grid, fixed.frame)
        transform = composite(fixed.frame, residual, affine)
        warped = warp_image(moving, fixed.frame, transform)
    return Registration(fixed.frame, affine, residual, warped, seconds)


def _initial(fixed, moving, initial, fixed_mask, moving_mask):
    if not isinstance(initial, str):
        return np.asarray(initial, np.float64)
    masks = {"fixed_mask": fixed_mask, "moving_mask": moving_mask}
    return align(fixed, moving, kind=initial, **masks)


def _on_grid(fixed, moving, spacing, affine):
    """The network's grid, and both images on it, the moving one aligned."""
    _, frame = canonicalise(fixed.array, fixed.frame)
    grid = isotropic_frame(frame, spacing)
    transform = affine_transform(affine)
    return grid, (resample(fixed, grid).array, resample(moving, grid, transform).array)


@contextmanager
def _timed(seconds: dict, phase: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[phase] = time.perf_counter() - began
