"""Linear alignment of two images: candidates, then descent from coarse to fine."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from regnet_jax.errors import InputError
from regnet_jax.registration.alignment.candidates import (
    axis_motions,
    centre_shifts,
    correlation_shifts,
)
from regnet_jax.registration.alignment.gauss_newton import (
    Level,
    find_hats,
    fit_matrix,
    optimise,
)
from regnet_jax.registration.alignment.orientation import find_reversal
from regnet_jax.registration.alignment.pyramid import WorkingImage, make_working_image
from regnet_jax.spatial import (
    Image,
    canonical_frame,
    find_padding,
    is_outside,
    rebase,
    to_index,
    to_world,
)

_LOG = logging.getLogger(__name__)

# Blur of each level, in voxels; every k-th of the fixed voxels is compared.
_COARSENING = (4, 2)
# An axis with fewer voxels cannot determine rotation and scaling.
_THINNEST = 4
# A matrix with singular values beyond these is a failure, not anatomy.
_PLAUSIBLE = (0.5, 2.0)
# Gains that differ by less are treated as equal, as each search ends near its optimum.
_TIE = 1e-2


def align(
    fixed: Image,
    moving: Image,
    *,
    kind: str = "affine",
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    padding: Sequence | None = None,
) -> np.ndarray:
    """Align two images linearly.

    The images have passed ``check_pair``.

    Args:
        fixed: the image whose points are mapped.
        moving: the image they are mapped to; any grid, any contrast.
        kind: ``none``, ``center`` (translation between the centres), ``moments``
            (translation between the centres of mass and rotation between the
            principal axes), ``rigid`` or ``affine``. The last two try every shift
            first, so that fields of view need to overlap only partly.
        fixed_mask: where given, only voxels inside are compared.
        moving_mask: the same for the moving image.
        padding: of both images, from ``find_padding``; None calls it. Padding is not
            compared.

    Returns:
        Homogeneous matrix ``[d + 1, d + 1]`` from fixed points to moving points
        (mm, x first). Images too thin or too different for ``kind`` get the
        best simpler alignment, and a warning is logged. If the moving image is
        turned by half a turn, ``rigid`` and ``affine`` undo it and log a warning; if it
        is mirrored, they only log one.

    Raises:
        InputError: if the kind is unknown, or a mask covers too little of its image.
    """
    if kind not in KINDS:
        raise InputError(f"{kind}: is no alignment; use one of {', '.join(KINDS)}")
    if kind == "none":
        return np.eye(fixed.frame.ndim + 1)
    base = canonical_frame(fixed.frame)
    if padding is None:
        padding = [find_padding(image.array) for image in (fixed, moving)]
    target, source = (
        make_working_image(*given, base, coarsest=max(_COARSENING))
        for given in zip(
            (fixed, moving), (fixed_mask, moving_mask), padding, strict=True
        )
    )
    levels = [_level(target, source, factor) for factor in _COARSENING]
    centred = (axis_motions if kind == "moments" else centre_shifts)(target, source)
    starts = [*centred]
    generators = [make(fixed.frame.ndim) for make in KINDS[kind]]
    names = f"{fixed.name} and {moving.name}"
    if generators and min(*fixed.array.shape, *moving.array.shape) < _THINNEST:
        _LOG.warning(
            "%s: too thin an axis, so they stay as their headers place them, or their"
            " centres are aligned, if that fits better",
            names,
        )
        starts.insert(0, np.eye(fixed.frame.ndim + 1))
        # The coarse level blurs across slices, of which one image has too few.
        levels, generators = levels[-1:], []
    if generators:
        starts += [np.eye(fixed.frame.ndim + 1), *correlation_shifts(target, source)]
    matrix = _aligned(levels, starts, generators, names)
    if generators:
        matrix = _turned(levels, matrix, centred, generators, names)
    back = rebase(base, base)[1]
    return back @ matrix @ np.linalg.inv(back)


def _aligned(levels: list[Level], starts, generators, names: str) -> np.ndarray:
    """Return the best start, improved by descent from the starts."""
    matrix = max(starts, key=lambda start: fit_matrix(levels[0], start).gain)
    for group in generators:
        candidate = optimise(levels, starts, group)
        if not _better(levels[-1], candidate, matrix):
            _LOG.warning("%s: fit no better, a simpler alignment is kept", names)
            break
        matrix = candidate
        starts = [matrix]
    return matrix


def _turned(levels: list[Level], matrix, starts, generators, names: str) -> np.ndarray:
    """Undo half a turn of the moving image; warn of it, or of a mirrored image."""
    found = find_reversal(levels[0], matrix, starts, generators[0])
    if found is None:
        return matrix
    axes, reversed_matrix = found
    along = " and ".join("xyz"[k] for k in axes)
    if len(axes) % 2:
        _LOG.warning(
            "%s: one looks mirrored along %s; check left and right and the order of"
            " the slices in both",
            names,
            along,
        )
        return matrix
    _LOG.warning(
        "%s: one is turned by half a turn (%s are reversed), which the alignment"
        " undoes; check the directions in both headers",
        names,
        along,
    )
    return _aligned(levels, [reversed_matrix], generators, names)


def _better(level: Level, candidate: np.ndarray, matrix: np.ndarray) -> bool:
    scales = np.linalg.svd(candidate[:-1, :-1], compute_uv=False)
    low, high = _PLAUSIBLE
    plausible = low <= scales.min() and scales.max() <= high
    bound = fit_matrix(level, matrix).gain - _TIE
    return plausible and fit_matrix(level, candidate).gain > bound


def _rigid_generators(d: int) -> np.ndarray:
    """Return rotations about and shifts of the fixed centre, ``[p, d, d + 1]``."""
    planes = [(i, j) for i in range(d) for j in range(i)]
    rotations = np.zeros((len(planes), d, d + 1))
    for rotation, (i, j) in zip(rotations, planes, strict=True):
        rotation[i, j], rotation[j, i] = 1, -1
    shifts = _affine_generators(d)[d :: d + 1]
    return np.concatenate([rotations, shifts])


def _affine_generators(d: int) -> np.ndarray:
    """Return one for each entry of the matrix, ``[d * (d + 1), d, d + 1]``."""
    return np.eye(d * (d + 1)).reshape(-1, d, d + 1)


# The sets of generators that are optimised, one after the other.
KINDS = {
    "none": (),
    "center": (),
    "moments": (),
    "rigid": (_rigid_generators,),
    "affine": (_rigid_generators, _affine_generators),
}


def _level(fixed: WorkingImage, moving: WorkingImage, factor: int) -> Level:
    """Blur both images equally, and keep every ``factor``-th of the fixed voxels.

    The moving image keeps its grid, so that interpolation loses no detail.
    """
    every = (slice(None, None, factor),) * fixed.array.ndim
    inside = fixed.inside[every]
    spacing = np.multiply(fixed.frame.spacing, factor)
    frame = replace(fixed.frame, shape=inside.shape, spacing=spacing)
    points = to_world(frame, np.argwhere(inside))
    points = np.column_stack([points, np.ones(len(points))])
    channels = _with_gradient(moving, _blurred(moving, factor))

    def sample(matrix):
        index = to_index(moving.frame, points @ matrix[:-1].T)
        sampled = np.stack(
            [
                ndimage.map_coordinates(channel, index.T, order=1, mode="nearest")
                for channel in channels
            ],
            axis=1,
        )
        sampled[is_outside(moving.frame, index)] = np.nan
        return sampled

    room = np.prod(moving.frame.spacing) * moving.inside.sum() / np.prod(spacing)
    return Level(
        points=points,
        most=min(len(points), room),
        hats=find_hats(_blurred(fixed, factor)[every][inside]),
        sample=sample,
    )


def _blurred(image: WorkingImage, factor: int) -> np.ndarray:
    # As wide at half height as the coarse voxel, less the variance of the fine one.
    variance = (factor**2 - 1) / (8 * np.log(2))
    blurred = sitk.DiscreteGaussian(
        sitk.GetImageFromArray(image.array), variance, useImageSpacing=False
    )
    return sitk.GetArrayFromImage(blurred)


def _with_gradient(image: WorkingImage, array: np.ndarray) -> list[np.ndarray]:
    """Return value and d/d(x, y, z) of each voxel, NaN outside of the mask."""
    slopes = [
        np.gradient(array, axis=k) if n > 1 else np.zeros_like(array)
        for k, n in enumerate(array.shape)
    ]
    gradient = np.stack(slopes, axis=-1) @ np.linalg.inv(image.frame.matrix)
    channels = [array, *np.moveaxis(gradient, -1, 0)]
    return [np.where(image.inside, channel, np.nan) for channel in channels]
