"""What was measured of all methods, as a table, as box plots, and as a page."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from regnet_jax.reporting import box_figure, write_report

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
_LOG = ("seconds", "registration_seconds", "cpu_seconds", "memory")


def flat(measured: dict, ran: dict | None) -> dict[str, float]:
    """The numbers of one method on one pair, by the names of columns.

    Args:
        measured: from ``runs.measure``.
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
        values["memory"] = ran["peak_bytes"] / 2**30
    return values


def _columns(rows: Sequence[dict]) -> dict[str, tuple[str, str, int]]:
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
    """``n``, ``mean``, ``sd`` and ``median`` over pairs, by method and column."""
    result: dict = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row["values"] for row in rows if row["method"] == method]
        result[method] = {}
        for name in _columns(rows):
            numbers = np.array([v[name] for v in mine if name in v], float)
            numbers = numbers[np.isfinite(numbers)]
            if numbers.size:
                result[method][name] = {
                    "n": int(numbers.size),
                    "mean": float(numbers.mean()),
                    "sd": float(numbers.std(ddof=1)) if numbers.size > 1 else None,
                    "median": float(np.median(numbers)),
                }
    return result


def table(rows: Sequence[dict]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of text: mean, and where there are several pairs ± deviation."""
    columns, summary = _columns(rows), summarise(rows)
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
    return text if value["sd"] is None else f"{text} ± {value['sd']:.{digits}f}"


def markdown(rows: Sequence[dict]) -> str:
    """The table for a text."""
    head, body = table(rows)
    ruler = ["---", *["---:"] * (len(head) - 1)]
    lines = [head, ruler, *body]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def write_page(path: Path, rows, differences, failures, parameters: dict) -> None:
    """The comparison as a page that needs no network.

    Args:
        path: of the page.
        rows: ``method``, ``pair`` and ``values`` of each registration.
        differences: figures (title, caption, figure) of images.
        failures: ``method``, ``pair`` and ``reason`` of each.
        parameters: of the run.
    """
    figures = list(differences)
    for name, (title, unit, _) in _columns(rows).items():
        methods = dict.fromkeys(row["method"] for row in rows)
        values = {
            m: [r["values"].get(name, np.nan) for r in rows if r["method"] == m]
            for m in methods
        }
        label = title + (f" ({unit})" if unit else "")
        figure = box_figure(values, label=label, log=name in _LOG)
        figures.append((title.capitalize(), "A point is a pair.", figure))
    notes = [f"{f['method']} failed on {f['pair']}: {f['reason']}" for f in failures]
    pairs = len({row["pair"] for row in rows})
    settings = [(key.replace("_", " "), value) for key, value in parameters.items()]
    write_report(
        path,
        title=f"Comparison of {len(summarise(rows)) - 1} methods on {pairs} pairs",
        notes=notes,
        tables=[("Mean ± deviation over pairs", *table(rows)), ("Run", (), settings)],
        figures=figures,
    )
