"""Frames: where the voxels of a grid lie in the world, in NumPy alone.

Indices and shapes are in array order (z, y, x) or (y, x); points, spacings,
origins and directions are in millimetres and ITK's order (x, y, z) or (x, y).
Everything is float64.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from regnet_jax.errors import InputError, shown

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Frame:
    """A sampling grid: its number of voxels and its place in the world.

    Attributes:
        shape: voxels per axis, array order (z, y, x) or (y, x).
        spacing: mm between voxel centres, (x, y, z) order.
        origin: mm, (x, y, z), centre of voxel zero.
        direction: d x d cosines in ITK's convention, column k is the direction of
            axis k of (x, y, z); given flat row-major or nested, kept flat.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]

    if TYPE_CHECKING:
        # Any sequences of numbers are taken, and kept as tuples.
        def __init__(
            self,
            shape: ArrayLike,
            spacing: ArrayLike,
            origin: ArrayLike,
            direction: ArrayLike,
        ) -> None: ...

    def __post_init__(self):
        try:
            given = tuple(self.shape)
            values = {
                "shape": tuple(int(n) for n in given),
                "spacing": tuple(float(s) for s in self.spacing),
                "origin": tuple(float(p) for p in self.origin),
                "direction": tuple(np.asarray(self.direction, float).ravel().tolist()),
            }
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"frame: {' '.join(str(error).split())}; give a sequence of numbers"
                " for each of shape, spacing, origin and direction"
            ) from None
        if values["shape"] != given:
            raise InputError(f"frame: its shape is {shown(given)}; give whole numbers")
        lengths = [len(value) for value in values.values()]
        d = lengths[0]
        if lengths != [d, d, d, d * d]:
            raise InputError(
                f"frame: its shape has {d} axes, its spacing {lengths[1]}, its origin"
                f" {lengths[2]} and its direction {lengths[3]} numbers; give {d}, {d}"
                f" and {d} x {d}"
            )
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def ndim(self) -> int:
        """Number of axes, 2 or 3."""
        return len(self.shape)

    @cached_property
    def matrix(self) -> np.ndarray:
        """``[d, d]``: voxel offset in array order to world offset in mm."""
        return (cosines(self) * np.asarray(self.spacing))[:, ::-1]

    @property
    def centre(self) -> np.ndarray:
        """``[d]``: the world point (mm) in the middle of the grid."""
        return to_world(self, (np.asarray(self.shape) - 1) / 2)


def cosines(frame: Frame) -> np.ndarray:
    """Return the direction as a ``[d, d]`` matrix, ITK's order."""
    return np.asarray(frame.direction).reshape(frame.ndim, frame.ndim)


def straighten(frame: Frame) -> tuple[Frame, float]:
    """Replace the direction of a frame by the nearest rotation or reflection.

    Its centre and spacing stay.

    Args:
        frame: its direction is finite.

    Returns:
        The frame, and how far the voxel that moves most is moved, in voxels.
    """
    left, _, right = np.linalg.svd(cosines(frame))
    straight = dataclasses.replace(frame, direction=left @ right)
    origin = np.asarray(frame.origin) + frame.centre - straight.centre
    straight = dataclasses.replace(straight, origin=tuple(origin))
    return straight, largest_offset(straight, frame)


def _corners(frame: Frame) -> np.ndarray:
    """Return the indices of the voxels at the corners, ``[2^d, d]``."""
    return np.array(list(itertools.product(*((0, n - 1) for n in frame.shape))))


def corners_apart(frame: Frame, other: Frame) -> float:
    """Return how far a corner of a frame is from the nearest of another, mm at most."""
    one, two = (to_world(each, _corners(each)) for each in (frame, other))
    return float(np.linalg.norm(one[:, None] - two, axis=-1).min(1).max())


def largest_offset(frame: Frame, other: Frame) -> float:
    """Return the largest distance, in voxels, between two frames of one shape."""
    corners = _corners(frame)
    return float(np.abs(to_index(frame, to_world(other, corners)) - corners).max())


def to_world(frame: Frame, index) -> np.ndarray:
    """Convert indices ``[..., d]`` (z first) to points ``[..., d]`` (mm, x first)."""
    return displacement_to_world(frame, index) + np.asarray(frame.origin)


def to_index(frame: Frame, point) -> np.ndarray:
    """Convert points ``[..., d]`` (mm, x first) to indices ``[..., d]`` (z first)."""
    offset = np.asarray(point, np.float64) - np.asarray(frame.origin)
    return displacement_from_world(frame, offset)


def is_outside(frame: Frame, index) -> np.ndarray:
    """Tell which indices lie outside of the voxels of a grid.

    Args:
        frame: the grid; its voxels reach half a voxel beyond their centres.
        index: ``[..., d]``, array order.

    Returns:
        ``[...]`` bool.
    """
    index = np.asarray(index)
    outside = (index < -0.5) | (index > np.asarray(frame.shape) - 0.5)
    return np.any(outside, axis=-1)


def displacement_to_world(frame: Frame, u) -> np.ndarray:
    """Convert voxel vectors ``[..., d]`` (z first) to physical vectors (mm, x first).

    Physical vectors include the direction cosines, as in ITK.
    """
    return np.asarray(u, np.float64) @ frame.matrix.T


def displacement_from_world(frame: Frame, vectors) -> np.ndarray:
    """Convert physical vectors ``[..., d]`` (mm, x first) to voxels (z first)."""
    return np.asarray(vectors, np.float64) @ np.linalg.inv(frame.matrix).T


def canonical_axes(frame: Frame) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Find the permutation and flips that bring the direction closest to identity.

    Args:
        frame: any.

    Returns:
        ``(permutation, flips)`` for array axes: transpose by ``permutation``,
        then reverse each axis in ``flips``. Of equally close candidates the
        choice depends on the resulting direction alone, so that every storage
        order of the same voxels ends in the same one.
    """
    d, direction = frame.ndim, cosines(frame)

    def closeness(candidate):
        order, signs = candidate
        result = np.round(direction[:, order] * np.asarray(signs), 6)
        return np.trace(result), tuple(result.ravel())

    order, signs = max(
        itertools.product(
            map(list, itertools.permutations(range(d))),
            itertools.product((1.0, -1.0), repeat=d),
        ),
        key=closeness,
    )
    # From (x, y, z) order to array order, which is the reverse.
    permutation = tuple(d - 1 - order[d - 1 - k] for k in range(d))
    flips = tuple(k for k in range(d) if signs[d - 1 - k] < 0)
    return permutation, flips


def canonical_frame(frame: Frame) -> Frame:
    """Return the frame of the same voxels in the order of ``canonical_axes``."""
    permutation, flips = canonical_axes(frame)
    d = frame.ndim
    order = [d - 1 - permutation[d - 1 - k] for k in range(d)]
    signs = np.asarray([-1.0 if d - 1 - k in flips else 1.0 for k in range(d)])
    # The old index of the new voxel zero: the far end of each flipped axis.
    first = np.zeros(d)
    for k in flips:
        first[permutation[k]] = frame.shape[permutation[k]] - 1
    return Frame(
        shape=tuple(frame.shape[k] for k in permutation),
        spacing=tuple(frame.spacing[k] for k in order),
        origin=tuple(to_world(frame, first)),
        direction=cosines(frame)[:, order] * signs,
    )


def canonicalise(array: np.ndarray, frame: Frame) -> tuple[np.ndarray, Frame]:
    """Reorder voxels so that the direction is the closest to identity.

    No voxel moves in the world and none is interpolated.

    Args:
        array: ``[*frame.shape]``, with any trailing channel axes.
        frame: where the voxels lie.

    Returns:
        The reordered array and its frame.
    """
    permutation, flips = canonical_axes(frame)
    channels = range(frame.ndim, array.ndim)
    array = np.flip(array.transpose(*permutation, *channels), flips)
    return np.ascontiguousarray(array), canonical_frame(frame)


def isotropic_frame(
    frame: Frame, spacing: float, shape: tuple[int, ...] | None = None
) -> Frame:
    """Return an isotropic grid with the direction and the centre of a frame.

    The grid of a canonical frame does not depend on how its voxels were stored before.

    Args:
        frame: that is covered.
        spacing: mm.
        shape: of the grid; None covers the extent of ``frame``.

    Returns:
        The grid.
    """
    if shape is None:
        extent = np.asarray(frame.shape) * np.asarray(frame.spacing)[::-1]
        # The tolerance keeps rounding from adding a voxel.
        shape = tuple(np.maximum(np.ceil(extent / spacing - 1e-6), 1).astype(int))
    half = cosines(frame) @ (spacing * (np.asarray(shape) - 1) / 2)[::-1]
    return Frame(
        shape=tuple(shape),
        spacing=(spacing,) * frame.ndim,
        origin=tuple(frame.centre - half),
        direction=frame.direction,
    )


def split_frame(frame: Frame, voxels: int = 1 << 22) -> Iterator[tuple[slice, Frame]]:
    """Split a grid along its first axis, to bound the memory of what is computed on it.

    Args:
        frame: the grid.
        voxels: of a part, about.

    Yields:
        The indices of a part along the first axis, and its grid.
    """
    depth, *others = frame.shape
    thickness = max(1, voxels // max(1, int(np.prod(others))))
    for first in range(0, depth, thickness):
        last = min(first + thickness, depth)
        corner = to_world(frame, (first, *(0,) * len(others)))
        shape = (last - first, *others)
        part = dataclasses.replace(frame, shape=shape, origin=tuple(corner))
        yield slice(first, last), part


def rebase(frame: Frame, reference: Frame) -> tuple[Frame, np.ndarray]:
    """Move a frame to coordinates in which a reference has no pose.

    In the new coordinates the reference has identity direction and its centre at the
    origin, so that results do not depend on the pose of two images in the world.

    Args:
        frame: that is moved.
        reference: that defines the coordinates.

    Returns:
        The frame in the new coordinates and the homogeneous matrix
        ``[d + 1, d + 1]`` that maps new points to world points (mm). The
        matrix is rigid, with a reflection where the direction has one.
    """
    d = frame.ndim
    back = np.eye(d + 1)
    back[:d, :d] = cosines(reference)
    back[:d, d] = reference.centre
    forth = np.linalg.inv(back[:d, :d])
    moved = Frame(
        shape=frame.shape,
        spacing=frame.spacing,
        origin=forth @ (np.asarray(frame.origin) - reference.centre),
        direction=forth @ cosines(frame),
    )
    return moved, back
