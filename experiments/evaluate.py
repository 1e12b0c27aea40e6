r"""Measures a registration by landmarks, label maps and images.

Example:
    python -m experiments.evaluate --transform result/transform.h5 \
        --fixed exhale.nii.gz --moving inhale.nii.gz \
        --fixed_points exhale.csv --moving_points inhale.csv --out measures.json

Give one of the three pairs or more. --out gets, before (without the transform) and
after, tre (mm), tre_snapped (warped points rounded to voxels of the moving image, as
DIR-Lab does), overlap of each label and similarity, and the jacobian on the fixed
grid. Points that are voxel indices need the images or the label maps of their pair,
and so do snapped ones. Without --transform the pair is measured as it lies.
"""

import SimpleITK as sitk
from absl import flags

from experiments import cli
from experiments.measures import (
    measure_images,
    measure_jacobian,
    measure_labels,
    measure_landmarks,
    print_measures,
    read_landmarks,
    write_measures,
)
from regnet_jax.errors import InputError
from regnet_jax.io import (
    check_dimension,
    check_pair,
    field_frame,
    read_image,
    read_labels,
    read_transform,
)

_TRANSFORM = flags.DEFINE_string("transform", None, "Fixed to moving; default none.")
_FIXED_POINTS = flags.DEFINE_string("fixed_points", None, "Landmarks, fixed.")
_MOVING_POINTS = flags.DEFINE_string("moving_points", None, "The same ones, moving.")
_FIXED_LABELS = flags.DEFINE_string("fixed_labels", None, "Label map, fixed.")
_MOVING_LABELS = flags.DEFINE_string("moving_labels", None, "Label map, moving.")
_FIXED = flags.DEFINE_string("fixed", None, "Fixed image.")
_MOVING = flags.DEFINE_string("moving", None, "Moving image.")
_OUT = flags.DEFINE_string("out", None, "JSON file for the measures.", required=True)

_PAIRS = (
    (_FIXED_POINTS, _MOVING_POINTS),
    (_FIXED_LABELS, _MOVING_LABELS),
    (_FIXED, _MOVING),
)


def _check_flags():
    """At least one pair, and no half of one."""
    for fixed, moving in _PAIRS:
        if bool(fixed.value) != bool(moving.value):
            missing = moving if fixed.value else fixed
            raise InputError(f"--{missing.name}: is missing; give both of the pair")
    if not any(fixed.value for fixed, _ in _PAIRS):
        names = ", ".join(f"--{fixed.name}" for fixed, _ in _PAIRS)
        raise InputError(f"{names}: none is given; give a pair to measure")


def _read(reader, fixed, moving) -> list:
    """What the two flags name, or nothing."""
    return [reader(flag.value) for flag in (fixed, moving) if flag.value]


def _read_points(images) -> list:
    """The corresponding landmarks, or nothing; images say where their voxels lie."""
    paths = (_FIXED_POINTS.value, _MOVING_POINTS.value)
    if not any(paths):
        return []
    return read_landmarks(paths, [image.frame for image in images] or [None, None])


def _read_transform(dimensions: dict[str, int]) -> sitk.Transform:
    """The transform or the identity, of the dimension that all must have."""
    (first, d), *others = dimensions.items()
    for name, other in others:
        if other != d:
            raise InputError(
                f"{first} is {d}D and {name} is {other}D; give all of one dimension"
            )
    if not _TRANSFORM.value:
        return sitk.Transform(d, sitk.sitkIdentity)
    transform = read_transform(_TRANSFORM.value)
    check_dimension(transform, first, d)
    return transform


def _measure() -> dict:
    """Reads what is given and measures it."""
    images = _read(read_image, _FIXED, _MOVING)
    labels = _read(read_labels, _FIXED_LABELS, _MOVING_LABELS)
    if images:
        check_pair(*images)
    for image in labels:
        if not image.array.any():
            raise InputError(f"{image.name}: holds no label; give one that does")
    pictures = images or labels
    points = _read_points(pictures)
    dimensions = {image.name: image.frame.ndim for image in (*images, *labels)}
    if points:
        dimensions[_FIXED_POINTS.value] = points[0].shape[1]
    transform = _read_transform(dimensions)
    report = {"transform": _TRANSFORM.value}
    if points:
        frame = pictures[1].frame if pictures else None
        report |= measure_landmarks(transform, *points, frame)
    if labels:
        report["overlap"] = measure_labels(transform, *labels)
    if images:
        report["similarity"] = measure_images(transform, *images)
    grid = pictures[0].frame if pictures else field_frame(transform)
    if _TRANSFORM.value and grid is not None:
        report["jacobian"] = measure_jacobian(transform, grid)
    return report


def main():
    """Reads the flags, measures, writes, and shows what was measured."""
    _check_flags()
    report = _measure()
    write_measures(_OUT.value, report)
    print_measures(report)
    print(f"wrote {_OUT.value}")


if __name__ == "__main__":
    cli.run(main)
