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
from scipy.sparse import csr_array

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

_LOG = logging.getLogger(__name__)

# Voxels of a working grid: 256**2 or 64**3.
_VOXELS = {2: 2**16, 3: 2**18}
# Blur of each level in voxels; of the fixed voxels every such one is compared.
_COARSENING = (4, 2)
# Knots of the piecewise linear function from fixed to moving intensities.
_KNOTS = 64
# Residuals beyond this share of the moving image's deviation stop to count: what
# moves by itself, as a diaphragm does, should not bend the alignment of the rest.
_OUTLYING = 0.25
_REWEIGHTINGS = 3
# Percentiles: metal and padding values should not stretch the knots.
_CLIPPED = (0.1, 99.9)
# Of the fixed voxels, at least this share has to fall into the moving image.
_LEAST_OVERLAP = 0.2
# An axis with fewer voxels says nothing of rotation and scaling.
_THINNEST = 4
# A step has to lower the cost by this share; after some refusals it is the least.
_LEAST_GAIN = 1e-5
_MOST_REFUSALS = 3
# A linear part beyond these singular values is a failure, not a patient.
_PLAUSIBLE = (0.5, 2.0)
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
            a mask that misses its image.
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
    if not share.any():
        raise InputError(f"{mask.name}: misses {name}; give a mask that covers part")
    # A mask smaller than a voxel still has its best voxel.
    return share >= min(0.5, share.max())


@dataclass(frozen=True)
class _Level:
    """What the optimiser sees at one resolution.

    Attributes:
        frame: of the fixed voxels that are compared.
        inside: ``[n]``, which of them count.
        points: ``[m, d + 1]`` homogeneous points (mm) of those.
        basis: ``[m, knots]`` hat functions of their intensities.
        moving: vector image of the moving values and gradients (per mm).
    """

    frame: Frame
    inside: np.ndarray
    points: np.ndarray
    basis: csr_array
    moving: sitk.Image


def _level(fixed: _Working, moving: _Working, factor: int) -> _Level:
    """Both images blurred alike, and the fixed voxels thinned as much.

    The moving image keeps its grid: interpolation then costs no detail.
    """
    every = (slice(None, None, factor),) * fixed.array.ndim
    array, inside = _blurred(fixed, factor)[every], fixed.inside[every].ravel()
    spacing = np.multiply(fixed.frame.spacing, factor)
    frame = replace(fixed.frame, shape=array.shape, spacing=spacing)
    grid = np.moveaxis(np.indices(frame.shape), 0, -1)
    points = to_world(frame, grid).reshape(-1, frame.ndim)[inside]
    return _Level(
        frame=frame,
        inside=inside,
        points=np.concatenate([points, np.ones((len(points), 1))], axis=1),
        basis=_hats(array.ravel()[inside]),
        moving=_with_gradient(moving, _blurred(moving, factor)),
    )


def _blurred(image: _Working, factor: int) -> np.ndarray:
    # As wide at half height as the coarser voxel, given that of the finer.
    variance = (factor**2 - 1) / (8 * np.log(2))
    blurred = sitk.DiscreteGaussian(
        sitk.GetImageFromArray(image.array), variance, useImageSpacing=False
    )
    return sitk.GetArrayFromImage(blurred)


def _hats(values: np.ndarray) -> csr_array:
    place = (values - values.min()) / (np.ptp(values) or 1.0) * (_KNOTS - 1)
    return csr_array(np.maximum(0, 1 - np.abs(place[:, None] - np.arange(_KNOTS))))


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


@dataclass(frozen=True)
class _Fit:
    """How well a matrix fits, and the quadratic model around it.

    Attributes:
        cost: unexplained share of the moving image, infinite without overlap.
        gradient: ``[d * (d + 1)]`` of the cost, but for a factor.
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
    points = level.points[seen]
    columns = (slopes[:, :, None] * points[:, None, :]).reshape(len(values), -1)
    basis = level.basis[seen]
    weighted, normal, left = _unexplained(basis, values)
    spread = values - values.mean()
    cost = _loss(left).sum() / _loss(spread).sum() if spread.any() else np.inf
    # What there is to explain changes with the matrix as well.
    pull = _weights(spread) * spread
    gradient = (_weights(left) * left - cost * (pull - pull.mean())) @ columns
    # No BLAS: threads that wait for each other cost more than these products.
    hessian = np.einsum("ni,nj->ij", columns * _weights(left)[:, None], columns)
    cross = weighted.T @ columns
    return _Fit(cost, gradient, hessian - cross.T @ np.linalg.solve(normal, cross))


def _unexplained(basis: csr_array, values: np.ndarray):
    """What the best function of the fixed intensities leaves of the values.

    Returns:
        The basis times the weights of a robust fit, its normal matrix, and the
        residual ``[n]``.
    """
    # The ridge is for knots without voxels.
    ridge = 1e-9 * len(values) * np.eye(basis.shape[1])
    weights = np.ones(len(values))
    for _ in range(_REWEIGHTINGS):
        weighted = basis.multiply(weights[:, None]).tocsr()
        normal = (weighted.T @ basis).toarray() + ridge
        left = values - basis @ np.linalg.solve(normal, weighted.T @ values)
        weights = _weights(left)
    return weighted, normal, left


def _loss(residual: np.ndarray) -> np.ndarray:
    """Half of Geman and McClure's loss: a square that saturates."""
    return residual**2 / (2 + 2 * (residual / _OUTLYING) ** 2)


def _weights(residual: np.ndarray) -> np.ndarray:
    """Its derivative, divided by the residual."""
    return 1 / (1 + (residual / _OUTLYING) ** 2) ** 2


def _centred(level: _Level, fixed: _Working, moving: _Working) -> np.ndarray:
    """The better shift of the centres of the grids and of the masses."""
    starts = []
    for centre in (lambda image: image.frame.centre, _mass_centre):
        start = np.eye(level.frame.ndim + 1)
        start[:-1, -1] = centre(moving) - centre(fixed)
        starts.append(start)
    return min(starts, key=lambda start: _fit(level, start).cost)


def _mass_centre(image: _Working) -> np.ndarray:
    # Above the darkest value, since air in CT is negative.
    weights = (image.array - image.array[image.inside].min()) * image.inside
    total = weights.sum() or 1.0
    index = [np.sum(weights * i) / total for i in np.indices(weights.shape)]
    return to_world(image.frame, index)


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
    fit, damping, refused = _fit(level, matrix), 1e-3, 0
    while refused < _MOST_REFUSALS:
        hessian = basis @ fit.hessian @ basis.T
        curvature = np.diag(hessian)
        ridge = damping * (curvature + 1e-9 * curvature.max() + 1e-12)
        step = np.linalg.solve(hessian + np.diag(ridge), -basis @ fit.gradient)
        half = np.zeros((d + 1, d + 1))
        half[:d] = (step @ basis).reshape(d, d + 1) / 2
        # Cayley's transform, which keeps rotations rotations.
        trial = matrix @ np.linalg.solve(np.eye(d + 1) - half, np.eye(d + 1) + half)
        tried = _fit(level, trial)
        if tried.cost > (1 - _LEAST_GAIN) * fit.cost:
            damping, refused = 10 * damping, refused + 1
        else:
            matrix, fit, damping, refused = trial, tried, damping / 5, 0
    return matrix


def _better(level: _Level, candidate: np.ndarray, matrix: np.ndarray) -> bool:
    scales = np.linalg.svd(candidate[:-1, :-1], compute_uv=False)
    low, high = _PLAUSIBLE
    plausible = low <= scales.min() and scales.max() <= high
    # Costs that differ by less are equal: each is the least of its own search.
    bound = (1 + _TIE) * _fit(level, matrix).cost
    return plausible and _fit(level, candidate).cost < bound
