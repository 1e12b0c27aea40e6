"""Files of images, label maps and points through a transform."""

import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.io.landmarks import load_points, rewrite_points
from regnet_jax.io.transforms import grid_of, read_transform, split_transforms
from regnet_jax.io.volumes import read_grid, read_volumes, write_volumes
from regnet_jax.spatial import (
    Frame,
    check_dimension,
    check_labels,
    continued_map,
    invert_points,
    map_points,
    point_tolerance,
    warp_images,
    warp_images_back,
)


def warp_point_file(
    path,
    source,
    out,
    *,
    image=None,
    like=None,
    coordinates: str | None = None,
    inverse: bool = False,
) -> list[str]:
    """Map the points of a file and write the result.

    Args:
        path: of the transform, fixed to moving; or several, see ``read_transform``.
        source: path of the points; of a file of fixed and moving points the former are
            mapped, and with ``inverse`` the latter.
        out: path for the result, see ``io.rewrite_points``.
        image: path of their image, where the file holds voxel indices.
        like: path of the image that the result lies in, for voxel indices.
        coordinates: of the file, see ``io.read_points``.
        inverse: map from moving to fixed.

    Returns:
        Lines for the user: points without an inverse or beyond the grid of the
        transform, and what the format could not keep.

    Raises:
        InputError: if a file cannot be read, or does not fit the transform.
    """
    transform = read_transform(path, progress=True)
    given = load_points(
        source,
        read_grid(image) if image else None,
        coordinates=coordinates,
        dimension=transform.GetDimension(),
        part="moving" if inverse else "fixed",
    )
    points = given.points
    check_dimension(transform, source, points.shape[1])
    frame = _frame_of(like, transform) if like else None
    if inverse:
        points, errors = invert_points(transform, points)
        lost = np.flatnonzero(errors > point_tolerance(transform))
        lines = _without_inverse(lost, errors) or describe_points_beyond(
            transform, points
        )
    else:
        lines = describe_points_beyond(transform, points)
        points = map_points(transform, points)
    return lines + rewrite_points(out, points, given, frame)


def _without_inverse(lost: np.ndarray, errors: np.ndarray) -> list[str]:
    if not lost.size:
        return []
    return [
        f"no inverse for {lost.size} of {len(errors)} points (number {_list(lost)}),"
        f" off by up to {errors.max():.3g} mm: the transform folds or ends there"
    ]


def describe_points_beyond(transform: sitk.Transform, points: np.ndarray) -> list[str]:
    """Say which points lie beyond the grid of a transform, in a line or none.

    Args:
        transform: as in ``spatial.continued_map``.
        points: ``[n, d]``, mm, x first.
    """
    outside = np.flatnonzero(continued_map(transform)(points)[1])
    if not outside.size:
        return []
    return [
        f"{outside.size} of {len(points)} points (number {_list(outside)}) lie beyond"
        " the grid of the transform, where its displacement is zero"
    ]


def _list(numbers: np.ndarray) -> str:
    """Return the first ten of numbers that count from 0, counted from 1."""
    return ", ".join(map(str, numbers[:10] + 1)) + ", ..." * (numbers.size > 10)


def warp_image_file(
    path,
    source,
    out,
    *,
    labels: bool = False,
    like=None,
    interpolation: str | None = None,
    fill: float | None = None,
    inverse: bool = False,
) -> list[str]:
    """Resample an image or a label map from a file and write the result.

    Every channel of colours, of layered segmentations and of vectors and every frame of
    a 4D image is resampled by itself.

    Args:
        path: of the transform, fixed to moving; or several, see ``read_transform``.
        source: path of the image.
        out: path for the result.
        labels: whether it is a label map.
        like: path of an image whose grid the result gets; None takes that of the
            transform.
        interpolation: ``nearest``, ``linear`` or ``bspline``; of labels ``nearest`` or
            ``linear``, which takes the label of the largest share. None is nearest for
            labels and linear for images.
        fill: value outside of the image; None is 0 for labels and colours, and the
            minimum of the image for others.
        inverse: warp from the fixed image to the moving grid.

    Returns:
        Lines for the user: voxels without an inverse, and what the format could not
        keep.

    Raises:
        InputError: if a file cannot be read, or does not fit the transform.
    """
    transform = read_transform(path, progress=True)
    volumes = read_volumes(source)
    images = [check_labels(i) for i in volumes.images] if labels else volumes.images
    check_dimension(transform, images[0].name, images[0].frame.ndim)
    if labels:
        interpolation = "labels" if interpolation == "linear" else "nearest"
    how = {
        "interpolation": interpolation or "linear",
        "fills": [fill] * len(images) if labels else volumes.fills(fill),
    }
    frame, lost = _grid(transform, path, like), 0
    if inverse:
        warped, lost = warp_images_back(images, frame, transform, **how, progress=True)
    else:
        warped = warp_images(images, frame, transform, **how)
    lines = write_volumes(out, volumes, [image.array for image in warped], frame)
    was, found = (any(np.ptp(i.array) for i in each) for each in (images, warped))
    if was and not found:
        lines.append(
            "the result has a single value, as nothing of the image lies on its grid;"
            " check the transform and --like"
        )
    if lost:
        lines.append(
            f"no inverse for {lost} of {warped[0].array.size} voxels, where the"
            " transform folds; they are background"
        )
    return lines


def _grid(transform: sitk.Transform, path, like) -> Frame:
    """Return the grid of the result."""
    if like:
        return _frame_of(like, transform)
    first = split_transforms(path)[0]
    # The grid of an inverse was made for it.
    frame = None if first.inverse else grid_of(path, transform)
    if frame is None:
        raise InputError(
            f"{first.path}: has no grid of its own; give --like, the fixed image"
        )
    return frame


def _frame_of(path, transform: sitk.Transform) -> Frame:
    """Return the frame of an image file; InputError unless it fits the transform."""
    frame = read_grid(path)
    check_dimension(transform, path, frame.ndim)
    return frame
