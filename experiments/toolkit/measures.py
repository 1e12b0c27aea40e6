"""What can be measured of a transform from fixed to moving.

Every function returns what goes into JSON.
"""

from collections.abc import Callable

import jax
import numpy as np
import SimpleITK as sitk

from regnet_jax.evaluation import (
    correlation,
    error_statistics,
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
    find_padding,
    map_points,
    resample,
    sample_transform,
    where_shown,
)


def before_and_after(measure: Callable, transform: sitk.Transform, *known) -> dict:
    """A measure of the identity, ``before``, and of a transform, ``after``."""
    return {"before": measure(None, *known), "after": measure(transform, *known)}


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


def measure_labels(
    transform: sitk.Transform | None, fixed: Image, moving: Image
) -> dict:
    """Dice and 95 % surface distance (mm) of each label on the fixed grid.

    Args:
        transform: fixed to moving; None is the identity.
        fixed: label map.
        moving: label map.

    Returns:
        Measures by label.
    """
    warped = resample(moving, fixed.frame, transform, interpolation="nearest")
    overlap = label_overlap(fixed.array, warped.array, fixed.frame.spacing[::-1])
    return {str(label): values for label, values in overlap.items()}


def measure_images(
    transform: sitk.Transform | None, fixed: Image, moving: Image
) -> dict:
    """Correlation on the fixed grid, and within the fixed lungs of a chest CT.

    Only what both images show counts: neither padding nor what lies outside.

    Args:
        transform: fixed to moving; None is the identity.
        fixed: the image that stays.
        moving: the image that is warped.

    Returns:
        ``correlation`` and perhaps ``lung_correlation``.
    """
    array, frame = canonicalise(fixed.array, fixed.frame)
    warped = resample(moving, fixed.frame, transform, smooth=False).array
    other, _ = canonicalise(warped, fixed.frame)
    padding = find_padding(fixed.array)
    shown = where_shown(moving, find_padding(moving.array), fixed.frame, transform)
    if padding is not None:
        shown &= ~padding
    shown, _ = canonicalise(shown, fixed.frame)
    measures = {"correlation": correlation(array, other, shown)}
    lungs = lung_mask(array, frame.spacing[::-1])
    if lungs.any():
        measures["lung_correlation"] = correlation(array, other, lungs & shown)
    return measures


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
