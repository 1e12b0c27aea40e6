"""Landmarks from and to files, as world points.

Points are ``[n, d]`` float64, mm, (x, y, z), LPS as in ITK. Whatever cannot be used
raises ``InputError`` with one line that names the file.
"""

import csv
import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.files import check_suffix, write_text
from regnet_jax.spatial.frames import Frame, to_world

# The formats that are written.
POINT_SUFFIXES = (".pts", ".txt")
# Signs that bring (x, y, z) to LPS. Slicer wrote numbers until version 4.10.
_TO_LPS = {
    "LPS": (1.0, 1.0, 1.0),
    "1": (1.0, 1.0, 1.0),
    "RAS": (-1.0, -1.0, 1.0),
    "0": (-1.0, -1.0, 1.0),
}


class Parsed(NamedTuple):
    """The points of a file, as it holds them.

    Attributes:
        values: ``[n, d]`` float64, x first.
        voxels: whether they are voxel indices, from 0, and not mm (LPS).
    """

    values: np.ndarray
    voxels: bool


def parse_elastix(path: Path, text: str) -> Parsed:
    """Parse ``point`` or ``index``, the number of points, and a line for each."""
    lines = _rows(text)
    words = [words[0] if len(words) == 1 else "" for _, words in lines[:2]]
    if len(words) < 2 or not words[0] or not words[1].isdecimal():
        raise InputError(
            f"{path}: its first line must be point or index and its second the"
            " number of points; correct them"
        )
    kind, expected, rows = words[0].lower(), int(words[1]), lines[2:]
    if len(rows) != expected:
        raise InputError(
            f"{path}: announces {expected} points and has {len(rows)}; correct the"
            " second line or copy the file again"
        )
    return Parsed(_numbers(path, rows), kind == "index")


def parse_dirlab(path: Path, text: str) -> Parsed:
    """Parse DIR-Lab: voxel indices that count from 1, a line for each point."""
    values = _numbers(path, _rows(text))
    if (values != np.rint(values)).any():
        raise InputError(
            f"{path}: holds fractions where voxel indices of DIR-Lab are whole; for"
            " points in mm begin with a line point and a line with their number"
        )
    return Parsed(values - 1, True)


def parse_csv(path: Path, text: str) -> Parsed:
    """Parse Learn2Reg: voxel indices that count from 0, separated by commas."""
    return Parsed(_numbers(path, _rows(text, ",")), True)


def parse_fcsv(path: Path, text: str) -> Parsed:
    """Parse 3D Slicer's old format: a table below a header of comments."""
    header, rows = {}, []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            key, _, value = line[1:].partition("=")
            header[key.strip()] = value.strip()
        elif line.strip():
            rows.append((number, next(csv.reader([line]))))
    signs = _signs(path, header.get("CoordinateSystem"))
    columns = [name.strip() for name in header.get("columns", "id,x,y,z").split(",")]
    if not {"x", "y", "z"} <= set(columns):
        raise InputError(f"{path}: its columns lack x, y or z; export it again")
    places = [columns.index(name) for name in "xyz"]
    words = [(n, [row[k] if k < len(row) else "" for k in places]) for n, row in rows]
    return Parsed(_numbers(path, words) * signs, False)


def parse_markups(path: Path, text: str) -> Parsed:
    """Parse 3D Slicer's markups: the control points of the only list in the file."""
    try:
        lists = json.loads(text)["markups"]
        if len(lists) != 1:
            raise InputError(
                f"{path}: holds {len(lists)} lists of points; save one to a file of"
                " its own"
            )
        # Slicer's schema has LPS and mm as defaults.
        signs = _signs(path, lists[0].get("coordinateSystem", "LPS"))
        unit = lists[0].get("coordinateUnits", "mm")
        positions = [p.get("position") for p in lists[0]["controlPoints"]]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: is not a list of markups of 3D Slicer; export it again"
        ) from None
    if unit not in ("mm", ["mm"]):
        raise InputError(f"{path}: is in {unit}; export it in mm")
    for number, position in enumerate(positions, 1):
        if not _is_position(position):
            raise InputError(
                f"{path}: control point {number} has no position of 3 numbers; place"
                " or delete it"
            )
    return Parsed(np.array(positions, np.float64).reshape(-1, 3) * signs, False)


def _signs(path: Path, system: str | None) -> np.ndarray:
    if system not in _TO_LPS:
        fact = "names no coordinate system" if system is None else f"is in {system}"
        raise InputError(f"{path}: {fact}; save its points in LPS or RAS")
    return np.array(_TO_LPS[system])


def _is_position(position) -> bool:
    return (
        isinstance(position, list)
        and len(position) == 3
        and all(type(value) in (int, float) for value in position)
    )


def _rows(text: str, separator: str | None = None) -> list[tuple[int, list[str]]]:
    """Return the number and the words of each line that is not empty."""
    lines = enumerate(text.splitlines(), 1)
    return [(number, line.split(separator)) for number, line in lines if line.strip()]


def _numbers(path: Path, rows) -> np.ndarray:
    """``[n, d]`` of rows of words that are d numbers each, 2 or 3."""
    values: list[list[float]] = []
    for number, words in rows:
        try:
            values.append([float(word) for word in words])
        except ValueError:
            raise InputError(
                f"{path}: line {number} is not all numbers; give one point on each line"
            ) from None
        wanted = (len(values[0]),) if 2 <= len(values[0]) <= 3 else (2, 3)
        if len(words) not in wanted:
            needed = " or ".join(map(str, wanted))
            raise InputError(
                f"{path}: line {number} has {len(words)} numbers where {needed} are"
                " needed; give one point on each line"
            )
    return np.array(values) if values else np.empty((0, 3))


def read_points(path, frame: Frame | None = None) -> np.ndarray:
    """Read landmarks.

    Args:
        path: .pts or .txt, which is a point file of elastix if its first word is
            ``point`` or ``index`` and voxel indices of DIR-Lab (from 1) if not;
            .csv, voxel indices of Learn2Reg (from 0); .fcsv or .mrk.json of 3D
            Slicer.
        frame: of the image that the landmarks lie in. Files of voxel indices need
            it; for others it only gives the number of coordinates.

    Returns:
        ``[n, d]``, at least one point.

    Raises:
        InputError: missing, empty or malformed file; NaN; voxel indices without a
            frame or outside of it; points of another dimension than the frame.
    """
    path = Path(path)
    values, voxels = _parse(path, _read_text(path))
    if not len(values):
        raise InputError(f"{path}: holds no point; give one at least")
    if not np.isfinite(values).all():
        number = np.flatnonzero(~np.isfinite(values).all(axis=1))[0] + 1
        raise InputError(f"{path}: point {number} is NaN or infinite; remove it")
    d = values.shape[1]
    if frame is not None and d != frame.ndim:
        raise InputError(
            f"{path}: holds {d}D points and its image is {frame.ndim}D; give points"
            " of the image"
        )
    if not voxels:
        return values
    if frame is None:
        raise InputError(f"{path}: holds voxel indices; give the image they are of too")
    return to_world(frame, _inside(path, values[:, ::-1], frame))


def read_landmarks(paths, frames) -> tuple[np.ndarray, np.ndarray]:
    """Read the corresponding landmarks of two images.

    Args:
        paths: of the fixed and the moving points.
        frames: of the images, where files hold voxel indices; or None each.

    Returns:
        Fixed and moving points, ``[n, d]``.

    Raises:
        InputError: if a file cannot be read, or the two do not correspond.
    """
    fixed, moving = (read_points(*each) for each in zip(paths, frames, strict=True))
    if fixed.shape != moving.shape:
        sizes = " and ".join(f"{len(p)} in {p.shape[1]}D" for p in (fixed, moving))
        raise InputError(
            f"{paths[1]}: its points are not those of {paths[0]} ({sizes}); give"
            " points that correspond"
        )
    return fixed, moving


def write_points(path, points) -> None:
    """Write ``[n, d]`` world points (mm) in elastix's format, atomically.

    Args:
        path: .pts or .txt.
        points: written to 1e-6 mm.

    Raises:
        InputError: unknown suffix, missing or unwritable folder, full disk.
    """
    check_suffix(path, POINT_SUFFIXES)
    rows = [" ".join(f"{value:.6f}" for value in point) for point in points]
    text = "\n".join(["point", str(len(rows)), *rows]) + "\n"
    write_text(path, text)


def _parse(path: Path, text: str) -> Parsed:
    """Choose the format by suffix, then by the first word, and parse."""
    suffix = path.suffix.lower()
    if not text.strip():
        raise InputError(f"{path}: is empty; give a file with points")
    if suffix == ".json":
        return parse_markups(path, text)
    if suffix == ".fcsv":
        return parse_fcsv(path, text)
    if suffix == ".csv":
        return parse_csv(path, text)
    if suffix in POINT_SUFFIXES:
        is_elastix = text.split()[0].lower() in ("point", "index")
        return (parse_elastix if is_elastix else parse_dirlab)(path, text)
    raise InputError(
        f"{path}: has no suffix of a point file; give .pts, .txt, .csv, .fcsv or"
        " .mrk.json"
    )


def _read_text(path: Path) -> str:
    if not os.path.exists(path):
        raise InputError(f"{path}: does not exist; check the path")
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not text; give a file with points") from None
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give a file with points"
        ) from error


def _inside(path: Path, index: np.ndarray, frame: Frame) -> np.ndarray:
    """Return the indices; InputError if one lies outside of the frame."""
    outside = (index < -0.5) | (index > np.asarray(frame.shape) - 0.5)
    if outside.any():
        number = np.flatnonzero(outside.any(axis=1))[0] + 1
        size = " x ".join(map(str, frame.shape[::-1]))
        raise InputError(
            f"{path}: point {number} lies outside of its image of {size} voxels;"
            " check that the two belong together"
        )
    return index
