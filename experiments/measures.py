"""What can be measured of a transform from fixed to moving, before and after.

Before is the identity. Every function returns what goes into JSON.
"""

import json
import math
from pathlib import Path

import jax
import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.evaluation import (
    correlation,
    error_statistics,
    is_chest_ct,
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
    map_points,
    read_points,
    resample,
    sample_transform,
    write_atomically,
)

_TITLES = {
    "tre": "TRE (mm)",
    "tre_snapped": "TRE snapped (mm)",
    "overlap": "label",
    "similarity": "",
    "jacobian": "Jacobian",
}


def read_landmarks(paths, frames) -> list[np.ndarray]:
    """The corresponding landmarks of two images.

    Args:
        paths: of the fixed and the moving points.
        frames: of the images, where files hold voxel indices; or None.

    Returns:
        Fixed and moving points, ``[n, d]``, mm.

    Raises:
        InputError: if a file cannot be read, or the two do not correspond.
    """
    points = [read_points(*pair) for pair in zip(paths, frames, strict=True)]
    if points[0].shape != points[1].shape:
        sizes = " and ".join(f"{len(p)} in {p.shape[1]}D" for p in points)
        raise InputError(
            f"{paths[1]}: its points are not those of {paths[0]} ({sizes}); give"
            " points that correspond"
        )
    return points


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


def measure_labels(transform: sitk.Transform, fixed: Image, moving: Image) -> dict:
    """Dice and 95 % surface distance (mm) of each label on the fixed grid.

    Returns:
        ``before`` and ``after``; in each, measures by label.
    """
    spacing = fixed.frame.spacing[::-1]
    result = {}
    for moment, how in (("before", None), ("after", transform)):
        warped = resample(moving, fixed.frame, how, interpolation="nearest")
        overlap = label_overlap(fixed.array, warped.array, spacing)
        result[moment] = {str(label): values for label, values in overlap.items()}
    return result


def measure_images(transform: sitk.Transform, fixed: Image, moving: Image) -> dict:
    """Correlation on the fixed grid, and within the fixed lungs of a chest CT.

    Returns:
        ``before`` and ``after``.
    """
    array, frame = canonicalise(fixed.array, fixed.frame)
    masks = {"correlation": None}
    if is_chest_ct(array, frame.spacing[::-1]):
        masks["lung_correlation"] = lung_mask(array, frame.spacing[::-1])
    result = {}
    for moment, how in (("before", None), ("after", transform)):
        warped = resample(moving, fixed.frame, how, smooth=False).array
        other, _ = canonicalise(warped, fixed.frame)
        result[moment] = {
            name: correlation(array, other, mask) for name, mask in masks.items()
        }
    return result


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


def write_measures(path, report: dict) -> None:
    """Writes measures as JSON, whole or not at all; NaN becomes null."""
    text = json.dumps(_plain(report), indent=2) + "\n"
    write_atomically(path, lambda name: Path(name).write_text(text))


def print_measures(report: dict) -> None:
    """Prints a line for each measure, before and after where it has both."""
    print(f"{'':36s}{'before':>10s}{'after':>10s}")
    for section, title in _TITLES.items():
        values = report.get(section) or {}
        before = _flat(values.get("before", {}), title)
        for name, value in _flat(values.get("after", values), title).items():
            cells = (before.get(name, ""), value)
            text = (f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells)
            print(f"{name:36s}" + "".join(f"{cell:>10s}" for cell in text))


def _plain(value):
    """The same without NaN, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _flat(values: dict, prefix: str) -> dict[str, float]:
    """Nested measures under one name each; intervals are left to the file."""
    flat = {}
    for key, value in values.items():
        name = f"{prefix} {key.replace('_', ' ')}".strip()
        if isinstance(value, dict):
            flat |= _flat(value, name)
        elif not isinstance(value, list):
            flat[name] = value
    return flat
