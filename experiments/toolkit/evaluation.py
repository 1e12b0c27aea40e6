"""Measures of a registration from the files that it left."""

import SimpleITK as sitk

from experiments.toolkit.measures import (
    before_and_after,
    measure_images,
    measure_jacobian,
    measure_labels,
    measure_landmarks,
)
from regnet_jax.errors import InputError
from regnet_jax.io import (
    check_dimension,
    check_pair,
    field_frame,
    read_image,
    read_labels,
    read_landmarks,
    read_transform,
)


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
