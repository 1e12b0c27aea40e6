"""Real breaths by their landmarks, and fields at as many voxels of lungs."""

import numpy as np
from absl import logging

from regnet_jax.errors import InputError
from regnet_jax.evaluation import orient_to_expansion
from regnet_jax.evaluation.motion import NEIGHBOURS
from regnet_jax.hounsfield import lung_mask
from regnet_jax.io import read_landmarks

# Voxels of the lungs at which a field is measured: as many as DIR-Lab has landmarks.
POINTS = 300


def read_breath(path) -> tuple[np.ndarray, np.ndarray]:
    """Read the fixed and the moving landmarks of a breath.

    Args:
        path: of a file with both; its coordinates are taken as mm, (x, y, z).

    Returns:
        Points and displacements ``[n, 3]``, mm, x first, in the direction in which the
        volume grows.

    Raises:
        InputError: if the file cannot be read or its landmarks do not suffice.
    """
    # Statistics do not depend on the signs of x and y, so LPS may as well be RAS.
    fixed, moving = read_landmarks((path, path), (None, None), coordinates="lps")
    if fixed.shape[1] != 3:
        raise InputError(f"{path}: holds landmarks of planes; give six columns, in 3D")
    if np.array_equal(fixed, moving):
        raise InputError(
            f"{path}: holds no motion; give six columns, fixed and moving landmarks"
        )
    if len(fixed) < NEIGHBOURS:
        raise InputError(
            f"{path}: has {len(fixed)} landmarks; give {NEIGHBOURS} or more, from the"
            " whole lungs"
        )
    if all((ends == np.rint(ends)).all() for ends in (fixed, moving)):
        logging.warning(
            "%s: all of its coordinates are whole numbers, as voxel indices are; they"
            " are taken as mm",
            path,
        )
    try:
        return orient_to_expansion(fixed, moving - fixed)
    except ValueError as error:
        raise InputError(
            f"{path}: too many of its landmarks lie in one plane; give landmarks from"
            " the whole lungs"
        ) from error


def sample_lungs(
    image, displacement, spacing: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a field at random voxels of the lungs.

    Args:
        image: ``[z, y, x, 1]`` HU, the fixed image.
        displacement: ``[z, y, x, 3]``, voxels.
        spacing: isotropic voxel size, mm.
        rng: of the choice of voxels.

    Returns:
        Points and displacements, ``[n, 3]``, mm, x first; n is 300, or as many voxels
        as there are.
    """
    lungs = lung_mask(np.asarray(image)[..., 0], (spacing,) * 3)
    index = rng.permutation(np.argwhere(lungs))[:POINTS]
    moves = np.asarray(displacement, float)[tuple(index.T)]
    return spacing * index[:, ::-1].astype(float), spacing * moves[:, ::-1]
