"""Files that list images."""

import csv
import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.io.dicom import split_series
from regnet_jax.io.images import read_frame, read_image, read_labels, read_mask
from regnet_jax.io.landmarks import read_landmarks
from regnet_jax.spatial.images import Image, check_pair


def read_manifest(path) -> list[Path]:
    """The images that a text file names, a path a line.

    Args:
        path: of the file, UTF-8. Relative paths in it start from its folder, ``~/``
            from the home folder. Empty lines and those that begin with ``#`` are left
            out; a name that begins so is written ``./#name``, and one that begins or
            ends with spaces stands in double quotes.

    Returns:
        Paths of existing files or folders; ``FOLDER::SERIES`` as in ``read_image``.

    Raises:
        InputError: if the file or an image is missing, or none is named.
    """
    path = Path(path)
    lines = read_lines(path, "images, a path a line")
    lines = [line.strip() for line in lines if not is_comment(line)]
    images = [listed_path(path, line) for line in lines if line]
    if not images:
        raise InputError(f"{path}: names no image; list them, a path a line")
    for image in images:
        try:
            split_series(image)
        except InputError as error:
            raise InputError(
                f"{path}: {image} does not exist; correct the line (a comment has a"
                " line of its own)"
            ) from error
    return images


def read_lines(path: Path, content: str) -> list[str]:
    """The lines of a text file that lists something.

    Args:
        path: of the file.
        content: what it should list, for the message.

    Raises:
        InputError: if it is missing, or is not UTF-8.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; name one that lists {content}")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}: is no text in UTF-8, line {number} is not; list {content}, and"
            " save it as UTF-8"
        ) from error
    # Other separators that Python knows can be letters of a name.
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def is_comment(line: str) -> bool:
    """Whether a line of a list is a remark, and names nothing."""
    return line.lstrip().startswith("#")


def listed_path(path: Path, name: str) -> Path:
    """The path that a name in a list means, seen from the folder of the list."""
    if len(name) > 2 and name[0] == name[-1] == '"':
        name = name[1:-1]
    return path.parent / (Path(name).expanduser() if name[:2] == "~/" else name)


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


class KnownPair(NamedTuple):
    """A pair in memory, with what is known of it.

    Attributes:
        fixed: image that stays.
        moving: image that is warped.
        fixed_mask: where to align the fixed image, or None.
        moving_mask: the same for the moving image.
        points: fixed and moving landmarks that correspond, ``[n, d]``, mm; or None.
        labels: fixed and moving label maps, or None.
    """

    fixed: Image
    moving: Image
    fixed_mask: Image | None = None
    moving_mask: Image | None = None
    points: tuple[np.ndarray, np.ndarray] | None = None
    labels: tuple[Image, Image] | None = None


def check_files(pair: Pair, dimensions: int | None = None) -> list[str]:
    """What keeps a pair from being used, as far as headers tell.

    Args:
        pair: its paths.
        dimensions: that its images must have; None for any.

    Returns:
        A line for each thing that is wrong; none where nothing is.
    """
    problems = []

    def attempt(read, *arguments):
        try:
            return read(*arguments)
        except (InputError, OSError) as error:
            problems.append(str(error))
            return None

    fixed, moving = attempt(read_frame, pair.fixed), attempt(read_frame, pair.moving)
    known = fixed or moving
    wanted = dimensions or (known and known.ndim)
    others = (pair.fixed_mask, pair.moving_mask, pair.fixed_labels, pair.moving_labels)
    frames = {pair.fixed: fixed, pair.moving: moving}
    frames |= {path: attempt(read_frame, path) for path in others if path}
    problems += [
        f"{path}: is {frame.ndim}D where {wanted}D is needed; list another"
        for path, frame in frames.items()
        if frame and frame.ndim != wanted
    ]
    if pair.fixed_points and pair.moving_points and fixed and moving:
        paths = (pair.fixed_points, pair.moving_points)
        attempt(read_landmarks, paths, (fixed, moving))
    if pair.displacement and not Path(pair.displacement).exists():
        problems.append(f"{pair.displacement}: does not exist; check the path")
    return problems


def read_pair(pair: Pair) -> KnownPair:
    """Reads images, masks, landmarks and label maps of a pair.

    Args:
        pair: its paths.

    Returns:
        What the paths hold.

    Raises:
        InputError: if a file cannot be read, or does not fit the others.
    """
    fixed, moving = read_image(pair.fixed), read_image(pair.moving)
    check_pair(fixed, moving)
    masks = (
        path and read_mask(path, image.frame)
        for path, image in ((pair.fixed_mask, fixed), (pair.moving_mask, moving))
    )
    points = labels = None
    if pair.fixed_points and pair.moving_points:
        paths = (pair.fixed_points, pair.moving_points)
        points = read_landmarks(paths, (fixed.frame, moving.frame))
    if pair.fixed_labels and pair.moving_labels:
        labels = read_labels(pair.fixed_labels), read_labels(pair.moving_labels)
    return KnownPair(fixed, moving, *masks, points, labels)
