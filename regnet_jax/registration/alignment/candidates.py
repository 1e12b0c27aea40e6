"""Candidates for the start of the linear alignment.

They come from the centres of the images, from their centres of mass and principal axes,
and from a search over all shifts by whole voxels. A handful of Fourier transforms gives
the correlation of two masked images over their overlap at every shift (D. Padfield,
"Masked object registration in the Fourier domain", IEEE Transactions on Image
Processing 21(5), 2012). A high correlation in a small overlap means little, so shifts
are ranked by the information that a linear relation explains: ``-n log(1 - r**2)``,
where ``n`` voxels overlap.
"""

import itertools
from typing import cast

import numpy as np
from scipy import fft, ndimage

from regnet_jax.registration.alignment.gauss_newton import (
    LEAST_OVERLAP,
    LEAST_UNEXPLAINED,
)
from regnet_jax.registration.alignment.pyramid import WorkingImage
from regnet_jax.spatial import Frame, Image, resample, to_world

# Peaks closer than `_APART` voxels count as one; those below `_WORTH` times the best
# are ignored.
_APART = 3
_WORTH = 0.4


def masked_correlation(fixed, fixed_mask, moving, moving_mask):
    """Correlate the overlap of two images at every shift by whole voxels.

    ``skimage.registration.phase_cross_correlation`` implements the same paper, but does
    not return the correlation of every shift, which the ranking needs.

    Args:
        fixed: ``[*shape]``.
        fixed_mask: bool, of the same shape; voxels outside do not count.
        moving: ``[*other]``, of as many axes.
        moving_mask: bool, ``[*other]``.

    Returns:
        The correlation and the number of voxels that overlap, each
        ``[*shape + other - 1]``. At index ``k`` voxel ``i`` of the fixed image lies
        on voxel ``i + k - (shape - 1)`` of the moving image.
    """
    shape = np.add(fixed.shape, moving.shape) - 1
    padded = [fft.next_fast_len(int(n), real=True) for n in shape]
    flipped = (slice(None, None, -1),) * fixed.ndim
    images = [
        _powers(fixed[flipped], fixed_mask[flipped]),
        _powers(moving, moving_mask),
    ]
    first, second = (
        [cast(np.ndarray, fft.rfftn(p, padded)) for p in image] for image in images
    )
    inside = tuple(slice(int(n)) for n in shape)

    def total(p: int, q: int):
        """Sum ``fixed**p * moving**q`` over the overlap."""
        return cast(np.ndarray, fft.irfftn(first[p] * second[q], padded))[inside]

    count = np.rint(total(0, 0))
    n = np.maximum(count, 1.0)
    means = total(1, 0) / n, total(0, 1) / n
    # Values have unit variance: a far smaller one is that of a constant, with rounding.
    variances = [
        np.maximum(total(*powers) / n - mean**2, 1e-6)
        for powers, mean in zip(((2, 0), (0, 2)), means, strict=True)
    ]
    covariance = total(1, 1) / n - means[0] * means[1]
    return np.clip(covariance / np.sqrt(variances[0] * variances[1]), -1, 1), count


def likely_shifts(fixed, fixed_mask, moving, moving_mask, *, most: int) -> np.ndarray:
    """Find the shifts with the largest explained information, best first.

    Args:
        fixed: as for ``masked_correlation``.
        fixed_mask: the same.
        moving: the same, on a grid of the same voxels.
        moving_mask: the same.
        most: largest number of shifts.

    Returns:
        ``[n, d]`` whole voxels, at least one shift: voxel ``x`` of the fixed image
        corresponds to voxel ``x + shift`` of the moving image.
    """
    r, count = masked_correlation(fixed, fixed_mask, moving, moving_mask)
    gain = -count * np.log(np.maximum(1 - r**2, LEAST_UNEXPLAINED))
    gain[count < LEAST_OVERLAP * min(fixed_mask.sum(), moving_mask.sum())] = 0.0
    peaks = (gain == ndimage.maximum_filter(gain, 2 * _APART + 1)) & (
        gain >= _WORTH * gain.max()
    )
    places = np.argwhere(peaks)
    best = places[np.argsort(-gain[peaks], kind="stable")[:most]]
    return best - (np.array(fixed.shape) - 1)


def _powers(image, mask) -> list[np.ndarray]:
    """Return the mask and, inside it, the standardised values and their squares."""
    inside = image[mask]
    values = np.where(mask, (image - inside.mean()) / (inside.std() or 1.0), 0.0)
    return [mask.astype(float), values, values**2]


# Voxels of the larger image in the search over all shifts; those of a chest are at most
# 8 mm wide.
_SEARCHED = {2: 2**12, 3: 2**16}
_SHIFTS = 3


def centre_shifts(fixed: WorkingImage, moving: WorkingImage) -> list[np.ndarray]:
    """Return the shifts between the grid centres and between the centres of mass."""
    return [
        _shift(moving.frame.centre - fixed.frame.centre),
        _shift(_mass(moving)[0] - _mass(fixed)[0]),
    ]


def axis_motions(fixed: WorkingImage, moving: WorkingImage) -> list[np.ndarray]:
    """Return the motions that align the centres of mass and the principal axes.

    Principal axes have no sign, so all proper rotations among the sign flips are
    returned, and the pure translation.
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


def correlation_shifts(fixed: WorkingImage, moving: WorkingImage) -> list[np.ndarray]:
    """Return the shifts at which the overlap of the two images fits best."""
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


def _mass(image: WorkingImage) -> tuple[np.ndarray, np.ndarray]:
    """Return the centre of mass ``[d]`` and the principal axes as columns."""
    # Above the darkest value, since air in CT is negative.
    weights = (image.array - image.array[image.inside].min()) * image.inside
    weights = weights / (weights.sum() or 1.0)
    axes = list(range(weights.ndim))

    def mean(*factors):
        """Return the weighted mean of a product of functions of one axis each."""
        return np.einsum(weights, axes, *itertools.chain(*factors), [])

    index = [np.arange(n, dtype=float) for n in weights.shape]
    centre = np.array([mean((x, [k])) for k, x in enumerate(index)])
    away = [(x - c, [k]) for k, (x, c) in enumerate(zip(index, centre, strict=True))]
    spread = np.array([[mean(one, other) for one in away] for other in away])
    matrix = image.frame.matrix
    return to_world(image.frame, centre), np.linalg.eigh(matrix @ spread @ matrix.T)[1]


def _corners(frame: Frame) -> np.ndarray:
    """Return the corners of a grid's outermost voxels, ``[2**d, d]``, mm."""
    ends = [(-0.5, n - 0.5) for n in frame.shape]
    return to_world(frame, np.array(list(itertools.product(*ends))))


def _upright(frame: Frame, spacing: float) -> Frame:
    """Return the grid of identity direction that covers another one."""
    corners = _corners(frame)
    size = np.ceil(np.ptp(corners, axis=0) / spacing - 1e-6)
    size = np.maximum(size, 1).astype(int)
    origin = (corners.min(0) + corners.max(0) - spacing * (size - 1)) / 2
    return Frame(size[::-1], (spacing,) * frame.ndim, origin, np.eye(frame.ndim))
