"""The inverse of a transform, at points and on grids.

ITK inverts a composite only if every part knows its inverse, which a displacement
field from a file does not. So ``T(x) = y`` is solved for every point by the iteration
``x <- x - s A^-1 (T(x) - y)``, with ``A`` the linear part of ``T`` and a step ``s``
that halves where the error grows. With ``s = 1`` and no linear part this is the
fixed-point iteration of Chen et al. (Medical Physics 35(1), 2008), which needs a
contraction; with a smaller step it also converges where ``T`` expands. The points
that remain are solved by Newton's method.

Outside of its field a transform of ITK jumps to its linear part, so that points near
the edge can have two solutions. Here the field is continued by its edge.

A composite of several fields is inverted part by part, each on a grid of its own.
"""

import functools
import logging

import numpy as np
import SimpleITK as sitk
from tqdm import tqdm

from regnet_jax.errors import InputError
from regnet_jax.spatial.frames import Frame, displacement_from_world, to_world
from regnet_jax.spatial.images import to_sitk
from regnet_jax.spatial.point_maps import PointMap, linear_part, sampled_map
from regnet_jax.spatial.transforms import (
    SINGULAR,
    affine_transform,
    apply_affine,
    composite,
    field_frame,
    fit_affine,
    linear_matrix,
    map_points,
    sample_transform,
    solve_affine,
)

_LOG = logging.getLogger(__name__)

# Of the error |T(x) - y|: mm for points, voxels of the fixed grid for grids. Points of
# a displacement field have the smaller of both.
POINT_TOLERANCE = 1e-3
VOXEL_TOLERANCE = 0.01
# An inverse with a larger error, in voxels of the fixed grid, counts as missing.
LOST = 0.5
# Between knots a cubic B-spline is nearly linear in a sixth of their distance.
_VOXELS_PER_KNOT = 6
# The grid of an inverse has at most so many times the voxels of the transform's own.
_LARGEST_GROWTH = 64
# Most points need a few simple steps. The others get Newton steps, of 2 d + 1
# evaluations each.
_SIMPLE_STEPS = 30
_NEWTON_STEPS = 50
# Points that are solved at a time, to bound the memory.
_CHUNK = 1 << 19


def point_tolerance(transform: sitk.Transform) -> float:
    """Return the error of an inverse at points, mm, above which there is none."""
    frame = field_frame(transform)
    if frame is None:
        return POINT_TOLERANCE
    return min(POINT_TOLERANCE, VOXEL_TOLERANCE * min(frame.spacing))


def invert_points(transform: sitk.Transform, points) -> tuple[np.ndarray, np.ndarray]:
    """Find the points that a transform maps to given points.

    Args:
        transform: ``T``, fixed to moving.
        points: ``[n, d]`` world points (mm) of the moving image.

    Returns:
        Points ``x`` ``[n, d]`` of the fixed image, and the errors
        ``|T(x) - point|`` ``[n]``, mm. Above ``point_tolerance`` no inverse
        was found: the field folds there, or the point is beyond its edge.

    Raises:
        InputError: if the transform is singular.
    """
    points = np.asarray(points, np.float64)
    frame, tolerance = field_frame(transform), point_tolerance(transform)
    exact = functools.partial(map_points, transform)
    if frame is None:
        # Its linear part as it is about the points, mm.
        around = np.vstack([points.min(0) - 50, points.max(0) + 50])
        corners = np.stack(np.meshgrid(*around.T), -1).reshape(-1, points.shape[1])
        linear, reach = fit_affine(corners, exact(corners)), 0.5
        start = solve_affine(linear, points)
    else:
        known, linear = sampled_map(transform, frame)
        start, reach = solve_affine(linear, points), min(frame.spacing) / 2
        start, _ = _solve(known, points, start, linear, tolerance / 2, reach)
    return _solve(exact, points, start, linear, tolerance, reach)


def invert_on_grid(
    transform: sitk.Transform, fixed: Frame, target: Frame, *, progress: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the displacement of the inverse of a transform, at the voxels of a grid.

    Args:
        transform: ``T``, fixed to moving.
        fixed: the grid that the transform is made for, where it is sampled.
        target: the grid of the result, in the moving image's world.
        progress: show a bar.

    Returns:
        Vectors ``v`` ``[*target.shape, d]``, mm, x first, and the errors
        ``|T(y + v(y)) - y|`` ``[*target.shape]``, mm, of ``T`` as it is continued
        beyond the grid by the displacement of its edge.
        Above ``VOXEL_TOLERANCE`` times the fixed spacing no inverse was found.

    Raises:
        InputError: if the transform is singular.
    """
    known, linear = sampled_map(transform, fixed, linear_part(transform))
    return _invert_map(known, linear, min(fixed.spacing), target, progress)


def _invert_map(
    known: PointMap, linear, voxel: float, target: Frame, progress: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Invert a map from ``sampled_map`` of a grid of that voxel size."""
    count, d = int(np.prod(target.shape)), target.ndim
    vectors, errors = np.empty((count, d)), np.empty(count)
    limits = {"tolerance": VOXEL_TOLERANCE * voxel, "reach": voxel / 2}
    starts = range(0, count, _CHUNK)
    for begin in tqdm(starts, "inverting", disable=not progress):
        chunk = slice(begin, min(begin + _CHUNK, count))
        index = np.unravel_index(np.arange(chunk.start, chunk.stop), target.shape)
        y = to_world(target, np.stack(index, -1))
        start = solve_affine(linear, y)
        x, errors[chunk] = _solve(known, y, start, linear, **limits)
        vectors[chunk] = x - y
    return vectors.reshape(*target.shape, d), errors.reshape(target.shape)


def invert_onto(
    transform: sitk.Transform,
    fixed: Frame,
    target: Frame,
    affine=None,
    *,
    progress: bool = False,
) -> sitk.Transform:
    """Return the inverse of a transform, with a displacement field on a given grid.

    Args:
        transform: ``T``, fixed to moving.
        fixed: the grid that the transform is made for, where it is sampled.
        target: the grid of the field, usually that of the moving image.
        affine: homogeneous ``[d + 1, d + 1]``, whose inverse is used outside of
            ``target``; None takes the linear part of the transform.
        progress: show a bar.

    Returns:
        The inverse. Where the transform folds it has none, and the closest point that
        was found is used, with a warning.

    Raises:
        InputError: if the transform is singular.
    """
    known, linear = sampled_map(transform, fixed)
    affine = linear if affine is None else affine
    voxel = min(fixed.spacing)
    vectors, errors = _invert_map(known, linear, voxel, target, progress)
    if lost := int((errors > LOST * voxel).sum()):
        _LOG.warning(
            "there is no inverse at %d of %d voxels, where the transform folds; the"
            " closest points are used there",
            lost,
            errors.size,
        )
    points = to_world(target, np.moveaxis(np.indices(target.shape), 0, -1))
    residual = apply_affine(affine, points + vectors) - points
    return composite(target, residual, np.linalg.inv(affine))


def invert_transform(
    transform: sitk.Transform, *, progress: bool = False
) -> tuple[sitk.Transform, int]:
    """Return the inverse of a transform as a transform.

    Linear parts are inverted exactly. A displacement field or B-spline is inverted at
    the voxels of a grid as fine as its own that covers all to which it maps, and
    interpolated linearly between them; outside of that grid nothing is moved, as ITK
    does outside of the field itself.

    Args:
        transform: linear, a displacement field, a B-spline, or a composite of them.
        progress: show a bar.

    Returns:
        The inverse, and the number of voxels at which there is none, because the
        transform folds; the closest point that was found is used there.

    Raises:
        InputError: if a part is singular or of another kind.
    """
    if transform.IsLinear():
        matrix = linear_matrix(transform)
        if abs(np.linalg.det(matrix)) < SINGULAR:
            raise InputError(
                "the linear transform is singular; give one that has an inverse"
            )
        return affine_transform(np.linalg.inv(matrix)), 0
    if isinstance(transform, sitk.CompositeTransform):
        # ITK applies the transform that was added last first.
        parts = [
            invert_transform(transform.GetNthTransform(n), progress=progress)
            for n in reversed(range(transform.GetNumberOfTransforms()))
        ]
        inverses, lost = zip(*parts, strict=True)
        return sitk.CompositeTransform(list(inverses)), sum(lost)
    frame = field_frame(transform) or _spline_frame(transform)
    target = _image_of(transform, frame)
    vectors, errors = invert_on_grid(transform, frame, target, progress=progress)
    lost = int((errors > LOST * min(frame.spacing)).sum())
    return sitk.DisplacementFieldTransform(to_sitk(vectors, target)), lost


def _spline_frame(transform: sitk.Transform) -> Frame:
    """Return a grid on the domain of a B-spline, with several voxels to a knot."""
    if not isinstance(transform, sitk.BSplineTransform):
        raise InputError(
            f"the inverse of a {transform.GetName()} is not known; convert it to a"
            " displacement image, or give its inverse"
        )
    steps = _VOXELS_PER_KNOT * np.array(transform.GetTransformDomainMeshSize())
    extent = np.array(transform.GetTransformDomainPhysicalDimensions())
    direction = np.reshape(transform.GetTransformDomainDirection(), (len(steps),) * 2)
    # At the very edge rounding may place a voxel outside of the domain.
    inset = 1e-6 * extent
    return Frame(
        shape=(steps + 1)[::-1],
        spacing=(extent - 2 * inset) / steps,
        origin=np.array(transform.GetTransformDomainOrigin()) + direction @ inset,
        direction=direction,
    )


def _image_of(transform: sitk.Transform, frame: Frame) -> Frame:
    """Return the grid with the voxels of a frame that covers where they are mapped."""
    moved = displacement_from_world(frame, sample_transform(transform, frame))
    axes = np.ogrid[tuple(slice(n) for n in frame.shape)]
    ends = []
    for component, axis in zip(np.moveaxis(moved, -1, 0), axes, strict=True):
        index = component + axis
        ends.append((np.floor(index.min()), np.ceil(index.max())))
    first, last = np.array(ends).T
    shape = (last - first + 1).astype(int)
    if np.prod(shape, dtype=float) > _LARGEST_GROWTH * np.prod(frame.shape):
        raise InputError(
            f"the transform scatters its {frame.shape[::-1]} voxels over"
            f" {tuple(shape[::-1].tolist())}; check it, or give its inverse"
        )
    return Frame(
        shape=shape,
        spacing=frame.spacing,
        origin=to_world(frame, first),
        direction=frame.direction,
    )


def _solve(
    mapped: PointMap, targets, start, linear, tolerance: float, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """Solve ``mapped(x) = targets`` for ``x``; return it and the remaining error."""
    x = start.copy()
    residual = mapped(x) - targets
    error = np.linalg.norm(residual, axis=1)
    back = np.linalg.inv(linear[:-1, :-1])
    for iteration in range(_SIMPLE_STEPS + _NEWTON_STEPS):
        active = np.flatnonzero(error > tolerance)
        if not active.size:
            break
        if iteration in (0, _SIMPLE_STEPS):
            step = np.ones(len(x))
        if iteration >= _SIMPLE_STEPS:
            back = np.linalg.pinv(_jacobian(mapped, x[active], reach))
        change = (back * residual[active, None]).sum(-1)
        trial = x[active] - step[active, None] * change
        tried = mapped(trial) - targets[active]
        length = np.linalg.norm(tried, axis=1)
        better = length < error[active]
        kept = active[better]
        x[kept], residual[kept] = trial[better], tried[better]
        error[kept] = length[better]
        step[active] = np.minimum(step[active] * np.where(better, 1.5, 0.5), 1.0)
    return x, error


def _jacobian(mapped: PointMap, x, reach: float) -> np.ndarray:
    """``[n, d, d]`` derivatives of a map by differences over twice ``reach`` (mm)."""
    offsets = reach * np.eye(x.shape[1])
    columns = [(mapped(x + o) - mapped(x - o)) / (2 * reach) for o in offsets]
    return np.stack(columns, -1)
