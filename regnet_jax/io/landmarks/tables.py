"""Tables of points: the CSV files of ANTs, BraTS-Reg, Learn2Reg, 3D Slicer and others.

The header says what the columns mean, and everything that is not a coordinate is kept
when the table is written with other points.
"""

import csv
import io
import re
from pathlib import Path

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.io.landmarks.parsed import (
    Parsed,
    Rows,
    csv_words,
    is_data,
    numbers,
    shown_number,
)
from regnet_jax.io.text import is_comment

# Names of columns, of which only letters and digits count, and their coordinates.
_AXES = {
    **dict.fromkeys((("l", "p", "s"), ("xlps", "ylps", "zlps")), "lps"),
    **dict.fromkeys((("xmm", "ymm", "zmm"), ("mmx", "mmy", "mmz")), "lps"),
    **dict.fromkeys((("r", "a", "s"), ("xras", "yras", "zras")), "ras"),
    **{
        tuple(form.format(axis) for axis in axes): "voxels"
        for form in ("{}vox", "{}voxel", "{}voxels", "vox{}", "voxel{}", "{}index")
        for axes in ("xyz", "ijk")
    },
    ("i", "j", "k"): "voxels",
    ("x", "y", "z"): None,
}
_AXIS_NAMES = {name for axes in _AXES for name in axes}
# Columns of a table of fixed and moving points.
_PAIRS = tuple(
    tuple(form.format(axis=axis, image=image) for image in images for axis in "xyz")
    for images in (("fixed", "moving"), ("fix", "mov"), ("f", "m"), ("1", "2"))
    for form in ("{axis}{image}", "{image}{axis}")
)
_NAMES = (
    *("name", "label", "landmark", "id", "landmarkname", "landmarkid"),
    *("point", "pointname", "pointid"),
)
_DOUBT = "does not say whether x, y and z are mm or voxels"

# Of rows without a value, as spreadsheets write them.
_NO_CELL = " \t,;"


def parse_table(path: Path, text: str) -> Parsed:
    """Parse a table with a header, or the voxel indices (from 0) of Learn2Reg.

    Args:
        path: in messages.
        text: with lines of numbers, and possibly a header and comments after #.

    Returns:
        Points in mm (LPS) under the header of ANTs (x, y, z, t) or of BraTS-Reg
        (Landmark, X, Y, Z); as the names of other columns say, such as x_mm, r or i;
        and without a header voxel indices. ``custom`` tells where that is a custom.

    Raises:
        InputError: a header without coordinates, or lines that are not numbers.
    """
    lines = text.splitlines()
    used = [
        (number, line)
        for number, line in enumerate(lines, 1)
        if line.strip(_NO_CELL) and not is_comment(line)
    ]
    first = used[0][1] if used else ""
    # Where it is not the comma, that may stand within numbers.
    separator = next((mark for mark in "\t;" if mark in first), ",")
    rows: Rows = [
        (number, [w.strip() for w in csv_words(path, number, line, separator)])
        for number, line in used
    ]
    if not rows or is_data(rows[0][1]) or len(rows[0][1]) < 2:
        values = numbers(path, rows, (2, 3, 4, 6))
        columns, coordinates, names = list(range(values.shape[1])), "voxels", ()
        custom = "Learn2Reg"
    else:
        columns, coordinates = _find_columns(path, rows[0][1])
        header = [_plain(word) for word in rows[0][1]]
        custom = "BraTS-Reg" if _is_of_brats(header, coordinates) else ""
        rows = rows[1:]
        for number, words in rows:
            if any(words[len(header) :]):
                raise InputError(
                    f"{path}: line {number} has more cells than the header; put quotes"
                    " around text with commas, and write 1.5 instead of 1,5"
                )
        values = _pick(path, rows, columns)
        names = _pick_names(rows, header)

    def rewrite(new) -> str:
        return format_table(lines, rows, columns, new, separator)

    doubt, guess = (_DOUBT, "voxels") if coordinates is None else ("", None)
    kept = rewrite if len(columns) < 4 else None
    return Parsed(values, coordinates, names, kept, custom, doubt, guess)


def format_table(lines, rows: Rows, columns, values, separator: str = ",") -> str:
    """Return the lines of a table with other coordinates in some of its columns.

    Args:
        lines: of the file.
        rows: the number, from 1, and the words of each line with a point.
        columns: of the coordinates.
        values: ``[n, len(columns)]`` new coordinates.
        separator: of the words.

    Returns:
        The text.
    """
    changed = list(lines)
    for (number, words), point in zip(rows, np.asarray(values), strict=True):
        words = list(words)
        for column, value in zip(columns, point, strict=True):
            words[column] = shown_number(value)
        line = io.StringIO()
        csv.writer(line, delimiter=separator, lineterminator="\n").writerow(words)
        changed[number - 1] = line.getvalue().rstrip("\n")
    return "\n".join(changed) + "\n"


def format_ants(points, names=(), separator: str = ",") -> str:
    """Return world points ``[n, d]`` as the CSV of ANTs, with names as labels."""
    points = np.asarray(points)
    flat = points.shape[1] == 2
    table = io.StringIO()
    writer = csv.writer(table, delimiter=separator, lineterminator="\n")
    writer.writerow(["x", "y", "z", "t", *(["label"] if names else [])])
    for number, point in enumerate(points):
        words = [shown_number(value) for value in point] + ["0"] * flat
        writer.writerow([*words, "0", *names[number : number + 1]])
    return table.getvalue()


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())


def _find_columns(path: Path, words: list[str]) -> tuple[list[int], str | None]:
    """Return the columns of the coordinates, and which coordinates they are."""
    header = [_plain(word) for word in words]
    for name, word in zip(header, words, strict=True):
        if name in _AXIS_NAMES and header.count(name) > 1:
            raise InputError(f"{path}: has two columns {word!r}; leave one out")
    for pair in _PAIRS:
        if set(pair) <= set(header):
            return [header.index(name) for name in pair], None
    for axes, coordinates in _AXES.items():
        flat = axes[2] not in header and axes[0] not in ("l", "r")
        axes = axes[:2] if flat else axes
        if set(axes) <= set(header):
            columns = [header.index(name) for name in axes]
            # The headers of ANTs, and of the challenge BraTS-Reg.
            known = axes[0] == "x" and ("t" in header or header[0] == "landmark")
            return columns, "lps" if known else coordinates
    if columns := _two_images(header):
        return columns, None
    raise InputError(
        f"{path}: its header names no coordinates; name the columns x,y,z,t (mm, LPS),"
        " r,a,s (mm) or i,j,k (voxels from 0)"
    )


def _is_of_brats(header: list[str], coordinates: str | None) -> bool:
    """Tell whether the columns landmark, x, y, z alone stand for mm."""
    alone = {*"xyz"} <= {*header} and "t" not in header
    return coordinates == "lps" and header[0] == "landmark" and alone


def _two_images(header: list[str]) -> list[int]:
    """Return the columns of such names as exhale_x; the first image is the fixed one.

    The list is empty if the header does not name the same axes of just two images.
    """
    for form in ("(?P<axis>[xyz])(?P<image>.+)", "(?P<image>.+)(?P<axis>[xyz])"):
        found: dict[str, dict[str, int]] = {}
        for column, word in enumerate(header):
            if match := re.fullmatch(form, word):
                found.setdefault(match["image"], {})[match["axis"]] = column
        if len(found) == 2 and all({*axes} == {*"xyz"} for axes in found.values()):
            return [axes[axis] for axes in found.values() for axis in "xyz"]
    return []


def _pick(path: Path, rows: Rows, columns: list[int]) -> np.ndarray:
    picked = [
        (number, [words[k] if k < len(words) else "" for k in columns])
        for number, words in rows
    ]
    return numbers(path, picked, (len(columns),))


def _pick_names(rows: Rows, header: list[str]) -> tuple[str, ...]:
    column = next((header.index(name) for name in _NAMES if name in header), None)
    if column is None:
        return ()
    return tuple(words[column] if column < len(words) else "" for _, words in rows)
