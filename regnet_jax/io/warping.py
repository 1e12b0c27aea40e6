"""Files of images, label maps and points through a transform."""

import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.io.images import read_image, read_labels, write_image
from regnet_jax.io.landmarks import read_points, write_points
from regnet_jax.io.transforms import read_transform, split_transforms
from regnet_jax.spatial import (
    POINT_TOLERANCE,
    Frame,
    check_dimension,
    field_frame,
    invert_points,
    map_points,
    warp_image,
    warp_image_back,
)


def warp_point_file(path, source, out, *, image=None, inverse: bool = False) -> str:
    """Map the points of a file and write the result.

    Args:
        path: of the transform, fixed to moving; or several, see ``read_transform``.
        source: path of the points.
        out: path for the result.
        image: path of their image, where the file holds voxel indices.
        inverse: map from moving to fixed.

    Returns:
        A line that lists the points without an inverse; empty if there are none.

    Raises:
        InputError: if a file cannot be read, or does not fit the transform.
    """
    transform = read_transform(path, progress=True)
    points = read_points(source, read_image(image).frame if image else None)
    check_dimension(transform, source, points.shape[1])
    if not inverse:
        write_points(out, map_points(transform, points))
        return ""
    points, errors = invert_points(transform, points)
    write_points(out, points)
    lost = np.flatnonzero(errors > POINT_TOLERANCE)
    if not lost.size:
        return ""
    numbers = ", ".join(map(str, lost[:10] + 1)) + ", ..." * (lost.size > 10)
    return (
        f"no inverse for {lost.size} of {len(points)} points (number {numbers}),"
        f" off by up to {errors.max():.3g} mm: the transform folds or ends there"
    )


def warp_image_file(
    path,
    source,
    out,
    *,
    labels: bool = False,
    like=None,
    inverse: bool = False,
) -> str:
    """Resample an image or a label map from a file and write the result.

    Args:
        path: of the transform, fixed to moving; or several, see ``read_transform``.
        source: path of the image.
        out: path for the result.
        labels: whether it is a label map.
        like: path of an image whose grid the result gets; None takes that of the
            transform.
        inverse: warp from the fixed image to the moving grid.

    Returns:
        A line that counts the voxels without an inverse; empty if there are none.

    Raises:
        InputError: if a file cannot be read, or does not fit the transform.
    """
    transform = read_transform(path, progress=True)
    image = read_labels(source) if labels else read_image(source)
    check_dimension(transform, image.name, image.frame.ndim)
    how = {"interpolation": "nearest" if labels else "linear"}
    frame, lost = _grid(transform, path, like), 0
    if inverse:
        warped, lost = warp_image_back(image, frame, transform, **how, progress=True)
    else:
        warped = warp_image(image, frame, transform, **how)
    write_image(out, warped.array, frame)
    if not lost:
        return ""
    return (
        f"no inverse for {lost} of {warped.array.size} voxels, where the transform"
        " folds; they are background"
    )


def _grid(transform: sitk.Transform, path, like) -> Frame:
    """Return the grid of the result."""
    if like:
        frame = read_image(like).frame
        check_dimension(transform, like, frame.ndim)
        return frame
    first = split_transforms(path)[0]
    # The grid of an inverse was made for it.
    frame = None if first.inverse else field_frame(transform)
    if frame is None:
        raise InputError(
            f"{first.path}: has no grid of its own; give --like, the fixed image"
        )
    return frame
