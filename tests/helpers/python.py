"""Python programs in a process of their own."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_python(source: str, **options) -> subprocess.CompletedProcess:
    """Run a program in the root of the project, and keep what it prints as text."""
    return subprocess.run(
        [sys.executable, "-c", source],
        cwd=ROOT, capture_output=True, text=True, check=False, **options,
    )  # fmt: skip
