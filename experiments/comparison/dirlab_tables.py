"""The results of DIR-Lab's sets in the form in which the literature gives them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from experiments.comparison.dirlab_published import (
    CASES,
    RESULTS,
    SETS,
    Geometry,
    set_of,
)
from experiments.comparison.methods import BEFORE, REFERENCE
from experiments.text import interval, markdown, mean_and_sd
from regnet_jax.evaluation import (
    error_statistics,
    paired_difference,
    sample_deviation,
)
from regnet_jax.files import write_json, write_text

# The records of the methods on each case, by case and method.
Records = Mapping[str, Mapping[str, dict]]
_KINDS = {"errors": "tre", "snapped": "tre_snapped"}


def summarise(records: Records, methods: Sequence[str]) -> dict[str, dict]:
    """Summarise the methods over all cases of a set.

    Args:
        records: of one set.
        methods: their names, in order.

    Returns:
        By method: ``cases``, the number of cases; ``tre`` and ``tre_snapped`` of all
        landmarks together; ``tre_of_cases`` and ``tre_snapped_of_cases``, ``mean`` and
        ``sd`` of the means of cases; ``worse``, the number of cases with a larger mean
        than before; the means of ``folding`` (%) and ``seconds``; and ``difference``,
        the values of ``PairedDifference`` between the means of cases and those of
        ``regnet``, None without cases that both have.
    """
    result = {}
    for method in methods:
        mine = [case[method] for case in records.values() if method in case]
        summary: dict = {"cases": len(mine)}
        for kind, name in _KINDS.items():
            errors = [record[kind] for record in mine]
            means = [np.mean(e) for e in errors]
            summary[name] = error_statistics(np.concatenate([[], *errors])).to_dict()
            summary[f"{name}_of_cases"] = {
                "mean": float(np.mean(means)) if means else np.nan,
                "sd": sample_deviation(means),
            }
        changes = [
            np.mean(case[method]["errors"]) - np.mean(case[BEFORE]["errors"])
            for case in records.values()
            if method in case
        ]
        # So that NaN counts as worse.
        summary["worse"] = sum(not change <= 0 for change in changes)
        summary["difference"] = _difference(records, method)
        for name in ("folding", "seconds"):
            values = [r[name] for r in mine if r.get(name) is not None]
            summary[name] = float(np.mean(values)) if values else np.nan
        result[method] = summary
    return result


def _difference(records: Records, method: str) -> dict | None:
    """Return how the means of cases differ from those of the default registration."""
    both = [r for r in records.values() if method in r and REFERENCE in r]
    if not both or method == REFERENCE:
        return None
    means = (
        [float(np.mean(r[name]["errors"])) for r in both]
        for name in (method, REFERENCE)
    )
    return asdict(paired_difference(*means, [str(n) for n in range(len(both))]))


def error_table(
    records: Records, methods: Sequence[str], geometries: Mapping[str, Geometry]
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: a case a row, then all landmarks, then all cases.

    Args:
        records: of one set.
        methods: their names, in order.
        geometries: of the cases. Published values of a case are left out where its
            geometry is not the published one.

    Returns:
        Text; mean ± standard deviation, mm.
    """
    head = ["case", "landmarks", "published motion", "observers", BEFORE]
    for method in methods:
        head += [method, f"{method}, snapped"]
    body = []
    for case, mine in records.items():
        published = CASES.get(case)
        known = ["", ""]
        if published and published.geometry == geometries[case]:
            known = [f"{published.motion:.2f}", mean_and_sd(*published.observers)]
        row = [case, str(len(mine[BEFORE]["errors"])), *known]
        row.append(_error_cell(mine, BEFORE, "errors"))
        for method in methods:
            row += [_error_cell(mine, method, kind) for kind in _KINDS]
        body.append(row)
    summary = summarise(records, (BEFORE, *methods))
    for label, suffix in (("all landmarks", ""), ("mean of cases", "_of_cases")):
        n = str(summary[BEFORE]["tre"]["n"]) if not suffix else ""
        row = [label, n, "", "", _summary_cell(summary[BEFORE], f"tre{suffix}")]
        for method in methods:
            for name in _KINDS.values():
                cell = _summary_cell(summary[method], f"{name}{suffix}")
                if (cases := summary[method]["cases"]) < len(records):
                    cell += f" ({cases} of {len(records)} cases)"
                row.append(cell)
        body.append(row)
    return head, body


def method_table(
    records: Records, versions: Mapping[str, str]
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: the errors of all landmarks, folding and time."""
    body = []
    for method, summary in summarise(records, tuple(versions)).items():
        tre, found = summary["tre"], summary["difference"]
        difference = ""
        if found is not None:
            difference = f"{found['mean']:+.2f}"
            if found["pairs"] > 1:
                difference += f" {interval(found['mean_ci95'], sign='+')}"
        numbers = [f"{tre['median']:.2f}", f"{tre['p95']:.2f}", str(summary["worse"])]
        numbers += [
            difference,
            f"{summary['folding']:.4f}",
            f"{summary['seconds']:.1f}",
        ]
        body.append([method, versions[method], str(summary["cases"]), *numbers])
    return _METHOD_HEAD, body


_METHOD_HEAD = [
    *("method", "version", "cases", "median (mm)", "95th percentile (mm)"),
    *("worse cases", f"mean of cases minus {REFERENCE} (mm), 95 %", "folding (%)"),
    "time of a case (s)",
]


def published_table(name: str) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: published results on a set."""
    return ["published", "TRE (mm)", "source"], [list(r) for r in RESULTS[name]]


def write_report(
    out: Path,
    records: Records,
    geometries: Mapping[str, Geometry],
    versions: Mapping[str, str],
    parameters: dict,
    remarks: Mapping[str, Sequence[str]],
) -> str:
    """Write the tables of all sets to table.md, and their numbers to results.json.

    Args:
        out: folder of the files.
        records: of the cases of all sets.
        geometries: of the cases.
        versions: of the methods, in order.
        parameters: of the run.
        remarks: ``warnings`` and ``failures``.

    Returns:
        The text of table.md.
    """
    methods, texts, sets = tuple(versions), [], {}
    for name, of in SETS.items():
        mine = {case: r for case, r in records.items() if set_of(case) == name}
        if not mine:
            continue
        motion = f"Published motion: of {of.motion_of}."
        note = f"TRE in mm, mean ± standard deviation. {motion}"
        tables = (
            error_table(mine, methods, geometries),
            method_table(mine, versions),
            published_table(name),
        )
        texts += [f"## {of.title}", note, *(markdown(*table) for table in tables)]
        cases = {case: summarise({case: r}, tuple(r)) for case, r in mine.items()}
        published = [result._asdict() for result in RESULTS[name]]
        total = summarise(mine, (BEFORE, *methods))
        sets[name] = {"all": total, "cases": cases, "published": published}
    lines = [f"- {remark}" for some in remarks.values() for remark in some]
    text = "\n\n".join([*texts, "\n".join(lines)]).strip() + "\n"
    report = {"parameters": parameters | {"versions": versions}, "sets": sets}
    write_json(out / "results.json", report | {**remarks})
    write_text(out / "table.md", text)
    return text


def _error_cell(records: Mapping[str, dict], method: str, kind: str) -> str:
    if method not in records:
        return "failed"
    statistics = error_statistics(records[method][kind])
    return mean_and_sd(statistics.mean, statistics.sd)


def _summary_cell(summary: dict, name: str) -> str:
    return mean_and_sd(summary[name]["mean"], summary[name]["sd"])
