"""Points of VTK's legacy files, ASCII and binary; the cells on them are kept."""

import re
from pathlib import Path

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.io.landmarks.parsed import Parsed

_HEAD = re.compile(rb"# vtk DataFile Version [\d.]+[ \t]*\r?\n([^\n]*)\n(\w+)\s")
_POINTS = re.compile(rb"\nPOINTS[ \t]+(\d+)[ \t]+(\w+)[ \t]*\r?\n", re.IGNORECASE)
# Binary numbers are big-endian.
_TYPES = {b"float": ">f4", b"double": ">f8", b"int": ">i4", b"short": ">i2"}


def parse_vtk(path: Path, content: bytes) -> Parsed:
    """Parse the POINTS of a legacy file (POLYDATA and others), in mm.

    They are in LPS, as ITK, elastix and 3D Slicer write them, unless the title, the
    second line, says ``SPACE=RAS``.

    Args:
        path: in messages.
        content: of the file.

    Returns:
        The points, ``[n, 3]``.

    Raises:
        InputError: another file, or a truncated one.
    """
    head, found = _HEAD.match(content), _POINTS.search(content)
    if head is None or found is None or found[2].lower() not in _TYPES:
        raise InputError(
            f"{path}: is not a legacy VTK file with POINTS of float or double; save it"
            " as one"
        )
    count, kind, start = int(found[1]), np.dtype(_TYPES[found[2].lower()]), found.end()
    binary = head[2].upper() == b"BINARY"
    if binary:
        end = start + 3 * count * kind.itemsize
        values = np.frombuffer(
            content[start:end][: 3 * count * kind.itemsize], np.uint8
        )
        whole = values.size == end - start
        values = values.view(kind).astype(np.float64) if whole else None
    else:
        words = list(re.finditer(rb"\S+", content[start:]))[: 3 * count]
        end = start + (words[-1].end() if words else 0)
        values = _floats(words) if len(words) == 3 * count else None
    if values is None:
        raise InputError(
            f"{path}: announces {count} points and has fewer; copy or save it again"
        )
    if not binary and _starts_with_number(content[end:]):
        raise InputError(
            f"{path}: announces {count} points and has more; correct the number behind"
            " POINTS, or save it again"
        )

    def rewrite(new) -> bytes:
        # Fractions do not fit into a type of whole numbers.
        name = found[2] if kind.kind == "f" else b"double"
        line = b"\nPOINTS %d %s\n" % (count, name)
        points = _binary(new, name) if binary else _ascii(new)
        return content[: found.start()] + line + points + content[end:]

    ras = b"SPACE=RAS" in head[1]
    return Parsed(
        values.reshape(-1, 3),
        "ras" if ras else "lps",
        rewrite=rewrite,
        custom="" if b"SPACE=" in head[1] else "ITK",
    )


def format_vtk(points) -> bytes:
    """Return world points ``[n, d]`` as ASCII POLYDATA with a vertex at each."""
    points = np.asarray(points, np.float64)
    points = np.pad(points, ((0, 0), (0, 3 - points.shape[1])))
    count = len(points)
    head = (
        "# vtk DataFile Version 3.0\npoints SPACE=LPS\nASCII\nDATASET POLYDATA\n"
        f"POINTS {count} double\n"
    )
    cells = "".join(f"1 {number}\n" for number in range(count))
    tail = f"\nVERTICES {count} {2 * count}\n{cells}"
    return head.encode() + _ascii(points) + tail.encode()


def _starts_with_number(content: bytes) -> bool:
    word = re.match(rb"\s*\S+", content)
    return word is not None and _floats([word]) is not None


def _floats(words) -> np.ndarray | None:
    try:
        return np.array([float(word[0]) for word in words])
    except ValueError:
        return None


def _ascii(points) -> bytes:
    rows = (" ".join(f"{value:.6f}" for value in point) for point in np.asarray(points))
    return "\n".join(rows).encode()


def _binary(points, kind: bytes) -> bytes:
    return np.asarray(points).astype(_TYPES[kind.lower()]).tobytes()
