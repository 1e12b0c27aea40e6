"""What ``experiments.register`` prints."""

from experiments.toolkit.memory import peak_gib
from regnet_jax import pretrained


def print_networks() -> None:
    """A line for each network that ships."""
    for name in pretrained.names():
        print(f"{name:15s} {pretrained.summary(name)}")


def print_outcome(report: dict, out) -> None:
    """A line for each measure before and after, the seconds, and the files.

    Args:
        report: the content of ``report.json``.
        out: the folder it is in.
    """
    moments = {m: dict(report["similarity"][m]) for m in ("before", "after")}
    if "tre" in report:
        for moment, values in moments.items():
            values["landmarks, mm"] = report["tre"][moment]["mean"]
    for measure, before in moments["before"].items():
        after = moments["after"][measure]
        print(f"{measure.replace('_', ' '):18s}{before:.3f} -> {after:.3f}")
    print(f"{'seconds':18s}{report['seconds']['total']:.1f}")
    print(f"wrote {out}/report.html, .json, transform.h5, warped and displacement")


def print_profile(seconds: dict) -> None:
    """A line for each phase, and the largest memory that the process had.

    Args:
        seconds: by phase.
    """
    total = sum(seconds.values())
    for phase, value in (*seconds.items(), ("all of these", total)):
        print(f"{phase:24s}{value:9.2f} s {100 * value / max(total, 1e-9):5.1f} %")
    print(f"{'peak memory':24s}{peak_gib():9.2f} GiB")
