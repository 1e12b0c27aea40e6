"""The tables of an assessment: by family, by region and by size of the displacement."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict

from experiments.heldout.artificial import BEFORE, REGIONS, SIZES
from experiments.text import interval, mean_and_sd, plain
from regnet_jax.evaluation import (
    PairedDifference,
    PairErrors,
    Statistics,
    paired_difference,
    statistics_over_pairs,
)

ALL = "all"
TITLES = {
    "family": "Families, errors over the body",
    "region": "Regions, errors of all families",
    "displacement": "True displacements, errors over the body",
}


def make_tables(rows: Sequence[dict]) -> list[dict]:
    """Summarise pairs by family, by region and by size of the true displacement.

    Args:
        rows: from ``artificial.measure_case``.

    Returns:
        A row for each group and method: ``table``, a key of ``TITLES``; ``group``;
        ``method``; ``statistics``, an ``evaluation.Statistics``; ``failed``, the number
        of pairs on which the method failed; and ``difference``, an
        ``evaluation.PairedDifference`` from the first method after ``before``, None for
        these two. Groups without a voxel in any pair are left out.
    """
    families = dict.fromkeys(row["family"] for row in rows)
    groups = [
        ("family", name, "body", [row for row in rows if row["family"] == name])
        for name in families
    ]
    groups += [("family", ALL, "body", rows)]
    groups += [("region", name, name, rows) for name in REGIONS]
    groups += [("displacement", name, name, rows) for name in SIZES]
    return [line for group in groups for line in _lines(*group)]


def _lines(table: str, group: str, voxels: str, rows: Sequence[dict]) -> list[dict]:
    rows = [row for row in rows if voxels in row["errors"][BEFORE]]
    if not rows:
        return []
    patients = [row["patient"] for row in rows]
    errors = {
        method: [PairErrors(**row["errors"][method][voxels]) for row in rows]
        for method in rows[0]["errors"]
    }
    means = {method: [e.mean for e in values] for method, values in errors.items()}
    first, *others = (method for method in errors if method != BEFORE)
    return [
        {
            "table": table,
            "group": group,
            "method": method,
            "statistics": statistics_over_pairs(values, patients),
            "failed": sum(method in row["failed"] for row in rows),
            "difference": paired_difference(means[method], means[first], patients)
            if method in others
            else None,
        }
        for method, values in errors.items()
    ]


def overall(rows: Sequence[dict]) -> dict[str, Statistics]:
    """Return the statistics over the body of all pairs, by method."""
    body = [line for line in make_tables(rows) if line["group"] == ALL]
    return {line["method"]: line["statistics"] for line in body}


def as_json(tables: Sequence[dict]) -> list[dict]:
    """Return the tables as values for JSON.

    Args:
        tables: from ``make_tables``.

    Returns:
        Flat rows, but for intervals, which are pairs of numbers. The names of the
        difference begin with ``difference_``.
    """
    rows = []
    for line in tables:
        row = {name: line[name] for name in ("table", "group", "method")}
        row |= asdict(line["statistics"]) | {"failed": line["failed"]}
        if line["difference"]:
            found = asdict(line["difference"])
            kept = ("mean", "sd", "mean_ci95")
            row |= {f"difference_{name}": found[name] for name in kept}
            row |= {"difference_better": found["smaller"]}
        rows.append(row)
    return rows


def as_csv(tables: Sequence[dict]) -> str:
    """Return the tables as CSV: the rows of ``as_json``, an interval in two columns."""
    rows = [_flat(row) for row in as_json(tables)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(row: dict) -> dict:
    cells = {}
    for name, value in row.items():
        if isinstance(value, tuple):
            cells[f"{name}_low"], cells[f"{name}_high"] = value
        else:
            cells[name] = value
    # A number that does not exist is an empty cell; NaN differs from itself.
    return {name: "" if value != value else value for name, value in cells.items()}


def as_text(tables: Sequence[dict]) -> str:
    """Return the tables for a terminal."""
    blocks = []
    for table, title in TITLES.items():
        lines = [line for line in tables if line["table"] == table]
        cells = [[*_cells(line["statistics"]), str(line["failed"])] for line in lines]
        blocks.append(block(f"{title}, mm", _HEAD, lines, cells))
    compared = [line for line in tables if line["difference"]]
    if compared:
        first = next(x["method"] for x in tables if x["method"] != BEFORE)
        title = f"Error minus that of {first} on the same pairs, mm"
        cells = [_difference_cells(line["difference"]) for line in compared]
        blocks.append(block(title, _DIFFERENCE_HEAD, compared, cells))
    if any(line["statistics"].interval_over == "pairs" for line in tables):
        blocks.append("* over the pairs of one patient, so it says nothing of others")
    return "\n\n".join(blocks)


_HEAD = (
    *("pairs", "patients", "mean ± sd", "95 % interval", "median", "p95", "< 2 mm"),
    *("ratio", "95 % interval", "worse", "failed"),
)
_DIFFERENCE_HEAD = ("pairs", "patients", "mean ± sd", "95 % interval", "better")


def _cells(found: Statistics) -> list[str]:
    return [
        str(found.pairs),
        str(found.patients),
        mean_and_sd(found.mean, found.sd),
        _interval(found.mean_ci95, found.interval_over),
        f"{found.median:.2f}",
        f"{found.p95:.2f}",
        f"{100 * found.under_2mm:.0f} %",
        f"{found.ratio:.3f}",
        _interval(found.ratio_ci95, found.interval_over),
        f"{found.worse} ({100 * found.worse_fraction:.0f} %)",
    ]


def _difference_cells(found: PairedDifference) -> list[str]:
    return [
        str(found.pairs),
        str(found.patients),
        mean_and_sd(found.mean, found.sd, sign="+"),
        _interval(found.mean_ci95, found.interval_over),
        f"{found.smaller} ({100 * found.smaller / found.pairs:.0f} %)",
    ]


def _interval(ends: tuple[float, float], unit: str) -> str:
    return interval(ends) + " *" * (unit != "patients")


def block(title: str, head: Sequence[str], lines, cells) -> str:
    """Return a table of groups and methods as text.

    Args:
        title: of the table.
        head: of the columns of ``cells``.
        lines: a mapping for each row, with ``group`` and ``method``.
        cells: the texts of each row.
    """
    rows = [
        [
            line["group"],
            line["method"],
            *("" if "nan" in cell else cell for cell in row),
        ]
        for line, row in zip(lines, cells, strict=True)
    ]
    return f"{title}\n{plain(['', '', *head], rows, left=2)}"
