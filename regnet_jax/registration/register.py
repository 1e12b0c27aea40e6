"""Registration of two images: align, predict, refine, compose."""

import dataclasses
import inspect
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.hounsfield import AIR
from regnet_jax.intensity import (
    intensity_map,
    map_intensity,
    resolve_pair,
)
from regnet_jax.io import as_image, has_geometry
from regnet_jax.registration.inference.confidence import (
    check_confidence,
    estimate_errors,
)
from regnet_jax.registration.inference.inverse_consistency import symmetric
from regnet_jax.registration.inference.network import (
    AUTO,
    Network,
    default_network,
    load_network,
    named_network,
)
from regnet_jax.registration.inference.prediction import compile_ahead, predict
from regnet_jax.registration.inference.voxel_size import (
    check_voxel_size,
    choose_voxel_size,
)
from regnet_jax.registration.masks import (
    check_limits,
    describe_masks,
    ignored_on_grid,
    immobile_on_grid,
    limit_field,
    neutralise,
    unite,
)
from regnet_jax.registration.monitoring import collect_warnings, timed
from regnet_jax.registration.options import RegistrationOptions, check_switch
from regnet_jax.registration.refinement import (
    RefinedRegion,
    compile_refinement_ahead,
    find_refined_region,
    refine_on_body,
)
from regnet_jax.registration.report import list_warnings
from regnet_jax.registration.result import Registration, Shown
from regnet_jax.registration.start import (
    find_start,
    is_computed,
    is_kind,
    residual_after,
    start_transform,
)
from regnet_jax.spatial import (
    Frame,
    Image,
    as_mask,
    canonical_frame,
    check_pair,
    composite,
    displacement_to_world,
    fill_padding,
    find_padding,
    isotropic_frame,
    resample,
    resample_field,
    warn_if_same,
    warp_image,
    where_shown,
)

# Programs that are compiled at the same time.
_COMPILERS = 2

_LOG = logging.getLogger(__name__)


def register(
    fixed,
    moving,
    model: str | os.PathLike | Network | None = AUTO,
    *,
    spacing=None,
    fixed_mask=None,
    moving_mask=None,
    ignore_fixed=None,
    ignore_moving=None,
    immobile=None,
    load: Callable[[str], Network] = load_network,
    progress: bool = False,
    log_warnings: bool = True,
    **options,
) -> Registration:
    """Register a moving to a fixed image.

    Images and masks are SimpleITK or nibabel images, paths (also of DICOM folders),
    arrays with their geometry (``regnet_jax.Image``), or bare arrays: images with
    ``spacing``, and masks of the shape of their image. The axes of arrays are (z, y, x)
    or (y, x), as in NumPy; everything in millimetres is in (x, y, z) or (x, y) order,
    as in SimpleITK.

    Both images are resampled to an isotropic grid that follows the anatomical axes of
    the fixed image, so the result does not depend on how either file stores its voxels.
    Padding, and regions outside of an image's field of view, are not compared; there
    the field is continued smoothly from the region that both images show.

    Args:
        fixed: the image that keeps its place.
        moving: the image that is warped; any grid.
        model: a shipped network, the folder of a training run, or a ``Network`` that
            was loaded before; ``auto``, or None, takes ``lung`` for 3D images and
            ``lung2d``, with a logged warning, for 2D images.
        spacing: mm between the voxels of images that are bare arrays, x first, or one
            number for all axes; voxel zero lies at the origin. Where two arrays have
            different grids, give each as ``regnet_jax.Image.from_array``.
        fixed_mask: restricts the linear alignment to its voxels: those that are not
            zero or, in a mask of fractions, above half of its maximum.
        moving_mask: the same for the moving image.
        ignore_fixed: mask of what is not compared in the fixed image, such as a lesion
            or an implant that the other lacks. The field there follows from its
            surroundings.
        ignore_moving: the same for the moving image.
        immobile: mask, of the fixed image, of what the linear alignment alone moves (or
            the transform that ``initial`` gives), such as an implant fixed to bone. The
            field rises from zero beside it, over 10 mm or as much as it needs so that
            nothing folds.
        load: returns the network of a name. Callers that register many pairs pass a
            function that keeps the networks.
        progress: show progress bars.
        log_warnings: log the warnings of the result. Callers that write a report log
            those of the report instead, once it is written.
        **options: the fields of ``RegistrationOptions``, which explains each.

    Returns:
        The registration: ``transform`` maps fixed points to moving points,
        ``warped_sitk`` is the moving image on the fixed grid, ``displacement`` the
        vectors there (mm). The warped image has the type of the moving one; types that
        SimpleITK lacks are widened: bool to uint8, half precision to float32, extended
        precision to float64.

    Raises:
        InputError: if an argument cannot be used or does not fit the others, or if the
            result is not finite.
        TypeError: for an unknown option.
    """
    settings = RegistrationOptions(model=model, **options)
    check_switch("progress", progress)
    if spacing is not None and has_geometry(fixed) and has_geometry(moving):
        raise InputError(
            "spacing: is for images that are bare arrays, and both of these have their"
            " own; leave it out"
        )
    # A wrong name is refused before the images are read.
    network = named_network(settings.model, load)
    with collect_warnings() as logged:
        fixed = as_image(fixed, "fixed", spacing=spacing)
        moving = as_image(moving, "moving", spacing=spacing)
        masks = {
            name: as_mask(as_image(mask, name, frame=image.frame), image.frame)
            for name, mask, image in (
                ("fixed_mask", fixed_mask, fixed),
                ("moving_mask", moving_mask, moving),
                ("ignore_fixed", ignore_fixed, fixed),
                ("ignore_moving", ignore_moving, moving),
                ("immobile", immobile, fixed),
            )
            if mask is not None
        }
        check_pair(fixed, moving)
        warn_if_same(fixed, moving)
        name, notices = settings.to_dict()["model"], []
        if network is None:
            name, notices = default_network(fixed.frame.ndim)
            network = load(name)
        _check_dimensions(network, fixed)
        axis = None
        if network.dimensions < fixed.frame.ndim:
            axis = settings.slice_axis or network.config.slice_axis
            notices = [
                f"{name} is a 2D network, so it registered {axis} slices one by one;"
                " nothing moves across them after the linear alignment"
            ]
        elif settings.slice_axis:
            reason = "a 2D network and the images are 2D"
            if network.dimensions == 3:
                reason = "a 3D network"
            notices = [*notices, f"slice_axis has no effect, as {name} is {reason}"]
        if not is_computed(settings.initial):
            for side in ("fixed_mask", "moving_mask"):
                if masks.pop(side, None) is not None:
                    notices.append(
                        f"{side} has no effect, as it is for the linear alignment and"
                        " initial asks for none"
                    )
        if settings.confidence:
            check_confidence(network, str(name), axis)
        settings = dataclasses.replace(settings, slice_axis=axis)
        result = _register(fixed, moving, network, masks, settings, progress)
    result = dataclasses.replace(
        result,
        parameters=result.parameters | {"model": name},
        notices=(*logged, *notices),
    )
    if log_warnings:
        for warning in (*notices, *list_warnings(result)):
            _LOG.warning("%s: %s", fixed.name, warning)
    return result


def _full_signature(function) -> inspect.Signature:
    """Return a function's signature with the options in place of ``**options``."""
    signature = inspect.signature(function)
    parameters = dict(signature.parameters)
    del parameters["options"]
    for field in dataclasses.fields(RegistrationOptions):
        if field.name not in parameters:
            parameters[field.name] = inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=field.type,
            )
    return signature.replace(parameters=list(parameters.values()))


# For help(), and for the completion of notebooks.
register.__signature__ = _full_signature(register)


def _check_dimensions(network: Network, fixed: Image) -> None:
    """Raise InputError if the network is 3D and the images are 2D."""
    if network.dimensions > fixed.frame.ndim:
        raise InputError(
            f"the network is {network.dimensions}D and {fixed.name} is"
            f" {fixed.frame.ndim}D; choose a 2D model, such as lung2d"
        )


class _Side(NamedTuple):
    """One of the images, as it is compared, on its own grid.

    Attributes:
        image: without the values that are ignored.
        padding: bool, where it shows nothing; or None.
        ignored: bool, where it is not compared although it shows something; or None.
        preset: of its intensities.
    """

    image: Image
    padding: np.ndarray | None
    ignored: np.ndarray | None
    preset: str

    @property
    def hidden(self) -> np.ndarray | None:
        """Where it is not compared."""
        return unite(self.padding, self.ignored)


def _prepare(fixed: Image, moving: Image, masks, intensity: str) -> list[_Side]:
    """Find what is compared of both images."""
    ignored = [
        masks[name].array > 0 if name in masks else None
        for name in ("ignore_fixed", "ignore_moving")
    ]
    images = [
        neutralise(image, where)
        for image, where in zip((fixed, moving), ignored, strict=True)
    ]
    padding = [find_padding(image.array) for image in images]
    check_limits(masks, images, padding)
    # Of the whole images: the part that is ignored may be what shows that one is CT.
    whole = [
        known if where is None else find_padding(image.array)
        for image, where, known in zip((fixed, moving), ignored, padding, strict=True)
    ]
    presets = resolve_pair(intensity, [fixed.array, moving.array], whole)
    return [
        _Side(*side) for side in zip(images, padding, ignored, presets, strict=True)
    ]


class _OnGrid(NamedTuple):
    """One of the images on the working grid.

    Attributes:
        image: ``[*grid.shape]``, HU or mapped to them.
        shown: bool of the same shape, where it is compared.
        ignored: bool of the same shape, or None if that is nowhere.
    """

    image: np.ndarray
    shown: np.ndarray
    ignored: np.ndarray | None


def _on_grid(side: _Side, grid: Frame, transform=None) -> _OnGrid:
    """Resample an image to the working grid, by the transform to its points."""
    image, hidden = side.image, side.hidden
    values = image.array if hidden is None else image.array[~hidden]
    # Padding becomes air, or the darkest value of another modality.
    darkest = AIR if side.preset == "ct" else float(values.min())
    filled = fill_padding(image.array, side.padding, darkest)
    filled = dataclasses.replace(image, array=filled)
    resampled = resample(filled, grid, transform).array
    return _OnGrid(
        map_intensity(resampled, intensity_map(side.preset, values)),
        where_shown(image, hidden, grid, transform),
        ignored_on_grid(image, side.ignored, grid, transform),
    )


class _VoxelSize(NamedTuple):
    """The voxels of the working grid.

    Attributes:
        mm: their size.
        seen: their size in images of the scale that the network was trained on, mm.
        adapted: whether the network takes the images for larger or smaller ones.
        given: whether it was asked for.
    """

    mm: float
    seen: float
    adapted: bool
    given: bool


def _choose_voxels(
    network: Network, fixed: Image, moving: Image, options: RegistrationOptions
) -> tuple[Network, _VoxelSize]:
    """Choose the voxel size, and the passes of the network that fit it."""
    given = check_voxel_size(options.voxel_size, fixed.frame)
    if network.config.adapt_voxel_size:
        own = choose_voxel_size(fixed.frame, moving.frame, network.spacing)
    else:
        own = network.spacing
        check_voxel_size(own, fixed.frame)
    effort = options.effort
    # Fields of more voxels would not fit into a limited memory.
    fineness = network.config.fineness if options.memory is None else 1.0
    size = given or (own / fineness if effort.finer else own)
    network = network.with_effort(
        own / size,
        repeats=effort.finer and fineness == 1.0,
        both_orders=effort.both_orders,
    )
    return network, _VoxelSize(
        mm=size,
        seen=network.spacing * size / own,
        adapted=own != network.spacing and not given,
        given=bool(given),
    )


class _Direction(NamedTuple):
    """What is compared in one direction of a registration, on the working grid.

    Attributes:
        images: the one that stays and the one that is warped, ``[*grid.shape]``.
        shown: bool of the same shape, where each is compared.
        ignored: bool of the same shape, where each is not; None for nowhere.
        region: that is refined; None to look for it.
    """

    images: tuple[np.ndarray, np.ndarray]
    shown: tuple[np.ndarray, np.ndarray]
    ignored: tuple[np.ndarray | None, np.ndarray | None]
    region: RefinedRegion | None


def _directions(
    sides: Sequence[_OnGrid], region: RefinedRegion | None, *, both: bool
) -> list[_Direction]:
    """Return the direction from the fixed image, and back if both are wanted."""
    fixed, moving = sides

    def direction(here: _OnGrid, there: _OnGrid, region) -> _Direction:
        return _Direction(
            (here.image, there.image),
            (here.shown, there.shown),
            (here.ignored, there.ignored),
            region,
        )

    forth, back = direction(fixed, moving, region), direction(moving, fixed, None)
    return [forth, back] if both else [forth]


def _register(
    fixed: Image,
    moving: Image,
    network: Network,
    masks: Mapping[str, Image],
    options: RegistrationOptions,
    progress: bool,
) -> Registration:
    """Register two images that fit each other and the network."""
    network, size = _choose_voxels(network, fixed, moving, options)
    effort, slice_axis = options.effort, options.slice_axis
    limits: dict[str, Any] = {"slice_axis": slice_axis, "memory": options.memory}
    names = f"{fixed.name} and {moving.name}"
    seconds: dict = {}
    with timed(seconds, "alignment"):
        sides = _prepare(fixed, moving, masks, _wanted_intensity(network, options))
    with timed(seconds, "prediction"):
        grid = isotropic_frame(canonical_frame(fixed.frame), size.mm)
        on_grid = [_on_grid(sides[0], grid)]
    # Programs are compiled or loaded while the images are aligned.
    with _threads() as pool:
        compile_ahead(network, on_grid[0].image, pool, **limits)
        region = None
        if effort.steps and not slice_axis:
            with timed(seconds, "refinement"):
                region = find_refined_region(
                    on_grid[0].image, spacing=size.seen, whole="immobile" in masks
                )
                compile_refinement_ahead(region, pool)
        with timed(seconds, "alignment"):
            start = find_start(
                sides[0].image,
                sides[1].image,
                options.initial,
                [masks.get("fixed_mask"), masks.get("moving_mask")],
                [side.hidden for side in sides],
            )
            _check_finite(start.affine, "linear alignment", names)
    with timed(seconds, "prediction"):
        on_grid.append(_on_grid(sides[1], grid, start_transform(start, grid)))
        directions = _directions(on_grid, region, both=options.inverse_consistent)
        predicted = [
            predict(
                network, *each.images, shown=each.shown, progress=progress, **limits
            )
            for each in directions
        ]
        _check_finite(predicted, "prediction of the network", names)
        still = None
        if "immobile" in masks:
            still = immobile_on_grid(masks["immobile"], grid)
        limited = [
            limit_field(field, each.ignored, still, size.seen)
            for field, each in zip(predicted, directions, strict=True)
        ]
    fields = [each.field for each in limited]
    if effort.steps:
        with timed(seconds, "refinement"):
            fields = [
                refine_on_body(
                    *each.images,
                    found.field,
                    steps=effort.steps,
                    shown=each.shown,
                    ignored=each.ignored,
                    mobility=found.mobility,
                    region=each.region,
                    slice_axis=slice_axis,
                    spacing=size.seen,
                )
                for each, found in zip(directions, limited, strict=True)
            ]
            _check_finite(fields, "refinement", names)
    with timed(seconds, "resampling"):
        displacement, cycle = _join(fields)
    errors = None
    if options.confidence:
        with timed(seconds, "confidence"):
            errors = estimate_errors(
                network,
                *directions[0].images,
                displacement,
                grid,
                affine=start.affine,
                shown=directions[0].shown,
                memory=options.memory,
            )
    with timed(seconds, "resampling"):
        residual_grid, vectors = grid, displacement_to_world(grid, displacement)
        if start.deformation is not None:
            # What was given may be finer than the working grid.
            vectors = resample_field(vectors, grid, fixed.frame)
            residual_grid = fixed.frame
        residual = residual_after(start, residual_grid, vectors)
        transform = composite(residual_grid, residual, start.affine)
        warped = warp_image(moving, fixed.frame, transform)
        _check_finite((residual, warped.array), "resampling", names)
        shown = _find_shown(sides, transform)
    parameters = _describe(options, network, sides, size)
    if cycle is not None:
        parameters["disagreement"] = _disagreement(cycle * size.mm)
    if masks:
        parameters["masks"] = describe_masks(masks)
    if still is not None:
        width = max(each.width or 0.0 for each in limited) * size.mm
        parameters["masks"]["immobile"]["transition_mm"] = width
    return Registration(
        *(fixed, moving, start.affine, residual, residual_grid),
        *(warped, shown, seconds, parameters),
        error_estimate=errors,
    )


def _wanted_intensity(network: Network, options: RegistrationOptions) -> str:
    if options.intensity == "auto":
        return network.config.intensity_preset
    return options.intensity


def _describe(
    options: RegistrationOptions,
    network: Network,
    sides: Sequence[_Side],
    size: _VoxelSize,
) -> dict[str, Any]:
    """Return the options, and what was chosen where they leave it open."""
    return options.to_dict() | {
        "refine": options.effort.steps,
        "initial": options.initial if is_kind(options.initial) else "given",
        "intensity": {
            "fixed": sides[0].preset,
            "moving": sides[1].preset,
            "network": network.config.intensity_preset,
            "given": options.intensity != "auto",
        },
        "voxel_size": {
            "mm": size.mm,
            "network": network.spacing,
            "adapted": size.adapted,
            "given": size.given,
        },
    }


def _check_finite(values, name: str, images: str) -> None:
    """Raise InputError where a result is not finite, so that nothing is written."""
    if not all(np.isfinite(value).all() for value in values):
        raise InputError(
            f"{images}: the {name} gave values that are not finite, so there is no"
            " result; check the spacing and the values of both images, or start from"
            " another --initial"
        )


def _join(fields):
    """Join the fields of one or both directions; return their disagreement too."""
    if len(fields) == 1:
        return fields[0], None
    field, cycle = map(np.asarray, symmetric(*fields))
    return field, cycle


def _disagreement(cycle: np.ndarray) -> dict:
    """Summarise how far a point is from itself after both directions, mm."""
    return {"mean_mm": float(cycle.mean()), "p95_mm": float(np.percentile(cycle, 95))}


@contextmanager
def _threads() -> Iterator[Executor]:
    """Yield threads; nothing waits for them, and after an error they start no more."""
    pool = ThreadPoolExecutor(_COMPILERS, "compiler")
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown(wait=False)


def _find_shown(sides: Sequence[_Side], transform) -> Shown:
    """Find where each image is compared, on the fixed grid."""
    fixed, moving = sides
    own = np.ones(fixed.image.frame.shape, bool)
    own = own if fixed.hidden is None else ~fixed.hidden
    before, after = (
        where_shown(moving.image, moving.hidden, fixed.image.frame, how)
        for how in (None, transform)
    )
    matched = None
    if moving.ignored is not None:
        matched = where_shown(
            moving.image, moving.padding, fixed.image.frame, transform
        )
    return Shown(own, before, after, matched)
