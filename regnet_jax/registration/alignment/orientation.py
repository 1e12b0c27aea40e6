"""Detection of images whose axes are reversed against each other.

Left and right are exchanged, or slices are stacked the wrong way round, where a header
is wrong or was lost in a conversion. No motion mirrors a patient, and a descent from
small rotations does not reach half a turn.
"""

import itertools

import numpy as np

from regnet_jax.registration.alignment.gauss_newton import Level, descend, fit_matrix

# Gain in explained information that reversed axes must bring. Chests of different
# people, which are nearly symmetric, gain up to 0.24 (30 pairs of CTs, 270 of slices).
# Where one of two images is mirrored or turned, hippocampi of different people gain
# 0.32 at least (seven pairs), phases of one liver 1.1 and of one chest 2.0.
_CLEARLY = 0.28


def find_reversal(
    level: Level, matrix: np.ndarray, starts: list[np.ndarray], generators: np.ndarray
) -> tuple[tuple[int, ...], np.ndarray] | None:
    """Find the axes along which the moving image is reversed.

    Args:
        level: both images, at a coarse resolution.
        matrix: ``[d + 1, d + 1]``, the best alignment without reversal.
        starts: further such matrices, for images that ``matrix`` moves off each other.
        generators: ``[p, d, d + 1]``, as for ``optimise``.

    Returns:
        The axes of the fixed image (0 is x) and the alignment with these axes
        reversed; or None, if no reversal fits far better than ``matrix``.
    """
    d = len(matrix) - 1
    centre = level.points[:, :d].mean(axis=0)

    def gain(matrix):
        return fit_matrix(level, matrix).gain

    ends = {}
    for signs in itertools.product((1.0, -1.0), repeat=d):
        axes = tuple(k for k, sign in enumerate(signs) if sign < 0)
        if axes:
            flip = np.diag([*signs, 1.0])
            flip[:d, d] = centre - signs * centre
            start = max((each @ flip for each in [matrix, *starts]), key=gain)
            ends[axes] = descend(level, start, generators)
    axes, best = max(ends.items(), key=lambda end: gain(end[1]))
    return (axes, best) if gain(best) > gain(matrix) + _CLEARLY else None
