"""Where the search for a linear alignment may begin.

All matrices are homogeneous ``[d + 1, d + 1]``, from fixed to moving points, mm, in
the coordinates that hang on the fixed image.
"""

import itertools

import numpy as np

from regnet_jax.io import Frame, Image, resample, to_world
from regnet_jax.registration.offsets import likely_shifts
from regnet_jax.registration.working import Working

# Voxels of the larger image on the grid of the search over all shifts: 8 mm and less
# for a chest.
_SEARCHED = {2: 2**12, 3: 2**16}
_SHIFTS = 3


def centres(fixed: Working, moving: Working) -> list[np.ndarray]:
    """The shifts between the centres of the grids and of the masses."""
    return [
        _shift(moving.frame.centre - fixed.frame.centre),
        _shift(_mass(moving)[0] - _mass(fixed)[0]),
    ]


def moments(fixed: Working, moving: Working) -> list[np.ndarray]:
    """The motions that lay centre and principal axes of the masses on each other.

    An axis has no front: all turns that are no reflections are given, and the shift
    without a turn.
    """
    (start, axes), (end, other) = _mass(fixed), _mass(moving)
    motions = [_shift(end - start)]
    for signs in itertools.product((1.0, -1.0), repeat=len(start)):
        turn = other @ np.diag(signs) @ axes.T
        if np.linalg.det(turn) > 0:
            matrix = _shift(end - turn @ start)
            matrix[:-1, :-1] = turn
            motions.append(matrix)
    return motions


def shifts(fixed: Working, moving: Working) -> list[np.ndarray]:
    """The shifts at which the overlapping parts of the two images fit best."""
    d = fixed.frame.ndim
    extents = [np.ptp(_corners(image.frame), axis=0) for image in (fixed, moving)]
    spacing = (max(map(np.prod, extents)) / _SEARCHED[d]) ** (1 / d)
    grids = [_upright(image.frame, spacing) for image in (fixed, moving)]
    arrays = []
    for image, grid in zip((fixed, moving), grids, strict=True):
        inside = Image(image.inside.astype(np.uint8), image.frame, "")
        mask = resample(inside, grid, interpolation="nearest").array > 0
        arrays += [resample(Image(image.array, image.frame, ""), grid).array, mask]
    offset = np.subtract(grids[1].origin, grids[0].origin)
    voxels = likely_shifts(*arrays, most=_SHIFTS)
    return [_shift(offset + spacing * voxel[::-1]) for voxel in voxels]


def _shift(vector) -> np.ndarray:
    matrix = np.eye(len(vector) + 1)
    matrix[:-1, -1] = vector
    return matrix


def _mass(image: Working) -> tuple[np.ndarray, np.ndarray]:
    """Centre ``[d]`` and principal axes ``[d, d]``, as columns, of the mass."""
    # Above the darkest value, since air in CT is negative.
    weights = (image.array - image.array[image.inside].min()) * image.inside
    weights = weights.ravel() / (weights.sum() or 1.0)
    index = np.indices(image.array.shape).reshape(image.array.ndim, -1).T
    points = to_world(image.frame, index)
    centre = weights @ points
    spread = (points - centre).T * weights @ (points - centre)
    return centre, np.linalg.eigh(spread)[1]


def _corners(frame: Frame) -> np.ndarray:
    """``[2**d, d]``: the corners of a grid's outermost voxels."""
    ends = [(-0.5, n - 0.5) for n in frame.shape]
    return to_world(frame, np.array(list(itertools.product(*ends))))


def _upright(frame: Frame, spacing: float) -> Frame:
    """The grid of identity direction that covers another one."""
    corners = _corners(frame)
    size = np.ceil(np.ptp(corners, axis=0) / spacing - 1e-6)
    size = np.maximum(size, 1).astype(int)
    origin = (corners.min(0) + corners.max(0) - spacing * (size - 1)) / 2
    return Frame(size[::-1], (spacing,) * frame.ndim, origin, np.eye(frame.ndim))
