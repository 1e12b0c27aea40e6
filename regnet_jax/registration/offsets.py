"""Shifts at which two images fit where they overlap, over all shifts at once.

The correlation of the overlapping parts of two masked images, at every shift by whole
voxels, takes a handful of Fourier transforms (D. Padfield, "Masked object registration
in the Fourier domain", IEEE Transactions on Image Processing 21(5), 2012). A high
correlation in a small overlap means little, so shifts are ranked by how much a linear
relation explains in all: ``-n log(1 - r**2)`` of the ``n`` voxels that overlap.
"""

import numpy as np
from scipy import fft, ndimage

# Of the voxels of the smaller image, at least this share has to overlap.
_LEAST_OVERLAP = 0.15
# What is left unexplained counts as at least this much, so that a perfect fit of a
# small part is no better than a good one of a large part.
_UNEXPLAINED = 0.02
# Peaks closer than this many voxels are one, and one much lower than the best is none.
_APART = 3
_WORTH = 0.4


def masked_correlation(fixed, fixed_mask, moving, moving_mask):
    """Correlation of what overlaps, at every shift.

    Args:
        fixed: ``[*shape]``.
        fixed_mask: bool, of the same shape, where it counts.
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
    first, second = ([fft.rfftn(p, padded) for p in image] for image in images)
    inside = tuple(slice(int(n)) for n in shape)

    def total(p: int, q: int):
        """Sum over the overlap of the fixed values to the p times the moving to q."""
        return fft.irfftn(first[p] * second[q], padded)[inside]

    count = np.rint(total(0, 0))
    n = np.maximum(count, 1.0)
    means = total(1, 0) / n, total(0, 1) / n
    # Values have unit variance: what is far below is a constant part and rounding.
    variances = [
        np.maximum(total(*powers) / n - mean**2, 1e-6)
        for powers, mean in zip(((2, 0), (0, 2)), means, strict=True)
    ]
    covariance = total(1, 1) / n - means[0] * means[1]
    return np.clip(covariance / np.sqrt(variances[0] * variances[1]), -1, 1), count


def likely_shifts(fixed, fixed_mask, moving, moving_mask, *, most: int) -> np.ndarray:
    """The shifts that explain most, best first.

    Args:
        fixed: as for ``masked_correlation``.
        fixed_mask: the same.
        moving: the same, on a grid of the same voxels.
        moving_mask: the same.
        most: that are wanted.

    Returns:
        ``[n, d]`` whole voxels, at most ``most`` and at least one: what is at ``x``
        in the fixed image is at ``x + shift`` in the moving array.
    """
    r, count = masked_correlation(fixed, fixed_mask, moving, moving_mask)
    gain = -count * np.log(np.maximum(1 - r**2, _UNEXPLAINED))
    gain[count < _LEAST_OVERLAP * min(fixed_mask.sum(), moving_mask.sum())] = 0.0
    peaks = (gain == ndimage.maximum_filter(gain, 2 * _APART + 1)) & (
        gain >= _WORTH * gain.max()
    )
    places = np.argwhere(peaks)
    best = places[np.argsort(-gain[peaks], kind="stable")[:most]]
    return best - (np.array(fixed.shape) - 1)


def _powers(image, mask) -> list[np.ndarray]:
    """The mask and, inside it, the standardised values and their squares."""
    inside = image[mask]
    values = np.where(mask, (image - inside.mean()) / (inside.std() or 1.0), 0.0)
    return [mask.astype(float), values, values**2]
