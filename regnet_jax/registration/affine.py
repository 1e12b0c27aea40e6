"""Linear alignment of two images, before anything nonrigid.

The images are brought to small isotropic grids in coordinates that hang on the
fixed image, so that the result doesn't depend on the pose or the voxel order of
either file. Nothing is drawn at random.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.io import (
    Frame,
    Image,
    affine_transform,
    canonical_frame,
    check_pair,
    isotropic_frame,
    rebase,
    resample,
    to_sitk,
    to_world,
)
from regnet_jax.registration.correlation_ratio import Level, evaluate, hats, optimise

_LOG = logging.getLogger(__name__)

# Voxels of a working grid: 256**2 or 64**3.
_VOXELS = {2: 2**16, 3: 2**18}
# Blur of each level in voxels; of the fixed voxels every such one is compared.
_COARSENING = (4, 2)
# Percentiles: metal and padding values should not stretch the range.
_CLIPPED = (0.1, 99.9)
# An axis with fewer voxels says nothing of rotation and scaling.
_THINNEST = 4
# With fewer voxels at the coarsest level anything fits.
_FEWEST = 50
# A linear part beyond these singular values is a failure, not a patient.
_PLAUSIBLE = (0.5, 2.0)
# Costs that differ by a smaller share are equal: each ended its own search.
_TIE = 1e-2


def align(
    fixed: Image,
    moving: Image,
    *,
    kind: str = "affine",
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
) -> np.ndarray:
    """Align two images linearly.

    Args:
        fixed: the image whose points are mapped.
        moving: the image they are mapped to; any grid, any contrast.
        kind: ``none``, ``center`` (a translation), ``rigid`` or ``affine``.
        fixed_mask: where given, only what is inside is compared.
        moving_mask: the same for the moving image.

    Returns:
        Homogeneous matrix ``[d + 1, d + 1]`` from fixed points to moving points
        (mm, x first). Images too thin or too different for ``kind`` get the
        best simpler alignment, and a warning is logged.

    Raises:
        InputError: unknown kind, images of different dimensions or constant, or
            a mask that covers too little of its image.
    """
    if kind not in KINDS:
        raise InputError(f"{kind}: is no alignment; use one of {', '.join(KINDS)}")
    check_pair(fixed, moving)
    if kind == "none":
        return np.eye(fixed.frame.ndim + 1)
    base = canonical_frame(fixed.frame)
    target = _working(fixed, fixed_mask, base)
    source = _working(moving, moving_mask, base)
    levels = [_level(target, source, factor) for factor in _COARSENING]
    matrix = _centred(levels[0], target, source)
    generators = [make(fixed.frame.ndim) for make in KINDS[kind]]
    names = f"{fixed.name} and {moving.name}"
    if generators and min(*fixed.array.shape, *moving.array.shape) < _THINNEST:
        _LOG.warning("%s: too thin an axis, so only the centres are aligned", names)
    else:
        matrix = _refined(levels, matrix, generators, names)
    back = rebase(base, base)[1]
    return back @ matrix @ np.linalg.inv(back)


def _refined(levels, matrix, generators, names: str) -> np.ndarray:
    starts = [matrix, np.eye(len(matrix))]
    for group in generators:
        candidate = optimise(levels, starts, group)
        if not _better(levels[-1], candidate, matrix):
            _LOG.warning("%s: fit no better, a simpler alignment is kept", names)
            break
        matrix = candidate
        starts = [matrix]
    return matrix


def _better(level: Level, candidate: np.ndarray, matrix: np.ndarray) -> bool:
    scales = np.linalg.svd(candidate[:-1, :-1], compute_uv=False)
    low, high = _PLAUSIBLE
    plausible = low <= scales.min() and scales.max() <= high
    bound = (1 + _TIE) * evaluate(level, matrix).cost
    return plausible and evaluate(level, candidate).cost < bound


def _rigid_generators(d: int) -> np.ndarray:
    """``[p, d, d + 1]``: rotations about, and shifts of, the fixed centre."""
    planes = [(i, j) for i in range(d) for j in range(i)]
    rotations = np.zeros((len(planes), d, d + 1))
    for rotation, (i, j) in zip(rotations, planes, strict=True):
        rotation[i, j], rotation[j, i] = 1, -1
    shifts = _affine_generators(d)[d :: d + 1]
    return np.concatenate([rotations, shifts])


def _affine_generators(d: int) -> np.ndarray:
    """``[d * (d + 1), d, d + 1]``: one for each entry of the matrix."""
    return np.eye(d * (d + 1)).reshape(-1, d, d + 1)


# The sets of generators that are optimised, one after the other.
KINDS = {
    "none": (),
    "center": (),
    "rigid": (_rigid_generators,),
    "affine": (_rigid_generators, _affine_generators),
}


@dataclass(frozen=True)
class _Working:
    """A small copy of an image.

    Attributes:
        array: ``[*shape]``, values without outliers, of unit deviation.
        inside: ``[*shape]``, whether a voxel counts.
        frame: isotropic, in the coordinates that hang on the fixed image.
    """

    array: np.ndarray
    inside: np.ndarray
    frame: Frame


def _working(image: Image, mask: Image | None, base: Frame) -> _Working:
    own = canonical_frame(image.frame)
    extent = np.prod(np.multiply(own.shape[::-1], own.spacing))
    frame = isotropic_frame(own, (extent / _VOXELS[own.ndim]) ** (1 / own.ndim))
    array = resample(image, frame).array.astype(np.float64)
    low, high = np.percentile(array, _CLIPPED)
    if low < high:
        array = np.clip(array, low, high)
    inside = np.ones(frame.shape, bool)
    if mask is not None:
        inside = _inside(mask, frame, image.name)
    return _Working(array / (array.std() or 1.0), inside, rebase(frame, base)[0])


def _inside(mask: Image, frame: Frame, name: str) -> np.ndarray:
    share = resample(replace(mask, array=mask.array != 0), frame, background=0.0).array
    inside = share >= 0.5
    if inside[(slice(None, None, max(_COARSENING)),) * inside.ndim].sum() < _FEWEST:
        raise InputError(
            f"{mask.name}: covers too little of {name} to align them by; give a"
            " larger mask or none"
        )
    return inside


def _level(fixed: _Working, moving: _Working, factor: int) -> Level:
    """Both images blurred alike, and the fixed voxels thinned as much.

    The moving image keeps its grid: interpolation then costs no detail.
    """
    every = (slice(None, None, factor),) * fixed.array.ndim
    inside = fixed.inside[every]
    spacing = np.multiply(fixed.frame.spacing, factor)
    frame = replace(fixed.frame, shape=inside.shape, spacing=spacing)
    points = to_world(frame, np.argwhere(inside))
    image = _with_gradient(moving, _blurred(moving, factor))

    def sample(matrix):
        sampled = sitk.Resample(
            image,
            frame.shape[::-1],
            affine_transform(matrix),
            sitk.sitkLinear,
            frame.origin,
            frame.spacing,
            frame.direction,
            np.nan,
        )
        return sitk.GetArrayFromImage(sampled)[inside]

    return Level(
        points=np.column_stack([points, np.ones(len(points))]),
        basis=hats(_blurred(fixed, factor)[every][inside]),
        sample=sample,
    )


def _blurred(image: _Working, factor: int) -> np.ndarray:
    # As wide at half height as the coarser voxel, given that of the finer.
    variance = (factor**2 - 1) / (8 * np.log(2))
    blurred = sitk.DiscreteGaussian(
        sitk.GetImageFromArray(image.array), variance, useImageSpacing=False
    )
    return sitk.GetArrayFromImage(blurred)


def _with_gradient(image: _Working, array: np.ndarray) -> sitk.Image:
    """Value and d/d(x, y, z) at each voxel, NaN where it doesn't count."""
    slopes = [
        np.gradient(array, axis=k) if n > 1 else np.zeros_like(array)
        for k, n in enumerate(array.shape)
    ]
    gradient = np.stack(slopes, axis=-1) @ np.linalg.inv(image.frame.matrix)
    values = np.concatenate([array[..., None], gradient], axis=-1)
    values[~image.inside] = np.nan
    return to_sitk(values, image.frame)


def _centred(level: Level, fixed: _Working, moving: _Working) -> np.ndarray:
    """The better shift of the centres of the grids and of the masses."""
    starts = []
    for centre in (lambda image: image.frame.centre, _mass_centre):
        start = np.eye(fixed.frame.ndim + 1)
        start[:-1, -1] = centre(moving) - centre(fixed)
        starts.append(start)
    return min(starts, key=lambda start: evaluate(level, start).cost)


def _mass_centre(image: _Working) -> np.ndarray:
    # Above the darkest value, since air in CT is negative.
    weights = (image.array - image.array[image.inside].min()) * image.inside
    total = weights.sum() or 1.0
    index = [np.sum(weights * i) / total for i in np.indices(weights.shape)]
    return to_world(image.frame, index)
