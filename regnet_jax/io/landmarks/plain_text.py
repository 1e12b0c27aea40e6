"""Lines of numbers: DIR-Lab, POPI, and the landmarks of vv."""

import re
from pathlib import Path

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.io.landmarks.elastix import parse_elastix, parse_transformix
from regnet_jax.io.landmarks.parsed import (
    Parsed,
    Rows,
    has_decimal_comma,
    is_data,
    numbers,
)
from regnet_jax.io.landmarks.tables import parse_table
from regnet_jax.io.text import is_comment

# The first line of the landmarks of the POPI model.
_POPI = re.compile(r"#\s*x[\s,;]+y[\s,;]+z\s*", re.IGNORECASE)
# What separates the cells of a table.
_MARKS = set(",;\t")
_SEPARATORS, _BLANKS = re.compile(r"[\s,;]+"), re.compile(r"[\s;]+")


def parse_text(path: Path, text: str) -> Parsed:
    """Choose the format of a text file by its first line, and parse it."""
    lines = text.splitlines()
    rows = _rows(lines)
    first = rows[0][1] if rows else [""]
    if "OutputPoint" in first:
        return parse_transformix(path, text)
    if first[0].lower() in ("point", "index"):
        return parse_elastix(path, rows)
    if first[0].upper().startswith("LANDMARKS"):
        return _parse_vv(path, lines)
    if any(_POPI.fullmatch(line.strip()) for line in lines):
        return _parse_popi(path, lines)
    if not is_data(first) and _MARKS & set(lines[rows[0][0] - 1] if rows else ""):
        return parse_table(path, text)
    return _parse_dirlab(path, lines, rows)


def _rows(lines: list[str]) -> Rows:
    """Return the number and the words of each line that is not empty or a comment."""
    rows = [
        (number, _words(line))
        for number, line in enumerate(lines, 1)
        if not is_comment(line)
    ]
    return [(number, words) for number, words in rows if words]


def _words(line: str) -> list[str]:
    words = [word for word in _BLANKS.split(line) if word]
    if len(words) > 1 and any(map(has_decimal_comma, words)):
        # ``numbers`` refuses them; without their commas they would be more numbers.
        return words
    return [word for word in _SEPARATORS.split(line) if word]


def _parse_dirlab(path: Path, lines: list[str], rows: Rows) -> Parsed:
    """Parse DIR-Lab: voxel indices that count from 1, a line for each point."""
    values = numbers(path, rows, (2, 3, 4, 6))
    if (values != np.rint(values)).any():
        doubt = "holds fractions where voxel indices of DIR-Lab are whole"
        return Parsed(values, None, doubt=doubt)
    first = lines[rows[0][0] - 1] if rows else ""
    separator = next((mark for mark in ("\t", ", ", ",") if mark in first), " ")

    def rewrite(new) -> str:
        return _joined(np.rint(new).astype(int), separator)

    return Parsed(
        values,
        "voxels1",
        rewrite=rewrite if values.shape[1] < 4 else None,
        custom="DIR-Lab",
        whole=True,
    )


def _parse_popi(path: Path, lines: list[str]) -> Parsed:
    """Parse the POPI model: ``#X Y Z``, then a point in mm on each line."""
    values = numbers(path, _rows(lines), (3,))
    return Parsed(
        values,
        "lps",
        rewrite=lambda new: (
            "#X Y Z\n" + _joined([[f"{x:.6f}" for x in p] for p in new])
        ),
    )


def _parse_vv(path: Path, lines: list[str]) -> Parsed:
    """Parse vv: ``LANDMARKS1``, then index, x, y, z (mm), time, value and a comment."""
    rows = [(n, line.split(None, 6)) for n, line in enumerate(lines, 1)][1:]
    rows = [(number, words) for number, words in rows if words]
    values = numbers(path, [(number, words[1:4]) for number, words in rows], (3,))
    short = [number for number, words in rows if len(words) < 6]
    if short:
        raise InputError(
            f"{path}: line {short[0]} lacks index, x, y, z, time or value; save it"
            " again from vv"
        )
    names = tuple(words[6].strip() if len(words) > 6 else "" for _, words in rows)

    def rewrite(new) -> str:
        points = ([f"{x:.6f}" for x in point] for point in new)
        changed = [
            [words[0], *point, *words[4:6], words[6] if len(words) > 6 else ""]
            for (_, words), point in zip(rows, points, strict=True)
        ]
        return lines[0] + "\n" + _joined(changed)

    return Parsed(values, "lps", names if any(names) else (), rewrite)


def _joined(rows, separator: str = " ") -> str:
    return "".join(separator.join(map(str, row)) + "\n" for row in rows)
