"""Registration of two images in the world: align, predict, compose."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.hounsfield import AIR
from regnet_jax.registration.alignment.linear import align
from regnet_jax.registration.inference.intensity import (
    check_intensity,
    intensity_map,
    map_intensity,
    resolve_intensity,
)
from regnet_jax.registration.inference.inverse_consistency import symmetric
from regnet_jax.registration.inference.network import Network
from regnet_jax.registration.inference.prediction import predict
from regnet_jax.registration.inference.voxel_size import (
    check_voxel_size,
    choose_voxel_size,
)
from regnet_jax.registration.refinement import refine_on_body
from regnet_jax.registration.result import Registration, Shown
from regnet_jax.spatial import (
    Image,
    affine_transform,
    canonical_frame,
    check_pair,
    composite,
    displacement_to_world,
    fill_padding,
    find_padding,
    isotropic_frame,
    resample,
    resample_field,
    warp_image,
    where_shown,
)


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
    voxel_size: float | None = None,
    progress: bool = False,
) -> Registration:
    """Registers a pair of images of any spacing and orientation.

    Both images are brought to an isotropic grid that hangs on the anatomical axes of
    the fixed image, so the result does not depend on how either file stores its voxels.
    Where one of them shows nothing, because there is padding or its field of view ends,
    nothing is compared, and the field is continued smoothly from where both do.

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
        voxel_size: of the isotropic grid, mm; None takes the network's own or, for
            images that are no human body by their size, one that gives them as many
            voxels.
        progress: show bars.

    Returns:
        The registration, on the fixed image's own grid.

    Raises:
        InputError: if the images or the network do not fit each other, or what comes
            out is not finite.
    """
    _check(fixed, moving, network, intensity)
    voxel_size = check_voxel_size(voxel_size, fixed.frame)
    size = voxel_size or choose_voxel_size(fixed.frame, moving.frame, network.spacing)
    names = f"{fixed.name} and {moving.name}"
    seconds: dict = {}
    with timed(seconds, "alignment"):
        padding = [find_padding(image.array) for image in (fixed, moving)]
        presets = [
            resolve_intensity(intensity, image.array, nothing)
            for image, nothing in zip((fixed, moving), padding, strict=True)
        ]
        masks = (fixed_mask, moving_mask)
        affine = _initial(fixed, moving, initial, masks, padding)
        _check_finite(affine, "linear alignment", names)
    with timed(seconds, "prediction"):
        grid, *way = _on_grid(fixed, moving, padding, size, affine, presets)
        ways = [way]
        if inverse_consistent:
            ways.append([both[::-1] for both in way])
        options = {"memory": memory, "progress": progress}
        fields = [
            predict(network, *images, shown=shown, **options) for images, shown in ways
        ]
        _check_finite(fields, "prediction of the network", names)
    if refine:
        with timed(seconds, "refinement"):
            fields = [
                refine_on_body(
                    *images, field, refine, spacing=network.spacing, shown=shown
                )
                for (images, shown), field in zip(ways, fields, strict=True)
            ]
            _check_finite(fields, "refinement", names)
    with timed(seconds, "resampling"):
        displacement, cycle = _joined(fields)
        residual = _on_fixed(fixed, grid, displacement)
        transform = composite(fixed.frame, residual, affine)
        warped = warp_image(moving, fixed.frame, transform)
        _check_finite((residual, warped.array), "resampling", names)
        seen = _seen(fixed, moving, padding, transform)
    parameters = {
        "initial": initial if isinstance(initial, str) else "given",
        "intensity": dict(zip(("fixed", "moving"), presets, strict=True)),
        "refine": refine,
        "inverse_consistent": inverse_consistent,
        "voxel_size": {
            "mm": size,
            "network": network.spacing,
            "given": bool(voxel_size),
        },
    }
    if inverse_consistent:
        parameters["disagreement"] = _disagreement(cycle * size)
    return Registration(
        fixed.frame, affine, residual, warped, seen, seconds, parameters
    )


def _check_finite(values, name: str, images: str) -> None:
    """Raise InputError where a result cannot be one; nothing is written then."""
    if not all(np.isfinite(value).all() for value in values):
        raise InputError(
            f"{images}: the {name} gave values that are not finite, so there is no"
            " result; check the spacing and the values of both images, or start from"
            " another --initial"
        )


def _check(fixed: Image, moving: Image, network: Network, intensity: str) -> None:
    """Raise InputError unless the images, the network and the preset fit."""
    check_pair(fixed, moving)
    if network.dimensions != fixed.frame.ndim:
        raise InputError(
            f"the network is {network.dimensions}D and {fixed.name} is"
            f" {fixed.frame.ndim}D; choose a model of the images' dimension, such as"
            " lung in 3D and lung2d in 2D"
        )
    check_intensity(intensity)


def _shown_values(image: Image, padding) -> np.ndarray:
    """All values of an image but its padding."""
    return image.array if padding is None else image.array[~padding]


def _joined(fields):
    """The field, and how far there and back ends from where it began, voxels."""
    if len(fields) == 1:
        return fields[0], None
    return map(np.asarray, symmetric(*fields))


def _on_fixed(fixed, grid, displacement):
    """The residual on the fixed image's own grid, mm, x first."""
    vectors = displacement_to_world(grid, displacement)
    return resample_field(vectors, grid, fixed.frame)


def _disagreement(cycle: np.ndarray) -> dict:
    """Of the two directions, before they were joined."""
    return {"mean_mm": float(cycle.mean()), "p95_mm": float(np.percentile(cycle, 95))}


def _initial(fixed, moving, initial, masks, padding):
    if not isinstance(initial, str):
        return np.asarray(initial, np.float64)
    masks = dict(zip(("fixed_mask", "moving_mask"), masks, strict=True))
    return align(fixed, moving, kind=initial, padding=padding, **masks)


def _on_grid(fixed, moving, padding, spacing, affine, presets):
    """The working grid, both images on it, the moving one aligned, and their extent."""
    grid = isotropic_frame(canonical_frame(fixed.frame), spacing)
    transforms = (None, affine_transform(affine))
    images, shown = [], []
    for image, nothing, preset, transform in zip(
        (fixed, moving), padding, presets, transforms, strict=True
    ):
        values = _shown_values(image, nothing)
        parameters = intensity_map(preset, values)
        filled = fill_padding(image.array, nothing, _darkest(preset, values))
        filled = replace(image, array=filled)
        images.append(
            map_intensity(resample(filled, grid, transform).array, parameters)
        )
        shown.append(where_shown(image, nothing, grid, transform))
    if all(where.all() for where in shown):
        shown = [None, None]
    return grid, tuple(images), tuple(shown)


def _darkest(preset: str, values) -> float:
    """What stands for nothing: air, or the darkest value of another modality."""
    return AIR if preset == "ct" else float(values.min())


def _seen(fixed, moving, padding, transform) -> Shown:
    """Where both images show something, on the fixed grid."""
    own = np.ones(fixed.frame.shape, bool) if padding[0] is None else ~padding[0]
    moments = (
        where_shown(moving, padding[1], fixed.frame, how) for how in (None, transform)
    )
    return Shown(own, *moments)


@contextmanager
def timed(seconds: dict, phase: str) -> Iterator[None]:
    """Adds what the block takes to ``seconds[phase]``."""
    began = time.perf_counter()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - began
