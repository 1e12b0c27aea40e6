r"""Measure a registration by landmarks, label maps and images.

Example:
    python -m experiments.evaluate --transform result/transform.h5 \
        --fixed exhale.nii.gz --moving inhale.nii.gz \
        --fixed_points exhale.csv --moving_points inhale.csv --out measures.json

If the package is installed, regnet evaluate is the same command.

Give points, label maps or images of the pair, at least one of the three, each for both
images. --out gets tre (mm), tre_snapped (with warped points moved to voxel centres of
the moving image, as DIR-Lab does), the overlap of each label and the similarity of the
images, each before (without the transform) and after, and the jacobian on the fixed
grid. sd is the sample standard deviation. Points in voxel indices and tre_snapped need
the images or the label maps, too. Without --transform the pair is measured as it is;
it takes the files that regnet warp --transform takes. --write jacobian and others write
images beside --out. Formats of points: docs/landmarks.md. A file of both images' points
is --fixed_points.
"""

import os
import tempfile
from pathlib import Path

from absl import flags

from regnet_jax.cli.output import print_measures
from regnet_jax.errors import InputError
from regnet_jax.files import check_not_read, check_output, write_json
from regnet_jax.io import COORDINATES, transform_files
from regnet_jax.registration.files import evaluate_files
from regnet_jax.registration.maps import MAPS
from regnet_jax.registration.saving import OPTIONAL_FILES

_TRANSFORM = flags.DEFINE_multi_string(
    "transform",
    None,
    "Transform from fixed to moving, or several; default none.",
)
_FIXED_POINTS = flags.DEFINE_string(
    "fixed_points", None, "Landmarks in the fixed image."
)
_MOVING_POINTS = flags.DEFINE_string(
    "moving_points", None, "The corresponding landmarks in the moving image."
)
_POINT_COORDINATES = flags.DEFINE_enum(
    "point_coordinates",
    None,
    COORDINATES,
    "Coordinates in both files of points: mm in LPS or RAS, voxels from 0 or from 1;"
    " default what the files say.",
)
_FIXED_LABELS = flags.DEFINE_string(
    "fixed_labels", None, "Label map of the fixed image."
)
_MOVING_LABELS = flags.DEFINE_string(
    "moving_labels", None, "Label map of the moving image."
)
_FIXED = flags.DEFINE_string("fixed", None, "Fixed image.")
_MOVING = flags.DEFINE_string("moving", None, "Moving image.")
_WRITE = flags.DEFINE_multi_enum(
    "write",
    [],
    MAPS,
    "Images to write beside --out: the inverse, the jacobian determinant or the"
    " ventilation of lungs; several are separated by spaces.",
)
_OUT = flags.DEFINE_string("out", None, "JSON file for the measures.", required=True)

_PAIRS = (
    (_FIXED_POINTS, _MOVING_POINTS),
    (_FIXED_LABELS, _MOVING_LABELS),
    (_FIXED, _MOVING),
)


def _check_flags():
    """Raise InputError unless there is a pair, and no pair lacks one of its files."""
    for fixed, moving in _PAIRS:
        # A file may hold the points of both images.
        alone = fixed is _FIXED_POINTS and bool(fixed.value)
        if bool(fixed.value) != bool(moving.value) and not alone:
            missing = moving if fixed.value else fixed
            raise InputError(f"--{missing.name}: is missing; give both of the pair")
    if not any(fixed.value for fixed, _ in _PAIRS):
        names = ", ".join(f"--{fixed.name}" for fixed, _ in _PAIRS)
        raise InputError(f"{names}: none is given; give a pair to measure")


def _given(*pair):
    """Return the two paths, or None."""
    return tuple(flag.value for flag in pair) if pair[0].value else None


def _only(values):
    """Return the value of a list of one, which reports show without brackets."""
    return values[0] if values and len(values) == 1 else values


def main():
    """Measure the files of the flags, write and print the measures."""
    _check_flags()
    out = Path(_OUT.value)
    check_output(out)
    given = [flag.value for pair in _PAIRS for flag in pair]
    transforms = transform_files(_TRANSFORM.value or ())
    maps = OPTIONAL_FILES if _WRITE.value else ()
    written = [out, *(out.parent / name for name in maps)]
    check_not_read(written, [*given, *transforms])
    # All files or none.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".") as name:
        folder = Path(name)
        report = evaluate_files(
            transform=_only(_TRANSFORM.value),
            points=_given(_FIXED_POINTS, _MOVING_POINTS),
            coordinates=_POINT_COORDINATES.value,
            labels=_given(_FIXED_LABELS, _MOVING_LABELS),
            images=_given(_FIXED, _MOVING),
            maps=_WRITE.value,
            folder=folder,
        )
        write_json(folder / out.name, report)
        written = sorted(path.name for path in folder.iterdir())
        for name in written:
            os.replace(folder / name, out.parent / name)
    print_measures(report)
    for name in written:
        print(f"wrote {out.parent / name}")
