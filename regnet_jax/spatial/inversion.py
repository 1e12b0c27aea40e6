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
"""

import functools
from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from tqdm import tqdm

from regnet_jax.errors import InputError
from regnet_jax.spatial.frames import Frame, to_index, to_world
from regnet_jax.spatial.transforms import field_frame, map_points, sample_transform

# Of the error |T(x) - y|: mm for points, voxels of the fixed grid for grids.
POINT_TOLERANCE = 1e-3
VOXEL_TOLERANCE = 0.01
# Most points need a few simple steps. The others get Newton steps, of 2 d + 1
# evaluations each.
_SIMPLE_STEPS = 30
_NEWTON_STEPS = 50
# Points that are solved at a time, to bound the memory.
_CHUNK = 1 << 19

PointMap = Callable[[np.ndarray], np.ndarray]


def invert_points(transform: sitk.Transform, points) -> tuple[np.ndarray, np.ndarray]:
    """Find the points that a transform maps to given points.

    Args:
        transform: ``T``, fixed to moving.
        points: ``[n, d]`` world points (mm) of the moving image.

    Returns:
        Points ``x`` ``[n, d]`` of the fixed image, and the errors
        ``|T(x) - point|`` ``[n]``, mm. Above ``POINT_TOLERANCE`` no inverse
        was found: the field folds there, or the point is beyond its edge.

    Raises:
        InputError: if the transform is singular.
    """
    points = np.asarray(points, np.float64)
    frame = field_frame(transform)
    exact = functools.partial(map_points, transform)
    if frame is None:
        # Its linear part as it is about the points, mm.
        around = np.vstack([points.min(0) - 50, points.max(0) + 50])
        corners = np.stack(np.meshgrid(*around.T), -1).reshape(-1, points.shape[1])
        linear, reach = _fit_affine(corners, exact(corners)), 0.5
        start = _solve_affine(linear, points)
    else:
        continued, linear = _continued(transform, frame)
        start, reach = _solve_affine(linear, points), min(frame.spacing) / 2
        start, _ = _solve(continued, points, start, linear, POINT_TOLERANCE / 2, reach)
    return _solve(exact, points, start, linear, POINT_TOLERANCE, reach)


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
        ``|T(y + v(y)) - y|`` ``[*target.shape]``, mm, of the continued ``T``.
        Above ``VOXEL_TOLERANCE`` times the fixed spacing no inverse was found.

    Raises:
        InputError: if the transform is singular.
    """
    continued, linear = _continued(transform, fixed)
    count, d = int(np.prod(target.shape)), target.ndim
    vectors, errors = np.empty((count, d)), np.empty(count)
    voxel = min(fixed.spacing)
    limits = {"tolerance": VOXEL_TOLERANCE * voxel, "reach": voxel / 2}
    starts = range(0, count, _CHUNK)
    for begin in tqdm(starts, "inverting", disable=not progress):
        chunk = slice(begin, min(begin + _CHUNK, count))
        index = np.unravel_index(np.arange(chunk.start, chunk.stop), target.shape)
        y = to_world(target, np.stack(index, -1))
        start = _solve_affine(linear, y)
        x, errors[chunk] = _solve(continued, y, start, linear, **limits)
        vectors[chunk] = x - y
    return vectors.reshape(*target.shape, d), errors.reshape(target.shape)


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


def _continued(transform: sitk.Transform, frame: Frame) -> tuple[PointMap, np.ndarray]:
    """Return the map on a grid, continued outside, and its linear part.

    Inside, the affine map with a linearly interpolated residual equals the result of
    ITK. Outside, the residual of the edge is used.
    """
    d = frame.ndim
    displacement = sample_transform(transform, frame)
    thin = tuple(slice(0, n, max(1, n // 16)) for n in frame.shape)
    points = to_world(frame, np.moveaxis(np.mgrid[thin], 0, -1))
    linear = _fit_affine(points, points + displacement[thin])
    # The displacement by the affine map is a sum of one term for each axis.
    change = linear[:d, :d] - np.eye(d)
    slopes = change @ frame.matrix
    offsets = change @ frame.origin + linear[:d, d]
    residual = np.moveaxis(displacement, -1, 0).astype(np.float32)
    axes = np.ogrid[tuple(slice(n) for n in frame.shape)]
    for component, slope, offset in zip(residual, slopes, offsets, strict=True):
        component -= sum(s * axis for s, axis in zip(slope, axes, strict=True)) + offset

    def evaluate(x):
        index = to_index(frame, x).T
        moved = [
            ndimage.map_coordinates(component, index, float, order=1, mode="nearest")
            for component in residual
        ]
        return _affine(linear, x) + np.stack(moved, -1)

    return evaluate, linear


def _fit_affine(points, mapped) -> np.ndarray:
    """Fit a homogeneous matrix ``[d + 1, d + 1]`` to a map by least squares."""
    d = points.shape[-1]
    points, mapped = points.reshape(-1, d), mapped.reshape(-1, d)
    centre = points.mean(0)
    # Where a grid has one slice the map along its normal is taken as rigid.
    basis = np.hstack([points - centre, np.ones((len(points), 1))])
    offset = mapped - points
    solution = np.linalg.lstsq(basis, offset, rcond=1e-9)[0]
    matrix = np.eye(d + 1)
    matrix[:d, :d] += solution[:d].T
    matrix[:d, d] = centre + solution[d] - matrix[:d, :d] @ centre
    if abs(np.linalg.det(matrix)) < 1e-6:
        raise InputError("the transform flattens space; give one that has an inverse")
    return matrix


def _affine(matrix, points) -> np.ndarray:
    return points @ matrix[:-1, :-1].T + matrix[:-1, -1]


def _solve_affine(matrix, points) -> np.ndarray:
    return _affine(np.linalg.inv(matrix), points)
