"""Files that list pairs of images and what is known of each, as CSV or JSON."""

import csv
import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path

from regnet_jax.errors import InputError
from regnet_jax.io.manifests import is_comment, listed_path, read_lines

# Names become names of folders.
_NAME = re.compile(r"\w[\w.+-]*")


@dataclass(frozen=True)
class Pair:
    """A pair of images by its paths.

    Attributes:
        name: no other pair of the file has it; fit for the name of a folder.
        fixed: image that stays.
        moving: image that is warped.
        fixed_mask: where to align the fixed image.
        moving_mask: the same for the moving image.
        fixed_points: landmarks in the fixed image.
        moving_points: the same ones in the moving image.
        fixed_labels: structures in the fixed image.
        moving_labels: the same ones in the moving image.
        displacement: the true one from fixed to moving, mm, on the fixed grid.
    """

    name: str
    fixed: Path
    moving: Path
    fixed_mask: Path | None = None
    moving_mask: Path | None = None
    fixed_points: Path | None = None
    moving_points: Path | None = None
    fixed_labels: Path | None = None
    moving_labels: Path | None = None
    displacement: Path | None = None


_COLUMNS = tuple(field.name for field in dataclasses.fields(Pair))
_REQUIRED = ("name", "fixed", "moving")
# What is of no use without the other.
_TOGETHER = (("fixed_points", "moving_points"), ("fixed_labels", "moving_labels"))


def read_pairs(path) -> list[Pair]:
    """The pairs that a file lists.

    Args:
        path: a CSV file whose first line names columns, separated by commas,
            semicolons or tabs, or a JSON list of objects. Columns and keys are the
            attributes of ``Pair``, of which name, fixed and moving must be given.
            Paths and comments are as in ``read_manifest``.

    Returns:
        The pairs in the order of the file. Whether their files exist is not asked, so
        that one bad pair does not keep the others from their turn.

    Raises:
        InputError: if the file cannot be understood.
    """
    path = Path(path)
    lines = read_lines(path, "pairs as CSV or JSON")
    rows = (_json_rows if path.suffix.lower() == ".json" else _csv_rows)(path, lines)
    if not rows:
        raise InputError(f"{path}: lists no pair; list some")
    pairs = [_pair(path, where, row) for where, row in rows]
    names = [pair.name for pair in pairs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path}: {name} is there twice; give each its own name")
    return pairs


def _csv_rows(path: Path, lines: list[str]) -> list[tuple[str, dict]]:
    # Kept as empty lines, so that the numbers of the others stay.
    lines = ["" if is_comment(line) else line for line in lines]
    header = next((line for line in lines if line.strip()), "")
    # Names of columns hold none of these.
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(
        [f"{line}\n" for line in lines],
        delimiter=delimiter,
        skipinitialspace=True,
        strict=True,
    )
    columns, rows = None, []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            # Spreadsheets end lines with empty cells.
            if not any(cells):
                continue
            if columns is None:
                columns = _columns(path, cells)
                continue
            where = f"{path}, line {reader.line_num}"
            count = len(columns)
            if len(cells) < count or any(cells[count:]):
                raise InputError(
                    f"{where}: has not as many cells as the first line has; give a"
                    " cell a column"
                )
            rows.append((where, dict(zip(columns, cells[:count], strict=True))))
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: is no CSV ({error}); correct it"
        ) from error
    return rows


def _columns(path: Path, cells: list[str]) -> list[str]:
    while not cells[-1]:
        cells.pop()
    for name in cells:
        if cells.count(name) > 1:
            raise InputError(f"{path}: has two columns {name!r}; leave one out")
    return cells


def _json_rows(path: Path, lines: list[str]) -> list[tuple[str, dict]]:
    try:
        rows = json.loads("\n".join(lines))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: is no JSON ({error}); correct it") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: is no list of objects; give one object a pair")
    for number, row in enumerate(rows, 1):
        if not all(isinstance(v, str | None) for v in row.values()):
            raise InputError(f"{path}, pair {number}: give text for every key")
    return [(f"{path}, pair {number}", row) for number, row in enumerate(rows, 1)]


def _pair(path: Path, where: str, row: dict) -> Pair:
    values = {key.strip(): (value or "").strip() for key, value in row.items()}
    for key in values:
        if key not in _COLUMNS:
            known = ", ".join(_COLUMNS)
            raise InputError(f"{where}: {key!r} is unknown; there are {known}")
    values = {key: value for key, value in values.items() if value}
    missing = [key for key in _REQUIRED if key not in values]
    for first, second in _TOGETHER:
        if (first in values) != (second in values):
            missing.append(second if first in values else first)
    if missing:
        raise InputError(f"{where}: has no {missing[0]}; give it")
    name = values.pop("name")
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{where}: {name!r} is no name of a folder; use letters, digits, . + - _"
        )
    paths = {key: listed_path(path, value) for key, value in values.items()}
    return Pair(name, **paths)
