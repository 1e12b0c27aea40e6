"""Point files of elastix and what transformix says of points."""

import re
from pathlib import Path

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.io.landmarks.parsed import Parsed, Rows, numbers

_COUNT = re.compile(r"[0-9]{1,18}")
_OUTPUT_POINT = re.compile(r"OutputPoint\s*=\s*\[([^\]]*)\]")


def parse_elastix(path: Path, rows: Rows) -> Parsed:
    """Parse ``point`` or ``index``, the number of points, and a line for each."""
    words = [words[0] if len(words) == 1 else "" for _, words in rows[:2]]
    if len(words) < 2 or not words[0] or not _COUNT.fullmatch(words[1]):
        raise InputError(
            f"{path}: its first line must be point or index and its second the"
            " number of points; correct them"
        )
    kind, expected, rows = words[0].lower(), int(words[1]), rows[2:]
    if len(rows) != expected:
        raise InputError(
            f"{path}: announces {expected} points and has {len(rows)}; correct the"
            " second line or copy the file again"
        )
    values = numbers(path, rows, (2, 3))
    coordinates = "voxels" if kind == "index" else "lps"
    return Parsed(values, coordinates, rewrite=lambda v: format_elastix(v, kind))


def format_elastix(values, kind: str = "point") -> str:
    """Return points ``[n, d]`` as a point file of elastix, to 1e-6."""
    rows = [" ".join(f"{value:.6f}" for value in row) for row in np.asarray(values)]
    return "\n".join([kind, str(len(rows)), *rows]) + "\n"


def parse_transformix(path: Path, text: str) -> Parsed:
    """Parse ``outputpoints.txt``: the points to which transformix mapped its input."""
    rows: Rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        found = _OUTPUT_POINT.search(line)
        if found is None:
            raise InputError(
                f"{path}: line {number} lacks OutputPoint = [ ... ]; run transformix"
                " again"
            )
        rows.append((number, found[1].split()))
    return Parsed(numbers(path, rows, (2, 3)), "lps")
