"""Linear alignment, before anything nonrigid.

The images are brought to small isotropic grids in coordinates that hang on the
fixed image, so that the result doesn't depend on the pose or the voxel order of
either file. The moving intensities are then explained by a free function of the
fixed intensities, so that contrasts may differ (the correlation ratio of Roche
et al., MICCAI 1998), and what remains unexplained is minimised, coarse to fine.
Each Gauss-Newton step eliminates the free function (variable projection), which
needs tens of steps where gradient descent on mutual information needs hundreds
and stops farther from the optimum. Nothing is drawn at random.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from scipy.linalg import expm

from regnet_jax.errors import InputError
from regnet_jax.io import (
    Frame,
    Image,
    affine_transform,
    canonicalise,
    check_pair,
    isotropic_frame,
    rebase,
    resample,
    to_sitk,
    to_world,
)

_LOG = logging.getLogger(__name__)

# Voxels of the finest working grid: 64**3 in 3D, 512**2 in 2D.
_VOXELS = 2**18
_COARSENING = (4, 2, 1)
# Knots of the piecewise linear function from fixed to moving intensities.
_KNOTS = 32
# Percentiles: metal and padding values should not stretch the knots.
_CLIPPED = (0.1, 99.9)
# Of the fixed voxels, at least this share has to fall into the moving image.
_LEAST_OVERLAP = 0.2
# An axis with fewer voxels says nothing of rotation and scaling.
_THINNEST = 4
_MOST_STEPS = 60
# A step that moves no corner by more than this share of a voxel is the last.
_CONVERGED = 0.01
# A linear part beyond these singular values is a failure, not a patient.
_PLAUSIBLE = (0.5, 2.0)


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
            a mask that misses its image.
    """
    if kind not in KINDS:
        raise InputError(f"{kind}: is no alignment; use one of {', '.join(KINDS)}")
    check_pair(fixed, moving)
    if kind == "none":
        return np.eye(fixed.frame.ndim + 1)
    base = canonicalise(fixed.array, fixed.frame)[1]
    targets = _pyramid(fixed, fixed_mask, base)
    sources = _pyramid(moving, moving_mask, base)
    levels = [_level(*pair) for pair in zip(targets, sources, strict=True)]
    matrix = _centred(levels[0], targets[0], sources[0])
    generators = KINDS[kind]
    if generators and min(*fixed.array.shape, *moving.array.shape) < _THINNEST:
        _warn(fixed, moving, "an axis is too thin for more than aligning centres")
        generators = ()
    starts = [matrix, np.eye(len(matrix))]
    for make in generators:
        candidate = _optimise(levels, starts, make(fixed.frame.ndim))
        if not _better(levels[-1], candidate, matrix):
            _warn(fixed, moving, "they fit no better, so a simpler alignment is kept")
            break
        matrix = candidate
        starts = [matrix]
    back = rebase(base, base)[1]
    return back @ matrix @ np.linalg.inv(back)


def _warn(fixed: Image, moving: Image, fact: str) -> None:
    _LOG.warning("aligning %s and %s: %s", fixed.name, moving.name, fact)


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


# The generators that are optimised, one set after the other.
KINDS = {
    "none": (),
    "center": (),
    "rigid": (_rigid_generators,),
    "affine": (_rigid_generators, _affine_generators),
}


def _pyramid(image: Image, mask: Image | None, base: Frame) -> list[Image]:
    """Coarse to fine working copies, in the coordinates of ``base``.

    What lies outside of the mask is NaN.
    """
    own = canonicalise(image.array, image.frame)[1]
    extent = np.prod(np.multiply(own.shape[::-1], own.spacing))
    spacing = max((extent / _VOXELS) ** (1 / own.ndim), min(own.spacing))
    finest = resample(image, isotropic_frame(own, spacing))
    low, high = np.percentile(finest.array, _CLIPPED)
    if low < high:
        finest = replace(finest, array=np.clip(finest.array, low, high))
    levels = []
    for factor in _COARSENING:
        frame = isotropic_frame(own, factor * spacing)
        array = resample(finest, frame).array
        if mask is not None:
            array = np.where(_inside(mask, frame, image.name), array, np.nan)
        levels.append(Image(array, rebase(frame, base)[0], image.name))
    return levels


def _inside(mask: Image, frame: Frame, name: str) -> np.ndarray:
    share = resample(replace(mask, array=mask.array != 0), frame, background=0.0).array
    if not share.any():
        raise InputError(f"{mask.name}: misses {name}; give a mask that covers part")
    # A mask smaller than a voxel still has its best voxel.
    return share >= min(0.5, share.max())


@dataclass(frozen=True)
class _Level:
    """What the optimiser sees at one resolution.

    Attributes:
        frame: of the fixed image.
        inside: ``[n]``, which of its voxels are compared.
        points: ``[m, d + 1]`` homogeneous points (mm) of those.
        basis: ``[m, knots]`` hat functions of their intensities.
        moving: vector image of the moving values and gradients (per mm).
    """

    frame: Frame
    inside: np.ndarray
    points: np.ndarray
    basis: np.ndarray
    moving: sitk.Image


def _level(fixed: Image, moving: Image) -> _Level:
    inside = np.isfinite(fixed.array).ravel()
    grid = np.moveaxis(np.indices(fixed.frame.shape), 0, -1)
    points = to_world(fixed.frame, grid).reshape(-1, fixed.frame.ndim)[inside]
    values = fixed.array.ravel()[inside].astype(np.float64)
    span = np.ptp(values) or 1.0
    place = (values - values.min()) / span * (_KNOTS - 1)
    basis = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(_KNOTS)))
    return _Level(
        frame=fixed.frame,
        inside=inside,
        points=np.concatenate([points, np.ones((len(points), 1))], axis=1),
        basis=basis,
        moving=to_sitk(_with_gradient(moving), moving.frame),
    )


def _with_gradient(image: Image) -> np.ndarray:
    """``[*shape, 1 + d]``: values, scaled to unit deviation, and d/d(x, y, z)."""
    array = image.array.astype(np.float64) / (np.nanstd(image.array) or 1.0)
    slopes = [
        np.gradient(array, axis=k) if n > 1 else np.zeros_like(array)
        for k, n in enumerate(array.shape)
    ]
    per_voxel = np.stack(slopes, axis=-1)
    gradient = per_voxel @ np.linalg.inv(image.frame.matrix)
    return np.concatenate([array[..., None], gradient], axis=-1)


@dataclass(frozen=True)
class _Fit:
    """How well a matrix fits, and the quadratic model around it.

    Attributes:
        cost: unexplained share of the moving variance, infinite without overlap.
        gradient: ``[d * (d + 1)]`` of half the unexplained sum of squares.
        hessian: its Gauss-Newton approximation.
    """

    cost: float
    gradient: np.ndarray
    hessian: np.ndarray


def _fit(level: _Level, matrix: np.ndarray) -> _Fit:
    """Evaluate ``matrix @ (identity + delta)`` about ``delta = 0``."""
    d = level.frame.ndim
    sampled = sitk.Resample(
        level.moving,
        level.frame.shape[::-1],
        affine_transform(matrix),
        sitk.sitkLinear,
        level.frame.origin,
        level.frame.spacing,
        level.frame.direction,
        np.nan,
    )
    sampled = sitk.GetArrayFromImage(sampled).reshape(-1, d + 1)[level.inside]
    seen = np.isfinite(sampled).all(axis=1)
    if seen.mean() < _LEAST_OVERLAP:
        return _Fit(np.inf, np.zeros(d * (d + 1)), np.eye(d * (d + 1)))
    values, slopes = sampled[seen, 0], sampled[seen, 1:] @ matrix[:d, :d]
    slopes = slopes[:, :, None] * level.points[seen][:, None, :]
    columns = np.column_stack(
        [level.basis[seen], slopes.reshape(len(values), -1), values - values.mean()]
    )
    gram = columns.T @ columns
    k = _KNOTS
    # The ridge is for knots without voxels.
    knots = gram[:k, :k] + 1e-9 * len(values) * np.eye(k)
    left = gram[k:, k:] - gram[k:, :k] @ np.linalg.solve(knots, gram[:k, k:])
    cost = left[-1, -1] / gram[-1, -1] if gram[-1, -1] > 0 else np.inf
    return _Fit(cost, left[:-1, -1], left[:-1, :-1])


def _centred(level: _Level, fixed: Image, moving: Image) -> np.ndarray:
    """The better shift of the centres of the grids and of the masses."""
    shifts = [
        moving.frame.centre - fixed.frame.centre,
        _mass_centre(moving) - _mass_centre(fixed),
    ]
    d = fixed.frame.ndim
    starts = [np.block([[np.eye(d), s[:, None]], [np.eye(d + 1)[d:]]]) for s in shifts]
    return min(starts, key=lambda start: _fit(level, start).cost)


def _mass_centre(image: Image) -> np.ndarray:
    # Above the darkest value, since air in CT is negative.
    weights = np.nan_to_num(image.array - np.nanmin(image.array)).astype(np.float64)
    grid = np.moveaxis(np.indices(image.frame.shape), 0, -1)
    total = weights.sum()
    if not total:
        return image.frame.centre
    centre = (weights[..., None] * grid).sum(tuple(range(weights.ndim))) / total
    return to_world(image.frame, centre)


def _optimise(levels: list[_Level], starts, generators) -> np.ndarray:
    """Coarse to fine, from the start that ends best at the coarsest level."""
    coarsest, *finer = levels
    ends = [_descend(coarsest, start, generators) for start in starts]
    matrix = min(ends, key=lambda end: _fit(coarsest, end).cost)
    for level in finer:
        matrix = _descend(level, matrix, generators)
    return matrix


def _descend(level: _Level, matrix: np.ndarray, generators) -> np.ndarray:
    """Levenberg-Marquardt within the span of the generators, at one level."""
    d = level.frame.ndim
    basis = generators.reshape(len(generators), -1)
    radius = np.linalg.norm(np.multiply(level.frame.shape, level.frame.spacing[0])) / 2
    fit, damping = _fit(level, matrix), 1e-3
    for _ in range(_MOST_STEPS):
        hessian = basis @ fit.hessian @ basis.T
        curvature = np.diag(hessian)
        ridge = damping * (curvature + 1e-9 * curvature.max() + 1e-12)
        step = np.linalg.solve(hessian + np.diag(ridge), -basis @ fit.gradient)
        delta = np.zeros((d + 1, d + 1))
        delta[:d] = (step @ basis).reshape(d, d + 1)
        trial = matrix @ expm(delta)
        tried = _fit(level, trial)
        if tried.cost < fit.cost:
            matrix, fit, damping = trial, tried, damping / 5
        else:
            damping *= 5
        reach = np.linalg.norm(delta[:d, :d], 2) * radius + np.linalg.norm(delta[:d, d])
        if reach < _CONVERGED * level.frame.spacing[0]:
            break
    return matrix


def _better(level: _Level, candidate: np.ndarray, matrix: np.ndarray) -> bool:
    scales = np.linalg.svd(candidate[:-1, :-1], compute_uv=False)
    low, high = _PLAUSIBLE
    plausible = low <= scales.min() and scales.max() <= high
    return plausible and _fit(level, candidate).cost <= _fit(level, matrix).cost
