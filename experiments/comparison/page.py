"""A comparison as a page, with box plots and differences of images."""

from pathlib import Path

import numpy as np

from experiments.comparison import tables
from regnet_jax.reporting import box_figure, write_html

_LOG = ("seconds", "registration_seconds", "cpu_seconds", "memory")


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
    for name, (title, unit, _) in tables.columns_of(rows).items():
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
    methods = len(tables.summarise(rows)) - 1
    settings = [(key.replace("_", " "), value) for key, value in parameters.items()]
    write_html(
        path,
        title=f"Comparison of {methods} methods on {pairs} pairs",
        notes=notes,
        tables=[
            ("Mean ± deviation over pairs", *tables.table(rows)),
            ("Run", (), settings),
        ],
        figures=figures,
    )
