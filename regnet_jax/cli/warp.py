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
grid (--like), points of the moving image into the fixed image. Points are .pts or .txt
(elastix, DIR-Lab), .csv (Learn2Reg), .fcsv or .mrk.json (3D Slicer); they are written
in mm in the format of elastix.
"""

from typing import Any

from absl import flags

from regnet_jax.errors import InputError
from regnet_jax.files import check_suffix
from regnet_jax.io import POINT_SUFFIXES
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
_LIKE = flags.DEFINE_string(
    "like", None, "Image whose grid the result gets; default that of the transform."
)
_INVERSE = flags.DEFINE_bool("inverse", False, "Go from the moving to the fixed image.")
_OUT = flags.DEFINE_string("out", None, "File for the result.", required=True)


def _check_flags():
    """Raise InputError if flags contradict each other, before any file is read."""
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


def main():
    """Apply the transform of the flags and print the name of the result."""
    _check_flags()
    transform = _TRANSFORM.value
    how: dict[str, Any] = {"inverse": _INVERSE.value}
    if _POINTS.value:
        lost = warp_point_file(
            transform, _POINTS.value, _OUT.value, image=_POINTS_IMAGE.value, **how
        )
    else:
        how |= {"labels": bool(_LABELS.value), "like": _LIKE.value}
        source = _IMAGE.value or _LABELS.value
        lost = warp_image_file(transform, source, _OUT.value, **how)
    if lost:
        print(lost)
    print(f"wrote {_OUT.value}")
