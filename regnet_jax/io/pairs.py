"""Files that list pairs, and the files of a pair."""

import csv
import dataclasses
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.io.images import read_frame, read_image, read_labels, read_mask
from regnet_jax.io.landmarks import read_landmarks
from regnet_jax.io.segmentations import warn_of_other_segments
from regnet_jax.io.text import is_comment, read_lines
from regnet_jax.spatial.images import Image, warn_if_elsewhere


def listed_path(path: Path, name: str) -> Path:
    """Resolve a name in a list against the folder of the list at ``path``."""
    if len(name) > 2 and name[0] == name[-1] == '"':
        name = name[1:-1]
    return path.parent / (Path(name).expanduser() if name[:2] == "~/" else name)


# Names become names of folders.
_NAME = re.compile(r"\w[\w.+-]*")


@dataclass(frozen=True)
class PairPaths:
    """The paths of a pair of images, and what the pair is called.

    Attributes:
        name: unique in its file, whatever the case, and fit to name a folder.
        fixed: image that stays.
        moving: image that is warped.
        fixed_mask: mask that restricts the linear alignment.
        moving_mask: the same for the moving image.
        ignore_fixed: mask of what is not compared in the fixed image.
        ignore_moving: the same for the moving image.
        immobile: mask, of the fixed image, of what the linear alignment alone moves.
        fixed_points: landmarks in the fixed image.
        moving_points: the corresponding ones in the moving image.
        fixed_labels: label map of the fixed image.
        moving_labels: label map of the moving image.
        displacement: the true displacement from fixed to moving, mm, on the fixed grid.
        patient: whose images they are; no path. Statistics count pairs of one patient
            together.
    """

    name: str
    fixed: Path
    moving: Path
    fixed_mask: Path | None = None
    moving_mask: Path | None = None
    ignore_fixed: Path | None = None
    ignore_moving: Path | None = None
    immobile: Path | None = None
    fixed_points: Path | None = None
    moving_points: Path | None = None
    fixed_labels: Path | None = None
    moving_labels: Path | None = None
    displacement: Path | None = None
    patient: str | None = None

    @property
    def files(self) -> dict[str, Path]:
        """The paths that are given, by attribute."""
        given = {n: getattr(self, n) for n in _COLUMNS if n not in ("name", "patient")}
        return {name: path for name, path in given.items() if path}


_COLUMNS = tuple(field.name for field in dataclasses.fields(PairPaths))
_REQUIRED = ("name", "fixed", "moving")
# The masks, and which image each belongs to.
MASKS = {
    "fixed_mask": "fixed",
    "moving_mask": "moving",
    "ignore_fixed": "fixed",
    "ignore_moving": "moving",
    "immobile": "fixed",
}
# Neither is of use without the other.
_TOGETHER = (("fixed_points", "moving_points"), ("fixed_labels", "moving_labels"))


def read_pairs(path) -> list[PairPaths]:
    """Read a file that lists pairs.

    Args:
        path: a CSV file whose first line names columns, separated by commas,
            semicolons or tabs, or a JSON list of objects. Columns and keys are the
            attributes of ``PairPaths``, of which name, fixed and moving must be given.
            Columns may have capitals, and blanks or hyphens for underscores.
            Paths and comments are as in ``read_manifest``.

    Returns:
        The pairs in the order of the file. Whether their files exist is not
        checked, see ``check_files``.

    Raises:
        InputError: if the file cannot be understood.
    """
    path = Path(path)
    lines = read_lines(path, "pairs as CSV or JSON")
    if path.suffix.lower() == ".json":
        rows = _json_rows(path, lines)
    else:
        rows = csv_rows(path, lines, _COLUMNS)
    if not rows:
        raise InputError(
            f"{path}: lists no pair; list at least one, below a line that names the"
            " columns"
        )
    pairs = [_pair(path, where, row) for where, row in rows]
    # Folders of macOS and Windows do not tell upper from lower case.
    counts = Counter(pair.name.casefold() for pair in pairs)
    for pair in pairs:
        if counts[pair.name.casefold()] > 1:
            raise InputError(
                f"{path}: {pair.name} is there twice; give each its own name"
            )
    return pairs


def csv_rows(
    path: Path, lines: list[str], known: Sequence[str]
) -> list[tuple[str, dict[str, str]]]:
    """Read the rows of a CSV file, separated by commas, semicolons or tabs.

    Args:
        path: of the file, for messages.
        lines: of the file; the first that is neither empty nor a comment names the
            columns.
        known: the columns that there may be.

    Returns:
        Where each row stands, for messages, and its cells by column.

    Raises:
        InputError: if it is not a table, or has another column.
    """
    # Comments become empty lines, so that line numbers stay right.
    lines = ["" if is_comment(line) else line for line in lines]
    header = next((line for line in lines if line.strip()), "")
    # Column names contain none of these.
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
                columns = _columns(path, cells, known)
                continue
            where = f"{path}, line {reader.line_num}"
            count = len(columns)
            if len(cells) < count or any(cells[count:]):
                raise InputError(
                    f"{where}: has more or fewer cells than the first line; give one"
                    " cell for each column"
                )
            rows.append((where, dict(zip(columns, cells[:count], strict=True))))
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: is not valid CSV ({error}); correct it"
        ) from error
    return rows


def _columns(path: Path, cells: list[str], known: Sequence[str]) -> list[str]:
    while not cells[-1]:
        cells.pop()
    names = [re.sub(r"[\s-]+", "_", cell).lower() for cell in cells]
    for name, cell in zip(names, cells, strict=True):
        if name not in known:
            raise InputError(
                f"{path}: its first line names the columns, and {cell!r} is unknown;"
                f" there are {', '.join(known)}"
            )
        if names.count(name) > 1:
            raise InputError(f"{path}: has two columns {name!r}; leave one out")
    return names


def _json_rows(path: Path, lines: list[str]) -> list[tuple[str, dict]]:
    def unique(items: list[tuple]) -> dict:
        keys = [key for key, _ in items]
        for key in keys:
            if keys.count(key) > 1:
                raise InputError(f"{path}: has {key!r} twice in one object; correct it")
        return dict(items)

    try:
        rows = json.loads("\n".join(lines), object_pairs_hook=unique)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        # Also of numbers of too many digits and of lists within lists.
        raise InputError(f"{path}: is not valid JSON ({error}); correct it") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(
            f"{path}: is not a list of objects; give one object for each pair"
        )
    for number, row in enumerate(rows, 1):
        for key in row:
            if key not in _COLUMNS:
                known = ", ".join(_COLUMNS)
                raise InputError(
                    f"{path}, pair {number}: {key!r} is unknown; there are {known}"
                )
        if not all(isinstance(v, str | None) for v in row.values()):
            raise InputError(f"{path}, pair {number}: give text for every key")
    return [(f"{path}, pair {number}", row) for number, row in enumerate(rows, 1)]


def _pair(path: Path, where: str, row: dict) -> PairPaths:
    values = {key: (value or "").strip() for key, value in row.items()}
    values = {key: value for key, value in values.items() if value}
    missing = [key for key in _REQUIRED if key not in values]
    for first, second in _TOGETHER:
        if (first in values) != (second in values):
            missing.append(second if first in values else first)
    if missing:
        raise InputError(f"{where}: has no {missing[0]}; give it")
    name, patient = values.pop("name"), values.pop("patient", None)
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{where}: {name!r} cannot name a folder; use letters, digits, . + - _"
        )
    paths = {key: listed_path(path, value) for key, value in values.items()}
    return PairPaths(name, **paths, patient=patient)


class LoadedPair(NamedTuple):
    """A pair in memory, with its masks, landmarks and label maps.

    Attributes:
        fixed: image that stays.
        moving: image that is warped.
        masks: those that are given, by name, on the grids of their images.
        points: fixed and moving landmarks that correspond, ``[n, d]``, mm; or None.
        labels: fixed and moving label maps, or None.
    """

    fixed: Image
    moving: Image
    masks: Mapping[str, Image] = MappingProxyType({})
    points: tuple[np.ndarray, np.ndarray] | None = None
    labels: tuple[Image, Image] | None = None


def check_files(
    pair: PairPaths, dimensions: int | None = None, *, coordinates: str | None = None
) -> list[str]:
    """List the problems of a pair that its headers reveal.

    Args:
        pair: its paths.
        dimensions: of the network, which takes images of this dimension and of higher
            ones; None for any.
        coordinates: of the landmarks, see ``read_points``.

    Returns:
        A line for each problem; empty for a usable pair.
    """
    problems = []

    def attempt(read, *arguments, **options):
        try:
            return read(*arguments, **options)
        except (InputError, OSError) as error:
            problems.append(str(error))
            return None

    fixed, moving = attempt(read_frame, pair.fixed), attempt(read_frame, pair.moving)
    known = fixed or moving
    wanted = max(dimensions or 0, known.ndim if known else 0)
    masks = (getattr(pair, name) for name in MASKS)
    others = (*masks, pair.fixed_labels, pair.moving_labels)
    frames = {pair.fixed: fixed, pair.moving: moving}
    frames |= {path: attempt(read_frame, path) for path in others if path}
    problems += [
        f"{path}: is {frame.ndim}D where {wanted}D is needed; list another"
        for path, frame in frames.items()
        if frame and frame.ndim != wanted
    ]
    if pair.fixed_points and pair.moving_points and fixed and moving:
        paths = (pair.fixed_points, pair.moving_points)
        attempt(read_landmarks, paths, (fixed, moving), coordinates=coordinates)
    if pair.displacement and not Path(pair.displacement).exists():
        problems.append(f"{pair.displacement}: does not exist; check the path")
    return problems


def read_pair(pair: PairPaths, *, coordinates: str | None = None) -> LoadedPair:
    """Read images, masks, landmarks and label maps of a pair.

    Args:
        pair: its paths.
        coordinates: of the landmarks, see ``read_points``.

    Returns:
        The pair in memory.

    Raises:
        InputError: if a file cannot be read, or does not fit the others.
    """
    fixed, moving = read_image(pair.fixed), read_image(pair.moving)
    frames = {"fixed": fixed.frame, "moving": moving.frame}
    masks = {
        name: read_mask(path, frames[image])
        for name, image in MASKS.items()
        if (path := getattr(pair, name))
    }
    points = labels = None
    if pair.fixed_points and pair.moving_points:
        paths = (pair.fixed_points, pair.moving_points)
        frames = (fixed.frame, moving.frame)
        points = read_landmarks(paths, frames, coordinates=coordinates)
    if pair.fixed_labels and pair.moving_labels:
        paths = (pair.fixed_labels, pair.moving_labels)
        labels = read_labels(paths[0]), read_labels(paths[1])
        warn_of_other_segments(*paths)
        for label_map, image in zip(labels, (fixed, moving), strict=True):
            warn_if_elsewhere(label_map, image.frame)
    return LoadedPair(fixed, moving, masks, points, labels)
