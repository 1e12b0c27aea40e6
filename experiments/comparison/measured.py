"""What is measured of any method: the same code for all."""

import numpy as np

from experiments.toolkit.measures import (
    measure_images,
    measure_jacobian,
    measure_labels,
    measure_landmarks,
)
from regnet_jax.errors import InputError
from regnet_jax.evaluation import body_mask, dice, endpoint_errors, endpoint_statistics
from regnet_jax.io import KnownPair, Pair, composite, read_displacement
from regnet_jax.registration.summary import find_lungs


def read_truth(pair: Pair, shape: tuple[int, ...]) -> np.ndarray | None:
    """The true displacement of a pair.

    Args:
        pair: its paths.
        shape: of the fixed image.

    Returns:
        ``[*shape, d]``, mm, x first; None if it is not known.

    Raises:
        InputError: if it cannot be read or lies on another grid.
    """
    if not pair.displacement:
        return None
    truth, frame = read_displacement(pair.displacement)
    if frame.shape != shape:
        raise InputError(
            f"{pair.displacement}: is not on the grid of {pair.fixed}; give the"
            " displacement of every fixed voxel"
        )
    return truth


def measure(known: KnownPair, truth, field) -> dict:
    """All that can be measured of a displacement.

    Args:
        known: the pair.
        truth: ``[*fixed, d]``, mm, or None.
        field: ``[*fixed, d]``, mm, x first.

    Returns:
        ``similarity``, ``jacobian``, and where they are known ``tre``, ``overlap``
        and ``endpoint``, as ``experiments.evaluate`` names them.
    """
    frame = known.fixed.frame
    transform = composite(frame, field, np.eye(frame.ndim + 1))
    similarity = measure_images(transform, known.fixed, known.moving)
    lungs = find_lungs(transform, known.fixed, known.moving)
    if lungs is not None:
        similarity["lung_overlap"] = dice(lungs.fixed, lungs.warped)
    result = {
        "similarity": similarity,
        "jacobian": measure_jacobian(transform, frame),
    }
    if known.points:
        landmarks = measure_landmarks(transform, *known.points, None)
        result["tre"] = landmarks["tre"]["after"]
    if known.labels:
        result["overlap"] = measure_labels(transform, *known.labels)
    if truth is not None:
        array = known.fixed.array
        mask = body_mask(array) if array.min() < -500 else None
        errors = endpoint_errors(field, truth, mask)
        result["endpoint"] = endpoint_statistics(errors)
    return result


def flatten(measured: dict, ran: dict | None) -> dict[str, float]:
    """The numbers of one method on one pair, by the names of columns.

    Args:
        measured: from ``measure``.
        ran: from ``runs.run_method``; None before any registration.

    Returns:
        Numbers; Dice and HD95 are means over labels, and ``dice N`` of label N.
    """
    values = dict(measured["similarity"])
    if measured["jacobian"]:
        values["folding"] = 100 * measured["jacobian"]["folding_fraction"]
    if "tre" in measured:
        values["tre"] = measured["tre"]["mean"]
    if "endpoint" in measured:
        values["endpoint"] = measured["endpoint"]["mean"]
        values["endpoint_p95"] = measured["endpoint"]["p95"]
    overlap = measured.get("overlap", {})
    for name in ("dice", "hd95"):
        by_label = {label: both[name] for label, both in overlap.items()}
        if by_label:
            values[name] = float(np.mean(list(by_label.values())))
        values |= {f"{name} {label}": value for label, value in by_label.items()}
    if ran:
        for name in ("seconds", "registration_seconds", "cpu_seconds"):
            values[name] = ran[name]
        values["memory"] = ran["peak_gib"]
    return values
