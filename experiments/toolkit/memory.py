"""The memory that this process has held."""

import resource
import sys
from pathlib import Path


def peak_gib() -> float:
    """The most that this process has held so far, GiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Unlike what getrusage says, this knows nothing of the process that
        # started this one.
        lines = dict(x.split(":", 1) for x in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
