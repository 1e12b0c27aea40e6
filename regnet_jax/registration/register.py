"""Registration of two images in the world: align, predict, compose."""

import functools
from dataclasses import dataclass, field

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
    to_sitk,
    total_displacement,
    warp_image,
)
from regnet_jax.registration.affine import align
from regnet_jax.registration.intensity import (
    check_intensity,
    intensity_map,
    map_intensity,
    resolve_intensity,
)
from regnet_jax.registration.network import Network
from regnet_jax.registration.prediction import predict
from regnet_jax.registration.refinement import refine_on_body
from regnet_jax.registration.symmetry import symmetric
from regnet_jax.registration.timing import timed


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
        parameters: what was asked for and, of ``auto`` and ``inverse_consistent``,
            what came of it.
    """

    frame: Frame
    affine: np.ndarray
    residual: np.ndarray
    warped: Image
    seconds: dict
    parameters: dict = field(default_factory=dict)

    @property
    def transform(self):
        """The SimpleITK transform from fixed points to moving points."""
        return composite(self.frame, self.residual, self.affine)

    @property
    def warped_sitk(self):
        """The moving image on the fixed grid, as a SimpleITK image."""
        return to_sitk(self.warped.array, self.warped.frame)

    @functools.cached_property
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
    intensity: str = "none",
    inverse_consistent: bool = False,
    refine: int = 0,
    memory: float | None = None,
    progress: bool = False,
) -> Registration:
    """Registers a pair of images of any spacing and orientation.

    Both images are brought to an isotropic grid of the network's voxel size that
    hangs on the anatomical axes of the fixed image, so the result does not depend
    on how either file stores its voxels.

    Args:
        fixed: Hounsfield units, or what ``intensity`` makes such.
        moving: the same, any grid.
        network: of the images' dimension.
        initial: kind of linear alignment (see ``affine.align``), or a homogeneous
            matrix from fixed to moving points.
        fixed_mask: restricts the linear alignment.
        moving_mask: the same for the moving image.
        intensity: a preset, see ``intensity``.
        inverse_consistent: go both ways and take the field half way between, so that
            with the images swapped, on the same grid, the result is the inverse.
        refine: steps of descent from the network's field, see ``refinement``.
        memory: the most that the process should hold while it predicts, GiB; larger
            images are then predicted by tiles.
        progress: show bars.

    Returns:
        The registration, on the fixed image's own grid.

    Raises:
        InputError: if the images or the network do not fit each other.
    """
    presets = _checked(fixed, moving, network, intensity)
    seconds: dict = {}
    with timed(seconds, "alignment"):
        affine = _initial(fixed, moving, initial, fixed_mask, moving_mask)
    with timed(seconds, "prediction"):
        grid, images = _on_grid(fixed, moving, network.spacing, affine, presets)
        ways = (images, images[::-1]) if inverse_consistent else (images,)
        options = {"memory": memory, "progress": progress}
        fields = [predict(network, *way, **options) for way in ways]
    if refine:
        with timed(seconds, "refinement"):
            fields = [
                refine_on_body(*way, field, refine, spacing=network.spacing)
                for way, field in zip(ways, fields, strict=True)
            ]
    with timed(seconds, "resampling"):
        displacement, cycle = _joined(fields)
        residual, warped = _on_fixed(fixed, moving, grid, displacement, affine)
    parameters = {
        "initial": initial if isinstance(initial, str) else "given",
        "intensity": dict(zip(("fixed", "moving"), presets, strict=True)),
        "refine": refine,
        "inverse_consistent": inverse_consistent,
    }
    if inverse_consistent:
        parameters["disagreement"] = _disagreement(cycle * network.spacing)
    return Registration(fixed.frame, affine, residual, warped, seconds, parameters)


def _checked(fixed: Image, moving: Image, network: Network, intensity: str) -> list:
    """What the intensities of both images are, if all fits together."""
    check_pair(fixed, moving)
    if network.dimensions != fixed.frame.ndim:
        raise InputError(
            f"the network is {network.dimensions}D and {fixed.name} is"
            f" {fixed.frame.ndim}D; choose a model of the images' dimension, such as"
            " lung in 3D and lung2d in 2D"
        )
    check_intensity(intensity)
    return [resolve_intensity(intensity, image.array) for image in (fixed, moving)]


def _joined(fields):
    """The field, and how far there and back ends from where it began, voxels."""
    if len(fields) == 1:
        return fields[0], None
    return map(np.asarray, symmetric(*fields))


def _on_fixed(fixed, moving, grid, displacement, affine):
    """The residual in mm, and the moving image, on the fixed image's own grid."""
    vectors = displacement_to_world(grid, displacement)
    residual = resample_field(vectors, grid, fixed.frame)
    transform = composite(fixed.frame, residual, affine)
    return residual, warp_image(moving, fixed.frame, transform)


def _disagreement(cycle: np.ndarray) -> dict:
    """Of the two directions, before they were joined."""
    return {"mean_mm": float(cycle.mean()), "p95_mm": float(np.percentile(cycle, 95))}


def _initial(fixed, moving, initial, fixed_mask, moving_mask):
    if not isinstance(initial, str):
        return np.asarray(initial, np.float64)
    masks = {"fixed_mask": fixed_mask, "moving_mask": moving_mask}
    return align(fixed, moving, kind=initial, **masks)


def _on_grid(fixed, moving, spacing, affine, presets):
    """The network's grid, and both images on it, the moving one aligned."""
    _, frame = canonicalise(fixed.array, fixed.frame)
    grid = isotropic_frame(frame, spacing)
    transforms = (None, affine_transform(affine))
    images = []
    for image, preset, transform in zip(
        (fixed, moving), presets, transforms, strict=True
    ):
        parameters = intensity_map(preset, image.array)
        images.append(map_intensity(resample(image, grid, transform).array, parameters))
    return grid, tuple(images)
