"""The output of the commands: tables of measures, networks, seconds and memory."""

import math
from collections.abc import Collection
from typing import cast

from regnet_jax import pretrained
from regnet_jax.cli.common import peak_gib
from regnet_jax.evaluation import Similarity
from regnet_jax.reporting.schema import RegistrationReport

_TITLES = {
    "tre": "TRE (mm)",
    "tre_snapped": "TRE snapped (mm)",
    "overlap": "label",
    "similarity": "",
    "jacobian": "Jacobian",
}


def print_measures(report: dict) -> None:
    """Print a line for each measure, before and after where it has both.

    Args:
        report: from ``registration.files.evaluate_files``.
    """
    print(f"{'':36s}{'before':>10s}{'after':>10s}")
    for section, title in _TITLES.items():
        values = report.get(section) or {}
        before = _flat(values.get("before", {}), title)
        for name, value in _flat(values.get("after", values), title).items():
            cells = (before.get(name, ""), value)
            text = (f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells)
            print(f"{name:36s}" + "".join(f"{cell:>10s}" for cell in text))


def _flat(values: dict, prefix: str) -> dict[str, float]:
    """Flatten nested measures to one name each, without the intervals."""
    flat = {}
    for key, value in values.items():
        name = f"{prefix} {key.replace('_', ' ')}".strip()
        if isinstance(value, dict):
            flat |= _flat(value, name)
        elif not isinstance(value, list):
            flat[name] = value
    return flat


def print_networks() -> None:
    """Print a line for each network that ships."""
    for name in pretrained.names():
        print(f"{name:15s} {pretrained.summary(name)}")


def print_outcome(
    report: RegistrationReport, out, formats: Collection[str] = (), *, page: bool = True
) -> None:
    """Print a line for each measure before and after, the seconds, and the files.

    Args:
        report: of the registration.
        out: folder of the results.
        formats: what was written in addition.
        page: whether ``report.html`` was written.
    """
    before, after = report.before, report.after
    first, last = (cast(Similarity, m.similarity).to_dict() for m in (before, after))
    rows = [(n, v, last[n]) for n, v in first.items()]
    if before.tre is not None and after.tre is not None:
        rows.append(("landmarks, mm", before.tre.mean, after.tre.mean))
    for name, first, second in rows:
        print(f"{name.replace('_', ' '):18s}{first:.3f} -> {second:.3f}")
    for region, bound in (report.confidence or {}).items():
        print(f"{region:18s}95 % are right to {bound:.1f} mm, by the estimate")
    print(f"{'seconds':18s}{report.seconds['total']:.1f}")
    reports = "report.html, .json" if page else "report.json"
    print(f"wrote {out}/{reports}, transform.h5, warped and displacement")
    if formats:
        print(f"and there the files of --write {' '.join(formats)}")


def print_profile(seconds: dict) -> None:
    """Print a line for each phase, and the peak memory of the process if known.

    Args:
        seconds: by phase.
    """
    total = sum(seconds.values())
    for phase, value in (*seconds.items(), ("all of these", total)):
        print(f"{phase:24s}{value:9.2f} s {100 * value / max(total, 1e-9):5.1f} %")
    peak = peak_gib()
    if not math.isnan(peak):
        print(f"{'peak memory':24s}{peak:9.2f} GiB")
