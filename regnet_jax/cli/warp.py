r"""Apply a transform to an image, a label map or points.

Example:
    python -m experiments.warp --transform result/transform.h5 \
        --image inhale.nii.gz --out warped.nii.gz

If the package is installed, regnet warp is the same command.

The transform maps fixed points to moving points. It is a file of ITK, ANTs or 3D
Slicer (.h5, .tfm, .txt, .mat), a displacement image (NIfTI, .mha, .nrrd) or the
TransformParameters.N.txt of elastix. --transform A B maps a fixed point by A first and
then by B, in the order of the flags -t of antsApplyTransforms; inverse:B, or [B,1] as
in ANTs, stands for the inverse of B.

It brings a moving image (--image, linear interpolation) or its label map (--labels,
nearest neighbour) onto the fixed grid, and points of the fixed image (--points) into
the moving image. With --inverse it goes the other way: a fixed image onto the moving
grid (--like), points of the moving image into the fixed image.

Images may have several channels or, in 4D, frames; each is warped. Points are .csv
(ANTs, Learn2Reg, BraTS-Reg, 3D Slicer), .txt or .pts (elastix, DIR-Lab, POPI), .vtk,
.fcsv or .mrk.json (3D Slicer). A result of the same suffix has the same format and
names; see docs/landmarks.md.
"""

from pathlib import Path
from typing import Any

from absl import flags

from regnet_jax.errors import InputError
from regnet_jax.files import check_not_read, check_output, check_suffix
from regnet_jax.io import COORDINATES, POINT_SUFFIXES, transform_files
from regnet_jax.io.images import IMAGE_SUFFIXES
from regnet_jax.io.warping import warp_image_file, warp_point_file

_TRANSFORM = flags.DEFINE_multi_string(
    "transform",
    None,
    "Transform from fixed to moving, or several; the first maps a fixed point first.",
    required=True,
)
_IMAGE = flags.DEFINE_string("image", None, "Moving image to warp.")
_LABELS = flags.DEFINE_string("labels", None, "Label map of the moving image to warp.")
_POINTS = flags.DEFINE_string("points", None, "Points of the fixed image to map.")
_POINTS_IMAGE = flags.DEFINE_string(
    "points_image", None, "Image of --points, for files of voxel indices."
)
_POINT_COORDINATES = flags.DEFINE_enum(
    "point_coordinates",
    None,
    COORDINATES,
    "Coordinates in the file of --points: mm in LPS or RAS, voxels from 0 or from 1;"
    " default what the file says.",
)
_LIKE = flags.DEFINE_string(
    "like",
    None,
    "Image whose grid the result gets; default that of the transform. For --points in"
    " voxels, the image of the result.",
)
_INTERPOLATION = flags.DEFINE_enum(
    "interpolation",
    None,
    ("nearest", "linear", "bspline"),
    "Default linear for --image and nearest for --labels, where linear takes the label"
    " with the largest share.",
)
_FILL = flags.DEFINE_float(
    "fill",
    None,
    "Value outside of the image; default its minimum, and 0 for labels and colours.",
)
_INVERSE = flags.DEFINE_bool("inverse", False, "Go from the moving to the fixed image.")
_OUT = flags.DEFINE_string("out", None, "File for the result.", required=True)


def _check_flags():
    """Raise InputError if flags contradict each other, before any file is read."""
    wanted = (_IMAGE, _LABELS, _POINTS)
    if sum(bool(flag.value) for flag in wanted) != 1:
        raise InputError("--image, --labels, --points: give one of the three")
    for flag in (_POINTS_IMAGE, _POINT_COORDINATES):
        if flag.value and not _POINTS.value:
            raise InputError(f"--{flag.name}: is for --points; leave it out")
    for flag in (_INTERPOLATION, _FILL):
        if flag.value is not None and _POINTS.value:
            raise InputError(f"--{flag.name}: is for images; leave it out")
    if _LABELS.value and _INTERPOLATION.value == "bspline":
        raise InputError(
            "--interpolation: bspline mixes labels; give nearest or linear"
        )
    if _LABELS.value and not (_FILL.value is None or _FILL.value.is_integer()):
        raise InputError("--fill: labels are whole numbers; give one")
    if _INVERSE.value and not (_POINTS.value or _LIKE.value):
        raise InputError("--like: is needed with --inverse; give the moving image")
    check_output(_OUT.value)
    read = [_IMAGE.value, _LABELS.value, _POINTS.value, _LIKE.value]
    check_not_read([Path(_OUT.value)], [*read, *transform_files(_TRANSFORM.value)])
    check_suffix(_OUT.value, POINT_SUFFIXES if _POINTS.value else IMAGE_SUFFIXES)


def main():
    """Apply the transform of the flags and print the name of the result."""
    _check_flags()
    transform = _TRANSFORM.value
    how: dict[str, Any] = {"inverse": _INVERSE.value, "like": _LIKE.value}
    if _POINTS.value:
        how |= {"image": _POINTS_IMAGE.value, "coordinates": _POINT_COORDINATES.value}
        lines = warp_point_file(transform, _POINTS.value, _OUT.value, **how)
    else:
        how |= {"labels": bool(_LABELS.value), "fill": _FILL.value}
        how |= {"interpolation": _INTERPOLATION.value}
        source = _IMAGE.value or _LABELS.value
        lines = warp_image_file(transform, source, _OUT.value, **how)
    for line in lines:
        print(line)
    print(f"wrote {_OUT.value}")
