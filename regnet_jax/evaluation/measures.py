"""What can be measured of a transform from fixed to moving.

Every function returns what goes into JSON.
"""

from collections.abc import Callable

import jax
import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.evaluation.fields import jacobian_statistics
from regnet_jax.evaluation.labels import label_overlap
from regnet_jax.evaluation.landmarks import (
    error_statistics,
    registration_errors,
    snap_to_voxels,
)
from regnet_jax.evaluation.similarity import correlation
from regnet_jax.geometry import jacobian_determinant
from regnet_jax.hounsfield import lung_mask
from regnet_jax.io import read_image, read_labels, read_landmarks, read_transform
from regnet_jax.spatial import (
    Frame,
    Image,
    canonicalise,
    check_dimension,
    check_pair,
    displacement_from_world,
    field_frame,
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


def measure_files(*, transform=None, points=None, labels=None, images=None) -> dict:
    """Measures a transform by whatever is known of a pair.

    Args:
        transform: path of the transform from fixed to moving; None is the identity.
        points: paths of fixed and moving landmarks, or None.
        labels: of fixed and moving label maps, or None.
        images: of the fixed and the moving image, or None.

    Returns:
        ``tre``, ``tre_snapped``, ``overlap``, ``similarity`` and ``jacobian``, as far
        as they can be told.

    Raises:
        InputError: if a file cannot be read or does not fit the others.
    """
    maps = [read_labels(path) for path in labels or ()]
    scans = [read_image(path) for path in images or ()]
    if scans:
        check_pair(*scans)
    for image in maps:
        if not image.array.any():
            raise InputError(f"{image.name}: holds no label; give one that does")
    pictures = scans or maps
    dimensions = {image.name: image.frame.ndim for image in (*scans, *maps)}
    landmarks = None
    if points:
        frames = [image.frame for image in pictures] or [None, None]
        landmarks = read_landmarks(points, frames)
        dimensions[points[0]] = landmarks[0].shape[1]
    found = _transform(transform, dimensions)
    report: dict = {"transform": transform}
    if landmarks:
        frame = pictures[1].frame if pictures else None
        report |= measure_landmarks(found, *landmarks, frame)
    if maps:
        report["overlap"] = before_and_after(measure_labels, found, *maps)
    if scans:
        report["similarity"] = before_and_after(measure_images, found, *scans)
    grid = pictures[0].frame if pictures else field_frame(found)
    if transform and grid is not None:
        report["jacobian"] = measure_jacobian(found, grid)
    return report


def _transform(path, dimensions: dict[str, int]) -> sitk.Transform:
    """The transform or the identity, of the dimension that all must have."""
    (first, d), *others = dimensions.items()
    for name, other in others:
        if other != d:
            raise InputError(
                f"{first} is {d}D and {name} is {other}D; give all of one dimension"
            )
    if not path:
        return sitk.Transform(d, sitk.sitkIdentity)
    transform = read_transform(path)
    check_dimension(transform, first, d)
    return transform
