"""Transforms as functions of many points, continued beyond their grids.

Outside of its grid a displacement field of ITK is zero, and so is a B-spline outside of
its domain. At the edge such a map jumps by the displacement there: an image that is
warped beyond the edge shows a stripe twice or lacks one, and points near it can have
two inverses. Here the map is continued without a jump, and inside it equals ITK's.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from regnet_jax.errors import InputError
from regnet_jax.spatial.frames import Frame, to_index, to_world
from regnet_jax.spatial.images import frame_of
from regnet_jax.spatial.transforms import (
    apply_affine,
    fit_affine,
    flatten,
    linear_matrix,
    sample_transform,
)

# Maps points ``[n, d]`` (mm, x first) to their images.
PointMap = Callable[[np.ndarray], np.ndarray]
# The same, and tells which points lay outside of a grid.
CheckedMap = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
# Of an index, for rounding.
_ROUNDING = 1e-6


class _Displacement(NamedTuple):
    """Vectors on a grid, interpolated by a B-spline."""

    frame: Frame
    vectors: np.ndarray  # [d, *frame.shape], mm, x first
    order: int  # of the B-spline
    margin: float  # from the outer vectors to the end of the domain, inside, in voxels


def continued_map(transform: sitk.Transform) -> CheckedMap:
    """Return a transform as a function of many points, continued beyond its grids.

    Args:
        transform: linear, displacement field, B-spline, or a composite of them.

    Returns:
        A function of points ``[n, d]`` (mm, x first): where the transform takes them,
        and ``[n]`` bool, which of them lay outside of the grid of one of its parts.

    Raises:
        InputError: if a part is of another kind.
    """
    parts = [_read_part(part) for part in flatten(transform)]

    def mapped(points):
        points = np.asarray(points, np.float64)
        outside = np.zeros(len(points), bool)
        for part in parts:
            if isinstance(part, _Displacement):
                points, left = _displaced(part, points)
                outside |= left
            else:
                points = apply_affine(part, points)
        return points, outside

    return mapped


def leaves_grid(transform: sitk.Transform, frame: Frame) -> bool:
    """Tell whether voxels of a grid may lie outside of a grid of a transform.

    Args:
        transform: as in ``continued_map``, of the frame's dimension.
        frame: the grid.

    Returns:
        False only if ITK's transform has no edge in the frame. A second field is not
        looked into: it counts as left.
    """
    ends = [(0, size - 1) for size in frame.shape]
    corners = to_world(frame, np.array(list(itertools.product(*ends))))
    parts = flatten(transform)
    bent = [number for number, part in enumerate(parts) if not part.IsLinear()]
    if len(bent) != 1:
        return bool(bent)
    # Linear maps keep the corners the extremes.
    for part in parts[: bent[0]]:
        corners = np.array([part.TransformPoint(corner) for corner in corners.tolist()])
    part = _read_part(parts[bent[0]])
    assert isinstance(part, _Displacement)
    return bool(_outside(part, to_index(part.frame, corners)).any())


def sampled_map(
    transform: sitk.Transform, frame: Frame, continuation=None
) -> tuple[PointMap, np.ndarray]:
    """Sample a transform on a grid, and continue it outside by a linear map.

    Inside, the affine map with a linearly interpolated residual equals the result of
    ITK. Outside, the residual of the edge is used. An inverse by iteration needs such a
    map, as it is smooth everywhere and fast.

    Args:
        transform: ``T``, any.
        frame: the grid that the transform is made for, where it is sampled.
        continuation: homogeneous ``[d + 1, d + 1]``, the linear map; None takes the
            fitted one. With that of ``linear_part`` and the grid of a field that is
            applied first the result is ``continued_map``.

    Returns:
        ``T``, from points ``[n, d]`` to points ``[n, d]`` (mm, x first), and the
        homogeneous linear map ``[d + 1, d + 1]`` that fits it best on the grid.

    Raises:
        InputError: if the transform is singular or not finite.
    """
    d = frame.ndim
    displacement = sample_transform(transform, frame)
    thin = tuple(slice(0, n, max(1, n // 16)) for n in frame.shape)
    points = to_world(frame, np.moveaxis(np.mgrid[thin], 0, -1))
    fitted = fit_affine(points, points + displacement[thin])
    linear = fitted if continuation is None else continuation
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
        return apply_affine(linear, x) + np.stack(moved, -1)

    return evaluate, fitted


def linear_part(transform: sitk.Transform) -> np.ndarray:
    """Return the product of the linear parts of a transform, ``[d + 1, d + 1]``.

    It is what a transform with displacement fields does where these are zero.
    """
    matrix = np.eye(transform.GetDimension() + 1)
    for part in flatten(transform):
        if part.IsLinear():
            matrix = linear_matrix(part) @ matrix
    return matrix


def _read_part(part: sitk.Transform) -> np.ndarray | _Displacement:
    """Return a homogeneous matrix ``[d + 1, d + 1]``, or vectors on a grid."""
    if part.IsLinear():
        return linear_matrix(part)
    if isinstance(part, sitk.DisplacementFieldTransform):
        image = part.GetDisplacementField()
        vectors = np.moveaxis(sitk.GetArrayFromImage(image), -1, 0)
        # A field of ITK reaches half a voxel beyond its outer vectors.
        return _Displacement(frame_of(image), vectors, 1, -0.5)
    if isinstance(part, sitk.BSplineTransform):
        images = part.GetCoefficientImages()
        vectors = np.stack([sitk.GetArrayFromImage(image) for image in images])
        order = part.GetOrder()
        return _Displacement(frame_of(images[0]), vectors, order, (order - 1) / 2)
    raise InputError(
        f"the transform has a part of the kind {part.GetName()}, which cannot be"
        " continued beyond its grid; convert it to a displacement image"
    )


def _displaced(part: _Displacement, points) -> tuple[np.ndarray, np.ndarray]:
    index = to_index(part.frame, points)
    low = max(part.margin, 0.0)
    nearest = np.clip(index, low, np.array(part.frame.shape) - 1 - low).T
    vectors = [
        ndimage.map_coordinates(
            component, nearest, float, order=part.order, prefilter=False, mode="nearest"
        )
        for component in part.vectors
    ]
    return points + np.stack(vectors, -1), _outside(part, index)


def _outside(part: _Displacement, index) -> np.ndarray:
    """``[n]`` bool of indices ``[n, d]``."""
    low = part.margin - _ROUNDING
    high = np.array(part.frame.shape) - 1 - low
    return ((index < low) | (index > high)).any(-1)
