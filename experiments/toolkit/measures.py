"""What can be measured of a transform from fixed to moving, before and after.

Before is the identity. Every function returns what goes into JSON.
"""

import jax
import numpy as np
import SimpleITK as sitk

from regnet_jax.evaluation import (
    correlation,
    error_statistics,
    is_chest_ct,
    jacobian_statistics,
    label_overlap,
    lung_mask,
    registration_errors,
    snap_to_voxels,
)
from regnet_jax.geometry import jacobian_determinant
from regnet_jax.io import (
    Frame,
    Image,
    canonicalise,
    displacement_from_world,
    map_points,
    resample,
    sample_transform,
)


def measure_landmarks(
    transform: sitk.Transform, fixed, moving, frame: Frame | None
) -> dict:
    """Target registration error.

    Args:
        transform: fixed to moving.
        fixed: ``[n, d]``, mm.
        moving: ``[n, d]``, mm, the points that correspond.
        frame: of the moving image, to whose voxels points are snapped; or None.

    Returns:
        ``tre`` and, with a frame, ``tre_snapped``: statistics before and after.
    """
    moments = {"before": fixed, "after": map_points(transform, fixed)}
    variants = {"tre": moments}
    if frame is not None:
        variants["tre_snapped"] = {
            moment: snap_to_voxels(points, frame.matrix, frame.origin)
            for moment, points in moments.items()
        }
    return {
        variant: {
            moment: error_statistics(registration_errors(points, moving))
            for moment, points in moments.items()
        }
        for variant, moments in variants.items()
    }


def measure_labels(transform: sitk.Transform, fixed: Image, moving: Image) -> dict:
    """Dice and 95 % surface distance (mm) of each label on the fixed grid.

    Returns:
        ``before`` and ``after``; in each, measures by label.
    """
    spacing = fixed.frame.spacing[::-1]
    result = {}
    for moment, how in (("before", None), ("after", transform)):
        warped = resample(moving, fixed.frame, how, interpolation="nearest")
        overlap = label_overlap(fixed.array, warped.array, spacing)
        result[moment] = {str(label): values for label, values in overlap.items()}
    return result


def measure_images(transform: sitk.Transform, fixed: Image, moving: Image) -> dict:
    """Correlation on the fixed grid, and within the fixed lungs of a chest CT.

    Returns:
        ``before`` and ``after``.
    """
    array, frame = canonicalise(fixed.array, fixed.frame)
    masks = {"correlation": None}
    if is_chest_ct(array, frame.spacing[::-1]):
        masks["lung_correlation"] = lung_mask(array, frame.spacing[::-1])
    result = {}
    for moment, how in (("before", None), ("after", transform)):
        warped = resample(moving, fixed.frame, how, smooth=False).array
        other, _ = canonicalise(warped, fixed.frame)
        result[moment] = {
            name: correlation(array, other, mask) for name, mask in masks.items()
        }
    return result


def measure_jacobian(transform: sitk.Transform, frame: Frame) -> dict | None:
    """Statistics of the Jacobian determinant on the fixed grid.

    Returns:
        As ``jacobian_statistics``; None where an axis has a single voxel.
    """
    if min(frame.shape) < 2:
        return None
    vectors = sample_transform(transform, frame)
    voxels = displacement_from_world(frame, vectors).astype(np.float32)
    return jacobian_statistics(jax.jit(jacobian_determinant)(voxels))
