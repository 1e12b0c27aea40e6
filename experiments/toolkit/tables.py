"""Measures as a JSON file, and as a table on the terminal."""

from pathlib import Path

from regnet_jax.io import strict_json, write_atomically

_TITLES = {
    "tre": "TRE (mm)",
    "tre_snapped": "TRE snapped (mm)",
    "overlap": "label",
    "similarity": "",
    "jacobian": "Jacobian",
}


def write_measures(path, report: dict) -> None:
    """Writes measures as JSON, whole or not at all; what is not finite is null."""
    text = strict_json(report, indent=2) + "\n"
    write_atomically(path, lambda name: Path(name).write_text(text, "utf-8"))


def print_measures(report: dict) -> None:
    """Prints a line for each measure, before and after where it has both."""
    print(f"{'':36s}{'before':>10s}{'after':>10s}")
    for section, title in _TITLES.items():
        values = report.get(section) or {}
        before = _flat(values.get("before", {}), title)
        for name, value in _flat(values.get("after", values), title).items():
            cells = (before.get(name, ""), value)
            text = (f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells)
            print(f"{name:36s}" + "".join(f"{cell:>10s}" for cell in text))


def _flat(values: dict, prefix: str) -> dict[str, float]:
    """Nested measures under one name each; intervals are left to the file."""
    flat = {}
    for key, value in values.items():
        name = f"{prefix} {key.replace('_', ' ')}".strip()
        if isinstance(value, dict):
            flat |= _flat(value, name)
        elif not isinstance(value, list):
            flat[name] = value
    return flat
