"""Measure displacements, of whatever method, by what is known of a pair."""

from typing import NamedTuple

import numpy as np

from experiments.comparison.lungs import closed_lungs
from regnet_jax.errors import InputError
from regnet_jax.evaluation import (
    Measures,
    endpoint_error,
    evaluate,
    find_body,
    registration_errors,
)
from regnet_jax.hounsfield import looks_like_ct
from regnet_jax.io import LoadedPair, PairPaths, read_displacement
from regnet_jax.spatial import (
    Frame,
    composite,
    find_padding,
    largest_offset,
    map_points,
    where_shown,
)

# Voxels by which headers may differ that were rounded differently.
_SAME_GRID = 0.01


def read_truth(pair: PairPaths, grid: Frame) -> np.ndarray | None:
    """Read the true displacement of a pair.

    Args:
        pair: its paths.
        grid: of the fixed image.

    Returns:
        ``[*grid.shape, d]``, mm, x first; None if it is not known.

    Raises:
        InputError: if it cannot be read or lies on another grid.
    """
    if not pair.displacement:
        return None
    truth, frame = read_displacement(pair.displacement)
    if frame.shape != grid.shape or largest_offset(frame, grid) > _SAME_GRID:
        raise InputError(
            f"{pair.displacement}: is not on the grid of {pair.fixed}; give the"
            " displacement of every fixed voxel"
        )
    return truth


def find_regions(known: LoadedPair, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Find where a displacement is compared with the truth.

    It depends on the images and the truth alone, so it is the same for all methods.

    Args:
        known: the pair.
        truth: ``[*fixed, d]``, mm, x first.

    Returns:
        Masks ``[*fixed]`` by name: ``endpoint``, the voxels of the fixed image whose
        points the moving image shows, in CT those of the body; and in chest CT
        ``endpoint_closed_lungs``, those among them in the
        ``closed_lungs``. The region ``lung`` of
        ``experiments.assess`` is a smaller one.
    """
    fixed, moving = known.fixed, known.moving
    transform = composite(fixed.frame, truth, np.eye(fixed.frame.ndim + 1))
    both = where_shown(moving, find_padding(moving.array), fixed.frame, transform)
    if (padding := find_padding(fixed.array)) is not None:
        both &= ~padding
    if looks_like_ct(fixed.array):
        both &= find_body(fixed)
    regions = {"endpoint": both}
    if (lungs := closed_lungs(fixed)) is not None:
        regions["endpoint_closed_lungs"] = both & (lungs.array > 0)
    return regions


class Measured(NamedTuple):
    """The measures of a displacement.

    Attributes:
        measures: those of ``regnet_jax.evaluation``.
        errors: mm, ``[n]`` each, by name: ``tre`` of the landmarks, and those of the
            regions of ``find_regions``.
    """

    measures: Measures
    errors: dict[str, np.ndarray]


def measure(known: LoadedPair, truth, regions, field) -> Measured:
    """Measure a displacement by the landmarks, labels and truth known of a pair.

    Args:
        known: the pair.
        truth: ``[*fixed, d]``, mm, x first, or None.
        regions: from ``find_regions``; empty without a truth.
        field: ``[*fixed, d]``, mm, x first.

    Returns:
        The measures, and the errors that they summarise.
    """
    frame = known.fixed.frame
    transform = composite(frame, field, np.eye(frame.ndim + 1))
    measures = evaluate(
        transform,
        frame,
        landmarks=known.points,
        labels=known.labels,
        images=(known.fixed, known.moving),
        truth=truth,
        truth_mask=regions.get("endpoint"),
    )
    errors = {}
    if known.points is not None:
        fixed, moving = known.points
        errors["tre"] = registration_errors(map_points(transform, fixed), moving)
    for name, mask in regions.items():
        errors[name] = endpoint_error(field, truth)[mask]
    return Measured(measures, errors)


def flatten(measured: Measured, ran: dict | None) -> dict[str, float]:
    """Return the numbers of one method on one pair, by column name.

    Args:
        measured: from ``measure``.
        ran: from ``run_method``; None before any registration.

    Returns:
        Numbers. Of errors ``NAME`` is the mean, and ``NAME_median``, ``NAME_p95`` and
        ``NAME_under_2mm``, a fraction, are those of the landmarks or voxels of this
        pair. Dice and HD95 are means over labels, and ``dice N`` of
        label N.
    """
    measures = measured.measures
    values = measures.similarity.to_dict()
    if measures.jacobian:
        values["folding"] = 100 * measures.jacobian.folding_fraction
    for name, errors in measured.errors.items():
        if errors.size:
            values[name] = float(errors.mean())
            values[f"{name}_median"] = float(np.median(errors))
            values[f"{name}_p95"] = float(np.percentile(errors, 95))
            values[f"{name}_under_2mm"] = float(np.mean(errors < 2.0))
    if measures.overlap:
        values |= {"dice": measures.dice, "hd95": measures.hd95}
        for label, overlap in measures.overlap.items():
            values[f"dice {label}"] = overlap.dice
            values[f"hd95 {label}"] = overlap.hd95
    if ran:
        for name in ("seconds", "registration_seconds", "cpu_seconds"):
            values[name] = ran[name]
        values["memory"] = ran["peak_gib"]
    return values
