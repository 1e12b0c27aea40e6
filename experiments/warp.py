r"""Applies a transform to an image, a label map or points.

Example:
    python -m experiments.warp --transform result/transform.h5 \
        --image inhale.nii.gz --out warped.nii.gz

The transform is what sitk.ReadTransform reads and maps fixed points to moving points.
It brings a moving image (--image, linear) or its label map (--labels, nearest) onto
the fixed grid, and points of the fixed image (--points) into the moving image. With
--inverse it goes the other way: a fixed image onto the moving grid (--like), points
of the moving image into the fixed image. Points are .pts or .txt (elastix, DIR-Lab),
.csv (Learn2Reg), .fcsv or .mrk.json (3D Slicer) and are written in mm as elastix does.
"""

import numpy as np
from absl import flags

from experiments import cli
from regnet_jax.errors import InputError
from regnet_jax.io import (
    IMAGE_SUFFIXES,
    POINT_SUFFIXES,
    POINT_TOLERANCE,
    Frame,
    check_dimension,
    check_suffix,
    field_frame,
    invert_points,
    map_points,
    read_image,
    read_labels,
    read_points,
    read_transform,
    warp_image,
    warp_image_back,
    write_image,
    write_points,
)

_TRANSFORM = flags.DEFINE_string("transform", None, "Fixed to moving.", required=True)
_IMAGE = flags.DEFINE_string("image", None, "Moving image to warp.")
_LABELS = flags.DEFINE_string("labels", None, "Label map of the moving image to warp.")
_POINTS = flags.DEFINE_string("points", None, "Points of the fixed image to map.")
_POINTS_IMAGE = flags.DEFINE_string(
    "points_image", None, "Image of --points, for files of voxel indices."
)
_LIKE = flags.DEFINE_string(
    "like", None, "Image whose grid the result gets; default that of the transform."
)
_INVERSE = flags.DEFINE_bool("inverse", False, "Go from the moving to the fixed image.")
_OUT = flags.DEFINE_string("out", None, "File for the result.", required=True)


def _check_flags():
    """What the flags together must be, before anything is read."""
    wanted = (_IMAGE, _LABELS, _POINTS)
    if sum(bool(flag.value) for flag in wanted) != 1:
        raise InputError("--image, --labels, --points: give one of the three")
    if _POINTS.value and _LIKE.value:
        raise InputError("--like: is for images; with --points leave it out")
    if _POINTS_IMAGE.value and not _POINTS.value:
        raise InputError("--points_image: is for --points; leave it out or give those")
    if _INVERSE.value and not (_POINTS.value or _LIKE.value):
        raise InputError("--like: is needed with --inverse; give the moving image")
    check_suffix(_OUT.value, POINT_SUFFIXES if _POINTS.value else IMAGE_SUFFIXES)


def _warp_points(transform):
    """Maps the points and writes them; says which have no inverse."""
    image = _POINTS_IMAGE.value
    frame = read_image(image).frame if image else None
    points = read_points(_POINTS.value, frame)
    check_dimension(transform, _POINTS.value, points.shape[1])
    if not _INVERSE.value:
        write_points(_OUT.value, map_points(transform, points))
        return
    points, errors = invert_points(transform, points)
    write_points(_OUT.value, points)
    lost = np.flatnonzero(errors > POINT_TOLERANCE)
    if lost.size:
        numbers = ", ".join(map(str, lost[:10] + 1)) + ", ..." * (lost.size > 10)
        print(
            f"no inverse for {lost.size} of {len(points)} points (number {numbers}),"
            f" off by up to {errors.max():.3g} mm: the transform folds or ends there"
        )


def _grid(transform) -> Frame:
    """Where the result is to lie."""
    if _LIKE.value:
        frame = read_image(_LIKE.value).frame
        check_dimension(transform, _LIKE.value, frame.ndim)
        return frame
    frame = field_frame(transform)
    if frame is None:
        raise InputError(
            f"{_TRANSFORM.value}: has no grid of its own; give --like, the fixed image"
        )
    return frame


def _warp_image(transform):
    """Resamples the image or the label map and writes it."""
    image = read_image(_IMAGE.value) if _IMAGE.value else read_labels(_LABELS.value)
    check_dimension(transform, image.name, image.frame.ndim)
    how = {"interpolation": "linear" if _IMAGE.value else "nearest"}
    frame, lost = _grid(transform), 0
    if _INVERSE.value:
        warped, lost = warp_image_back(image, frame, transform, **how, progress=True)
    else:
        warped = warp_image(image, frame, transform, **how)
    write_image(_OUT.value, warped.array, frame)
    if lost:
        print(
            f"no inverse for {lost} of {warped.array.size} voxels, where the transform"
            " folds; they are background"
        )


def main():
    """Reads the flags and the transform, applies it, and says what was written."""
    _check_flags()
    transform = read_transform(_TRANSFORM.value)
    (_warp_points if _POINTS.value else _warp_image)(transform)
    print(f"wrote {_OUT.value}")


if __name__ == "__main__":
    cli.run(main)
