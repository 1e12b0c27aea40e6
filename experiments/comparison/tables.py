"""What was measured of all methods, as a table."""

from collections.abc import Sequence

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.evaluation import Measures, evaluate, sample_deviation
from regnet_jax.hounsfield import body_mask, looks_like_ct
from regnet_jax.io import KnownPair, Pair, read_displacement
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


def measure(known: KnownPair, truth, field) -> Measures:
    """Measure a displacement by all that is known of a pair.

    Args:
        known: the pair.
        truth: ``[*fixed, d]``, mm, x first, or None; in CT only the body counts.
        field: ``[*fixed, d]``, mm, x first.

    Returns:
        The measures.
    """
    frame, array = known.fixed.frame, known.fixed.array
    mask = None
    if truth is not None and looks_like_ct(array):
        mask = body_mask(array)
    return evaluate(
        composite(frame, field, np.eye(frame.ndim + 1)),
        frame,
        landmarks=known.points,
        labels=known.labels,
        images=(known.fixed, known.moving),
        truth=truth,
        truth_mask=mask,
    )


def flatten(measures: Measures, ran: dict | None) -> dict[str, float]:
    """Return the numbers of one method on one pair, by the names of columns.

    Args:
        measures: from ``measure``.
        ran: from ``runs.run_method``; None before any registration.

    Returns:
        Numbers; Dice and HD95 are means over labels, and ``dice N`` of label N.
    """
    values = measures.similarity.to_dict()
    if measures.jacobian:
        values["folding"] = 100 * measures.jacobian.folding_fraction
    if measures.tre:
        values["tre"] = measures.tre.mean
    if measures.endpoint:
        values["endpoint"] = measures.endpoint.mean
        values["endpoint_p95"] = measures.endpoint.p95
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
                    "sd": sample_deviation(finite),
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
    if not np.isnan(value["sd"]):
        text += f" ± {value['sd']:.{digits}f}"
    return f"{text} ({value['undefined']} nan)" if value["undefined"] else text


def markdown(rows: Sequence[dict]) -> str:
    """The table for a text."""
    head, body = table(rows)
    ruler = ["---", *["---:"] * (len(head) - 1)]
    lines = [head, ruler, *body]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
