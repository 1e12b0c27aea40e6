"""Linear alignment, before anything nonrigid.

The images are brought to small isotropic grids in coordinates that hang on the
fixed image, so the result doesn't depend on the pose, voxel order or spacing of
either file. There Mattes mutual information is maximised, coarse to fine.
"""

import logging

import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.io import (
    Frame,
    Image,
    affine_matrix,
    affine_transform,
    canonicalise,
    check_pair,
    isotropic_frame,
    rebase,
    resample,
    to_sitk,
    to_world,
)

_LOG = logging.getLogger(__name__)

# Voxels of a working grid: 64**3 in 3D, 512**2 in 2D.
_VOXELS = 2**18
# Fewer voxels on an axis cannot be told from a translation.
_THINNEST = 4
_SHRINK_FACTORS = (4, 2, 1)
_SAMPLES = 20_000


def align(
    fixed: Image,
    moving: Image,
    *,
    kind: str = "affine",
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    seed: int = 1,
) -> np.ndarray:
    """Align two images linearly.

    Args:
        fixed: the image whose points are mapped.
        moving: the image they are mapped to; any grid, any contrast.
        kind: ``none``, ``center`` (a translation), ``rigid`` or ``affine``.
        fixed_mask: where given, only voxels inside are compared.
        moving_mask: the same for the moving image.
        seed: of the voxels that are sampled; the same seed, the same result.

    Returns:
        Homogeneous matrix ``[d + 1, d + 1]`` from fixed points to moving points
        (mm, x first). Images too thin or too different for ``kind`` get the
        best simpler alignment, and a warning is logged.

    Raises:
        InputError: unknown kind, or images of different dimensions or constant.
    """
    if kind not in KINDS:
        raise InputError(f"{kind}: is no alignment; use one of {', '.join(KINDS)}")
    check_pair(fixed, moving)
    base = canonicalise(fixed.array, fixed.frame)[1]
    _, back = rebase(base, base)
    pair = _Pair(
        *(_working(image, base) for image in (fixed, moving)),
        *(mask and _working(mask, base) for mask in (fixed_mask, moving_mask)),
        seed,
    )
    matrix = np.eye(fixed.frame.ndim + 1)
    for step in KINDS[kind]:
        matrix = step(pair, matrix)
    return back @ matrix @ np.linalg.inv(back)
