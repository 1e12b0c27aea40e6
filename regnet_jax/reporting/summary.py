"""The report dictionary as headline numbers and tables for a person."""

from collections.abc import Mapping, Sequence
from numbers import Integral, Real

import numpy as np

# The first that is there leads.
_METRICS = {
    "lung_correlation": "correlation in the lung",
    "correlation": "correlation",
    "ncc": "correlation (NCC)",
    "lncc": "local correlation (LNCC)",
    "mi": "mutual information",
    "nmi": "normalised mutual information",
    "ssim": "structural similarity (SSIM)",
    "mae": "mean absolute difference",
    "mse": "mean squared difference",
    "rmse": "root mean squared difference",
    "psnr": "peak signal to noise ratio (PSNR)",
}
_OWN_PLACE = (
    *("seconds", "model", "similarity", "jacobian", "versions", "warnings"),
    *("tre", "tre_snapped", "overlap", "parameters", "request"),
)

_MOMENTS = ("before", "after")

Row = tuple[str, ...]
Table = tuple[str, Sequence[str], list[Row]]


def format_number(value: object) -> str:
    """A value for a person: four digits, ``n/a`` for what is missing."""
    if value is None:
        return "n/a"
    if hasattr(value, "item") and np.size(value) == 1:
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        return f"{float(value):.4g}" if np.isfinite(value) else "n/a"
    if isinstance(value, list | tuple | np.ndarray):
        return ", ".join(format_number(v) for v in value)
    return str(value)


def format_fraction(value: object) -> str:
    """A fraction in per cent; what is not zero never reads as zero."""
    if not _finite(value):
        return "n/a"
    percent = 100 * float(value)
    if 0 < percent < 0.001:
        return "< 0.001 %"
    return f"{percent:.3g} %"


def headline(report: Mapping, magnitude: np.ndarray | None = None) -> list[Row]:
    """The cards (label, value, detail) of a registration report.

    ``magnitude`` is the length of the displacements in mm, any shape.
    """
    rows = [_similarity_card(report)]
    jacobian = _mapping(report, "jacobian")
    if jacobian:
        least = f"smallest Jacobian {format_number(jacobian.get('min'))}"
        folding = format_fraction(jacobian.get("folding_fraction"))
        rows.append(("Folding", folding, least))
    if magnitude is not None and magnitude.size:
        high = f"largest {np.max(magnitude):.1f} mm"
        rows.append(("Median displacement", f"{np.median(magnitude):.1f} mm", high))
    phases = seconds_by_phase(report)
    if "total" in phases:
        longest = max((k for k in phases if k != "total"), key=phases.get, default=None)
        detail = f"longest: {longest}, {phases[longest]:.3g} s" if longest else ""
        rows.append(("Time", f"{phases['total']:.3g} s", detail))
    model = report.get("model")
    if isinstance(model, Mapping):
        model = model.get("name")
    if model:
        rows.append(("Model", str(model), ""))
    return [row for row in rows if row]


def report_tables(report: Mapping) -> list[Table]:
    """The tables (title, header, rows) of a registration report."""
    tables = [_similarity_table(report), _landmark_table(report), _label_table(report)]
    jacobian = [
        (_words(k), format_fraction(v) if k.endswith("fraction") else format_number(v))
        for k, v in flatten(_mapping(report, "jacobian"))
    ]
    tables.append(("Jacobian determinant", (), jacobian))
    phases = [(_words(k), f"{v:.3g}") for k, v in seconds_by_phase(report).items()]
    phases.sort(key=lambda row: row[0] == "total")
    tables.append(("Time", ("phase", "seconds"), phases))
    model = report.get("model")
    model = model if isinstance(model, Mapping) else {}
    tables.append(("Model", (), _text_rows(model)))
    asked = {**_mapping(report, "request"), **_mapping(report, "parameters")}
    rest = asked | {k: v for k, v in report.items() if k not in _OWN_PLACE}
    tables.append(("Parameters", (), _text_rows(rest)))
    versions = flatten(_mapping(report, "versions"))
    tables.append(("Versions", (), [(k, format_number(v)) for k, v in versions]))
    return [table for table in tables if table[2]]


def seconds_by_phase(report: Mapping) -> dict[str, float]:
    """Seconds by phase, ``total`` included, nested or not; a number is a total."""
    seconds = report.get("seconds")
    if _finite(seconds):
        return {"total": float(seconds)}
    pairs = flatten(seconds if isinstance(seconds, Mapping) else {})
    return {key.split(".")[-1]: float(v) for key, v in pairs if _finite(v)}


def flatten(tree: Mapping, prefix: str = "") -> list[tuple[str, object]]:
    """Leaves of nested mappings, with dotted names, in order."""
    leaves = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            leaves += flatten(value, f"{name}.")
        else:
            leaves.append((name, value))
    return leaves


def _similarity_card(report: Mapping) -> Row:
    before, after = _before_after(report)
    both = [name for name in before if name in after]
    if not both:
        return ()
    name = next((n for n in _METRICS if n in both), both[0])
    change = f"{format_number(before[name])} → {format_number(after[name])}"
    return ("Similarity before → after", change, _METRICS.get(name, _words(name)))


def _similarity_table(report: Mapping) -> Table:
    before, after = _before_after(report)
    rows = [
        (
            _METRICS.get(name, _words(name)),
            format_number(before.get(name)),
            format_number(after.get(name)),
        )
        for name in dict.fromkeys((*before, *after))
    ]
    return ("Similarity", ("measure", "before", "after"), rows)


def _landmark_table(report: Mapping) -> Table:
    rows = []
    for key, title in (("tre", "error"), ("tre_snapped", "error, snapped to voxels")):
        before, after = (_mapping(_mapping(report, key), m) for m in _MOMENTS)
        rows += [
            (f"{title}: {_words(name)}", *map(format_number, (value, after.get(name))))
            for name, value in before.items()
        ]
    return ("Landmarks, mm", ("measure", "before", "after"), rows)


def _label_table(report: Mapping) -> Table:
    before, after = (_mapping(_mapping(report, "overlap"), m) for m in _MOMENTS)
    rows = []
    for label, values in before.items():
        sides = (values, _mapping(after, label))
        numbers = [side.get(name) for name in ("dice", "hd95") for side in sides]
        rows.append((label, *map(format_number, numbers)))
    head = ("label", "Dice before", "Dice after", "HD95 before, mm", "HD95 after, mm")
    return ("Labels", head, rows)


def _before_after(report: Mapping) -> tuple[Mapping, Mapping]:
    """The measures before and after; a bare number becomes a measure."""
    similarity = _mapping(report, "similarity")
    sides = (similarity.get("before"), similarity.get("after"))
    return tuple(
        side if isinstance(side, Mapping) else {} if side is None else {"value": side}
        for side in sides
    )


def _text_rows(tree: Mapping) -> list[Row]:
    return [(_words(key), format_number(value)) for key, value in flatten(tree)]


def _words(name: str) -> str:
    return str(name).replace("_", " ")


def _mapping(report: Mapping, key: str) -> Mapping:
    value = report.get(key)
    return value if isinstance(value, Mapping) else {}


def _finite(value: object) -> bool:
    """Whether ``value`` is a finite number."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    return number and bool(np.isfinite(value))
