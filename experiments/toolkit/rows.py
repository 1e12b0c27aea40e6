"""The table of a batch: a row for each pair."""

import csv
from pathlib import Path

from regnet_jax.io import Pair, write_atomically

_MEASURES = ("correlation", "lung_correlation", "lung_overlap")
_COLUMNS = (
    *("name", "status", "seconds"),
    *(f"{name}_{moment}" for name in _MEASURES for moment in ("before", "after")),
    *("tre_before", "tre_after", "dice_before", "dice_after"),
    *("folding_fraction", "min_jacobian", "warnings", "error"),
)


def make_row(pair: Pair, status: str, report: dict) -> dict:
    """What the table says of a pair that was registered.

    Args:
        pair: of the list.
        status: how it came to its result.
        report: the content of its ``report.json``.

    Returns:
        Values by column; some columns may be missing.
    """
    row = {"name": pair.name, "status": status, "seconds": report["seconds"]["total"]}
    row["warnings"] = "; ".join(report["warnings"])
    for moment in ("before", "after"):
        for name, value in report["similarity"][moment].items():
            row[f"{name}_{moment}"] = value
        if "tre" in report:
            row[f"tre_{moment}"] = report["tre"][moment]["mean"]
        if labels := report.get("overlap", {}).get(moment):
            scores = [label["dice"] for label in labels.values()]
            row[f"dice_{moment}"] = sum(scores) / len(scores)
    if jacobian := report.get("jacobian"):
        row["folding_fraction"] = jacobian["folding_fraction"]
        row["min_jacobian"] = jacobian["min"]
    return row


def write_rows(table: Path, rows: list[dict]) -> None:
    """Writes the table as CSV, whole or not at all."""

    def write(name):
        with Path(name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
            writer.writeheader()
            for row in rows:
                writer.writerow({k: _cell(v) for k, v in row.items()})

    write_atomically(table, write)


def _cell(value):
    return f"{value:.6g}" if isinstance(value, float) else value
