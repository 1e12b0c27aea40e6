"""The results of a comparison as tables."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments import text
from experiments.comparison.methods import REFERENCE
from regnet_jax.evaluation import paired_difference, sample_deviation

# What says how right a registration is, by title, unit and number of digits; of the
# errors in mm there are columns of the landmarks or voxels of a pair, too.
ACCURACY = {
    "tre": ("TRE", "mm", 2),
    "endpoint": ("endpoint error in the body", "mm", 2),
    "endpoint_closed_lungs": ("endpoint error in the closed lungs", "mm", 2),
    "dice": ("Dice", "", 3),
    "hd95": ("HD95", "mm", 2),
}
_ERRORS = ("tre", "endpoint", "endpoint_closed_lungs")
# What a method may have optimised, and how regular its field is.
LIKENESS = {
    "lung_correlation": ("correlation in the lung", "", 3),
    "lung_overlap": ("overlap of the lungs", "", 3),
    "correlation": ("correlation", "", 3),
    "folding": ("folding", "%", 4),
}
COSTS = {
    "seconds": ("time", "s", 1),
    "registration_seconds": ("time, registration alone", "s", 1),
    "cpu_seconds": ("CPU time of all threads", "s", 1),
    "memory": ("peak memory", "GiB", 2),
}


def columns_of(
    rows: Sequence[dict], columns: Mapping[str, tuple[str, str, int]]
) -> dict[str, tuple[str, str, int]]:
    """Return the columns that contain numbers; single labels follow their mean.

    Args:
        rows: ``method``, ``pair``, ``patient`` and ``values`` by name of each
            registration.
        columns: title, unit and digits by name.

    Returns:
        The same of those with numbers.
    """
    present = dict.fromkeys(name for row in rows for name in row["values"])
    result = {}
    for name, column in columns.items():
        title, unit, digits = column
        if name in present:
            result[name] = column
        for one in sorted(p for p in present if p.startswith(f"{name} ")):
            result[one] = (f"{title}, label {one.split()[1]}", unit, digits)
    return result


def summarise(rows: Sequence[dict], failures: Sequence[dict]) -> dict[str, dict]:
    """Summarise the pairs, by method and measure.

    Args:
        rows: as for ``columns_of``.
        failures: ``method`` and ``pair`` of each registration that gave no result; the
            method ``all`` is each of them.

    Returns:
        ``n``, ``mean``, ``sd`` (of a sample) and ``median`` of the finite numbers, and
        ``undefined``, the number of others, such as distances to a missing label. Of
        what ``ACCURACY`` lists also ``patients``, the number of those with a finite
        number; ``failed``, the number of pairs that have the measure and gave no
        result, where a pair that could not be read counts for every measure;
        ``worse``, the number of pairs that were better before or have no number any
        more; and ``difference`` from ``REFERENCE`` on the pairs that have numbers of
        both, if there are any: ``mean``, ``patients`` and ``ci95`` over patients, None
        for a single one.
    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    names = dict.fromkeys(name for row in rows for name in row["values"])
    result: dict = {method: {} for method in methods}
    for name in names:
        accuracy = name.split(" ")[0] in ACCURACY
        # Before any registration is the first row of every pair.
        before = _by_pair(rows, methods[0], name)
        for method in methods:
            found = _by_pair(rows, method, name)
            if not found:
                continue
            one = _moments(np.array([value for _, value in found.values()], float))
            if accuracy:
                sign = -1 if name.split(" ")[0] == "dice" else 1
                one["patients"] = len(
                    {patient for patient, value in found.values() if np.isfinite(value)}
                )
                one["failed"] = _count_failures(method, failures, before)
                # So that NaN counts as worse.
                one["worse"] = sum(
                    not sign * value <= sign * before[pair][1]
                    for pair, (_, value) in found.items()
                    if pair in before and np.isfinite(before[pair][1])
                )
                reference = _by_pair(rows, REFERENCE, name)
                difference = _compare(found, reference)
                if method != REFERENCE and difference:
                    one["difference"] = difference
            result[method][name] = one
    return result


def _count_failures(method: str, failures: Sequence[dict], measured) -> int:
    """Count the failures of a method on pairs that have a measure before."""
    return sum(
        failure["method"] == "all"
        or (failure["method"] == method and failure["pair"] in measured)
        for failure in failures
    )


def _by_pair(rows: Sequence[dict], method: str, name: str) -> dict:
    """Return (patient, value) by pair."""
    return {
        row["pair"]: (row["patient"], row["values"][name])
        for row in rows
        if row["method"] == method and name in row["values"]
    }


def _moments(numbers: np.ndarray) -> dict:
    finite = numbers[np.isfinite(numbers)]
    return {
        "n": int(finite.size),
        "mean": float(finite.mean()) if finite.size else np.nan,
        "sd": sample_deviation(finite),
        "median": float(np.median(finite)) if finite.size else np.nan,
        "undefined": int(numbers.size - finite.size),
    }


def _compare(found: Mapping, reference: Mapping) -> dict | None:
    """Return the difference from the reference on the same pairs; None without any."""
    shared = [
        (value, reference[pair][1], patient)
        for pair, (patient, value) in found.items()
        if pair in reference and np.isfinite(value - reference[pair][1])
    ]
    if not shared:
        return None
    one = paired_difference(*zip(*shared, strict=True))
    interval = one.mean_ci95 if one.interval_over == "patients" else None
    return {"mean": one.mean, "patients": one.patients, "ci95": interval}


class Table(NamedTuple):
    """A table as text.

    Attributes:
        title: of the table.
        head: names of the columns.
        body: cells of each row.
    """

    title: str
    head: list[str]
    body: list[list[str]]


def make_tables(rows: Sequence[dict], failures: Sequence[dict]) -> list[Table]:
    """Return the results as tables: accuracy, likeness, and costs, each if known.

    Args:
        rows: as for ``columns_of``.
        failures: as for ``summarise``.

    Returns:
        A table for each measure of accuracy, then those of likeness and of costs.
    """
    summary = summarise(rows, failures)
    tables = [
        _accuracy(name, *column, summary, rows, failures)
        for name, column in columns_of(rows, ACCURACY).items()
    ]
    for title, wanted in (
        ("Likeness and regularity (neither is accuracy)", LIKENESS),
        ("Costs", COSTS),
    ):
        columns = columns_of(rows, wanted)
        body = []
        for method, values in summary.items():
            if any(name in values for name in columns):
                pairs = max(values[n]["n"] for n in columns if n in values)
                cells = [
                    _cell(values.get(name), digits)
                    for name, (_, _, digits) in columns.items()
                ]
                body.append([method, str(pairs), *cells])
        if body:
            titles = [with_unit(title, unit) for title, unit, _ in columns.values()]
            tables.append(Table(title, ["method", "pairs", *titles], body))
    return tables


def _accuracy(
    name: str, title: str, unit: str, digits: int, summary: dict, rows, failures
) -> Table:
    """Return the table of one measure of accuracy."""
    is_error = name in _ERRORS
    has_reference = any("difference" in v.get(name, {}) for v in summary.values())
    head = ["method", "pairs", "patients", "failed", "worse than before", "mean ± sd"]
    head += ["median", "95th percentile", "under 2 mm (%)"] * is_error
    head += [f"minus {REFERENCE}"] * has_reference
    body = []
    for method, values in summary.items():
        if name not in values:
            continue
        one = values[name]
        counts = (one["n"], one["patients"], one["failed"], one["worse"])
        cells = [method, *map(str, counts), _cell(one, digits)]
        if is_error:
            median, p95, small = (
                values[f"{name}_{suffix}"]["mean"]
                for suffix in ("median", "p95", "under_2mm")
            )
            cells += [f"{median:.{digits}f}", f"{p95:.{digits}f}", f"{100 * small:.1f}"]
        if has_reference:
            cells.append(_difference(one.get("difference"), digits))
        body.append(cells)
    # Those that failed on every pair that has the measure.
    measured = _by_pair(rows, next(iter(summary)), name)
    failed_there = [f["method"] for f in failures if f["pair"] in measured]
    for method in dict.fromkeys(failed_there):
        if name not in summary.get(method, {}):
            failed = str(_count_failures(method, failures, measured))
            body.append([method, "0", "0", failed, "0", *[""] * (len(head) - 5)])
    return Table(with_unit(title[0].upper() + title[1:], unit), head, body)


def with_unit(title: str, unit: str) -> str:
    """Return a title with its unit in brackets, if there is one."""
    return f"{title} ({unit})" if unit else title


def _cell(value: dict | None, digits: int) -> str:
    if value is None:
        return ""
    cell = text.mean_and_sd(value["mean"], value["sd"], digits)
    undefined = f"({value['undefined']} nan)" * bool(value["undefined"])
    return f"{cell} {undefined}".strip()


def _difference(value: dict | None, digits: int) -> str:
    if value is None:
        return ""
    cell = text.mean_and_sd(value["mean"], np.nan, digits, sign="+")
    ends = value["ci95"]
    return cell if ends is None else f"{cell} {text.interval(ends, digits, sign='+')}"


def markdown(tables: Sequence[Table]) -> str:
    """Return tables in Markdown, each below its title, then what the columns mean."""
    blocks = [f"**{title}**\n\n{text.markdown(*table)}" for title, *table in tables]
    return "\n\n".join([*blocks, *LEGEND]) + "\n"


def plain(tables: Sequence[Table]) -> str:
    """Return tables for the terminal."""
    return "".join(f"{title}\n{text.plain(*table)}\n\n" for title, *table in tables)


# What the columns mean, for the reader of a table.
LEGEND = (
    "Mean ± sample standard deviation over pairs. Median, 95th percentile and share"
    " under 2 mm are those of the landmarks or voxels of a pair, averaged over pairs.",
    "failed: pairs without a result, which the other numbers leave out. worse than"
    " before: pairs with a larger error, or a smaller Dice, than without registration,"
    " or with none that is a number.",
    f"minus {REFERENCE}: mean difference over the pairs that both registered, and its"
    " 95 % bootstrap interval, which draws patients with all of their pairs and is too"
    " narrow for fewer than about ten. A pair without a named patient counts as one.",
    "Endpoint errors are over those voxels of the fixed body, or of its lungs closed"
    " over their vessels, whose points the moving image shows, the same for all"
    " methods.",
)
