"""The results of a comparison as tables and as a page."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from regnet_jax.evaluation import sample_deviation
from regnet_jax.reporting import box_figure, write_html

# Title, unit and number of digits by name, in the order of the columns.
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
    """Return the columns that contain numbers; single labels follow their mean.

    Args:
        rows: ``method``, ``pair`` and ``values`` by name of each registration.

    Returns:
        Title, unit and digits by name.
    """
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
    """Summarise the pairs, by method and column.

    Args:
        rows: as for ``columns_of``.

    Returns:
        ``n``, ``mean``, ``sd`` (of a sample) and ``median`` of the finite numbers, and
        ``undefined``, the number of others, such as distances to a missing label.
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
    """Return header and rows as text: mean, and ± sd if there are several pairs."""
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
    """Return the table in Markdown."""
    head, body = table(rows)
    ruler = ["---", *["---:"] * (len(head) - 1)]
    lines = [head, ruler, *body]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


# Columns with a logarithmic axis.
_LOG = ("seconds", "registration_seconds", "cpu_seconds", "memory")


def write_page(path: Path, rows, differences, failures, parameters: dict) -> None:
    """Write the comparison as an HTML page that loads no other files.

    Args:
        path: of the page.
        rows: ``method``, ``pair`` and ``values`` of each registration.
        differences: (title, caption, figure) of images.
        failures: ``method``, ``pair`` and ``reason`` of each.
        parameters: of the run.
    """
    figures = list(differences)
    for name, (title, unit, _) in columns_of(rows).items():
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
    methods = len(summarise(rows)) - 1
    settings = [(key.replace("_", " "), value) for key, value in parameters.items()]
    write_html(
        path,
        title=f"Comparison of {methods} methods on {pairs} pairs",
        notes=notes,
        tables=[
            ("Mean ± sd over pairs", *table(rows)),
            ("Run", (), settings),
        ],
        figures=figures,
    )
