"""What was measured of all methods, as a table."""

from collections.abc import Sequence

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.evaluation import dice, endpoint_errors, endpoint_statistics
from regnet_jax.evaluation.measures import (
    measure_images,
    measure_jacobian,
    measure_labels,
    measure_landmarks,
)
from regnet_jax.hounsfield import body_mask, looks_like_ct
from regnet_jax.io import KnownPair, Pair, read_displacement
from regnet_jax.registration.summary import find_lungs
from regnet_jax.spatial import composite


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
        mask = body_mask(array) if looks_like_ct(array) else None
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


BEFORE = "before"
# Name in the rows: title, unit, and digits. The order is that of the columns.
_COLUMNS = {
    "tre": ("TRE", "mm", 2),
    "endpoint": ("endpoint error", "mm", 2),
    "endpoint_p95": ("endpoint error, 95th percentile", "mm", 2),
    "dice": ("Dice", "", 3),
    "hd95": ("HD95", "mm", 2),
    "lung_correlation": ("correlation in the lung", "", 3),
    "lung_overlap": ("overlap of the lungs", "", 3),
    "correlation": ("correlation", "", 3),
    "folding": ("folding", "%", 4),
    "seconds": ("time", "s", 1),
    "registration_seconds": ("time, registration alone", "s", 1),
    "cpu_seconds": ("CPU time of all threads", "s", 1),
    "memory": ("peak memory", "GiB", 2),
}


def columns_of(rows: Sequence[dict]) -> dict[str, tuple[str, str, int]]:
    """The columns that have numbers; those of single labels follow their mean."""
    present = dict.fromkeys(name for row in rows for name in row["values"])
    columns = {}
    for name, column in _COLUMNS.items():
        title, unit, digits = column
        if name in present:
            columns[name] = column
        for one in sorted(p for p in present if p.startswith(f"{name} ")):
            columns[one] = (f"{title}, label {one.split()[1]}", unit, digits)
    return columns


def summarise(rows: Sequence[dict]) -> dict[str, dict[str, dict]]:
    """Statistics over pairs, by method and column.

    Returns:
        ``n``, ``mean``, ``sd`` and ``median`` of the numbers that are finite, and
        ``undefined``: how many are not, as the distance to a label that is missing.
    """
    result: dict = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row["values"] for row in rows if row["method"] == method]
        result[method] = {}
        for name in columns_of(rows):
            numbers = np.array([v[name] for v in mine if name in v], float)
            finite = numbers[np.isfinite(numbers)]
            if numbers.size:
                result[method][name] = {
                    "n": int(finite.size),
                    "mean": float(finite.mean()) if finite.size else np.nan,
                    "sd": float(finite.std(ddof=1)) if finite.size > 1 else None,
                    "median": float(np.median(finite)) if finite.size else np.nan,
                    "undefined": int(numbers.size - finite.size),
                }
    return result


def table(rows: Sequence[dict]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of text: mean, and where there are several pairs ± deviation."""
    columns, summary = columns_of(rows), summarise(rows)
    titles = [t + (f" ({u})" if u else "") for t, u, _ in columns.values()]
    body = []
    for method, values in summary.items():
        cells = [method, str(max((v["n"] for v in values.values()), default=0))]
        for name, (_, _, digits) in columns.items():
            cells.append(_cell(values.get(name), digits))
        body.append(cells)
    return ["method", "pairs", *titles], body


def _cell(value: dict | None, digits: int) -> str:
    if value is None:
        return ""
    text = f"{value['mean']:.{digits}f}"
    if value["sd"] is not None:
        text += f" ± {value['sd']:.{digits}f}"
    return f"{text} ({value['undefined']} nan)" if value["undefined"] else text


def markdown(rows: Sequence[dict]) -> str:
    """The table for a text."""
    head, body = table(rows)
    ruler = ["---", *["---:"] * (len(head) - 1)]
    lines = [head, ruler, *body]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
