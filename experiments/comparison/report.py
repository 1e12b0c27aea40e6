"""The files of a comparison: a page, tables and the numbers of every registration."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.comparison import tables
from experiments.comparison.methods import METHODS
from experiments.comparison.results import Compared
from regnet_jax.files import write_json, write_text
from regnet_jax.reporting import box_figure, write_html

# Columns with a logarithmic axis.
_LOGARITHMIC = tuple(tables.COSTS)


def write_report(
    folder: Path, found: Compared, parameters: Mapping, names: Sequence[str]
) -> str:
    """Write report.html, table.md and results.json, and print the notes.

    Args:
        folder: for the files; it must exist.
        found: the results, with one row at least.
        parameters: of the run.
        names: of the methods.

    Returns:
        The tables for the terminal.
    """
    notes = method_notes(found.rows)
    if found.reused:
        notes.insert(0, f"results and times of earlier runs: {found.reused}")
    for note in notes:
        print(f"note: {note}")
    report = {
        "parameters": parameters,
        "methods": {name: METHODS[name].description for name in names},
        "summary": tables.summarise(found.rows, found.failures),
        "failures": found.failures,
        "rows": found.rows,
    }
    write_json(folder / "results.json", report)
    made = tables.make_tables(found.rows, found.failures)
    write_text(folder / "table.md", tables.markdown(made))
    _write_page(folder / "report.html", found, made, notes, parameters)
    return tables.plain(made)


def method_notes(rows: Sequence[dict]) -> list[str]:
    """Return each warning of a method once, with the pairs that it concerns."""
    pairs: dict = {}
    for row in rows:
        for note in row.get("notes", ()):
            pairs.setdefault((row["method"], note), []).append(row["pair"])
    return [
        f"{method} on {', '.join(names)}: {note}"
        for (method, note), names in pairs.items()
    ]


def _write_page(
    path: Path, found: Compared, made, notes: Sequence[str], parameters: Mapping
) -> None:
    """Write the comparison as an HTML page that loads no other files."""
    rows = found.rows
    caption = f"Fixed minus warped image of {rows[0]['pair']}; white is none."
    figures = [("Difference", caption, found.figure)]
    methods = dict.fromkeys(row["method"] for row in rows)
    columns = tables.ACCURACY | tables.LIKENESS | tables.COSTS
    for name, (title, unit, _) in tables.columns_of(rows, columns).items():
        values = {
            m: [r["values"].get(name, np.nan) for r in rows if r["method"] == m]
            for m in methods
        }
        label = tables.with_unit(title, unit)
        figure = box_figure(values, label=label, log=name in _LOGARITHMIC)
        title = title[0].upper() + title[1:]
        figures.append((title, "A point is a pair.", figure))
    failed = [
        f"{f['method']} failed on {f['pair']}: {f['reason']}" for f in found.failures
    ]
    pairs = len({row["pair"] for row in rows})
    settings = [(key.replace("_", " "), value) for key, value in parameters.items()]
    write_html(
        path,
        title=f"Comparison of {len(methods) - 1} methods on {pairs} pairs",
        notes=[*failed, *notes, *tables.LEGEND],
        tables=[*made, ("Run", (), settings)],
        figures=figures,
    )
