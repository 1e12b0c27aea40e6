"""Reading landmarks: the format by suffix and content, and the way to world points."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.files import check_no_pipe
from regnet_jax.io.landmarks.parsed import Parsed, is_number
from regnet_jax.io.landmarks.plain_text import parse_text
from regnet_jax.io.landmarks.slicer import parse_fcsv, parse_markups
from regnet_jax.io.landmarks.tables import parse_table
from regnet_jax.io.landmarks.vtk import parse_vtk
from regnet_jax.io.text import decode
from regnet_jax.spatial.frames import Frame, is_outside, to_index, to_world

_LOG = logging.getLogger(__name__)

_PARSERS = {
    ".json": parse_markups,
    ".fcsv": parse_fcsv,
    ".csv": parse_table,
    ".tsv": parse_table,
    ".pts": parse_text,
    ".txt": parse_text,
}
# Signs that bring (x, y, z) in mm to LPS.
_TO_LPS = {"lps": (1.0, 1.0, 1.0), "ras": (-1.0, -1.0, 1.0)}
# What voxel indices count from.
_FIRST = {"voxels": 0, "voxels1": 1}
_WORDS = {
    "lps": "mm in LPS",
    "ras": "mm in RAS",
    "voxels": "voxel indices from 0",
    "voxels1": "voxel indices from 1",
}


@dataclass(frozen=True)
class PointSet:
    """The points of a file in the world.

    Attributes:
        points: ``[n, d]``, mm, x first, LPS.
        parsed: the file, with the coordinates that it has.
        suffix: of the file.
        columns: of coordinates in the file; 3 also for points of a plane with z = 0.
    """

    points: np.ndarray
    parsed: Parsed
    suffix: str
    columns: int


def read_points(
    path, frame: Frame | None = None, *, coordinates: str | None = None
) -> np.ndarray:
    """Read landmarks.

    Args:
        path: .csv, .tsv, .txt, .pts, .vtk, .fcsv or .mrk.json; ``docs/landmarks.md``
            lists the formats and their coordinates.
        frame: of the image that the landmarks lie in. Files of voxel indices need
            it; for others it only gives the number of coordinates.
        coordinates: one of ``COORDINATES``, whatever the file says.

    Returns:
        ``[n, d]``, at least one point.

    Raises:
        InputError: missing, empty or malformed file; NaN; coordinates that the file
            does not tell; voxel indices without a frame or outside of it; points of
            another dimension than the frame; fixed and moving points in one file.
    """
    return load_points(path, frame, coordinates=coordinates).points


def load_points(
    path,
    frame: Frame | None = None,
    *,
    coordinates: str | None = None,
    dimension: int | None = None,
    part: str | None = None,
) -> PointSet:
    """Read landmarks, and what is needed to write others into the same format.

    Args:
        path: as in ``read_points``.
        frame: as in ``read_points``.
        coordinates: as in ``read_points``.
        dimension: ``d`` where there is no frame; None takes that of the file.
        part: ``fixed`` or ``moving``, of a file that holds both; None refuses it.

    Returns:
        The points.

    Raises:
        InputError: as ``read_points``.
    """
    path = Path(path)
    return _in_world(path, parse_points(path), frame, coordinates, dimension, part)


def read_landmarks(
    paths, frames, *, coordinates: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Read the corresponding landmarks of two images.

    Args:
        paths: of the fixed and the moving points. The same path twice, or None for the
            second, is a file that holds both.
        frames: of the images, where files hold voxel indices; or None each.
        coordinates: as in ``read_points``, of both.

    Returns:
        Fixed and moving points, ``[n, d]``. Where both files name their points, and by
        the same names, these decide which correspond.

    Raises:
        InputError: if a file cannot be read, or the two do not correspond.
    """
    together = paths[1] is None or os.fspath(paths[0]) == os.fspath(paths[1])
    given = [Path(paths[0])] * 2 if together else [Path(path) for path in paths]
    files = [parse_points(path) for path in given[: 1 if together else 2]]
    if together:
        # What is taken for granted of a file is said once.
        files.append(replace(files[0], custom=""))
    of_one_image = together and files[0].values.shape[1] < 4
    if of_one_image and paths[1] is None:
        raise InputError(
            f"{paths[0]}: holds the points of one image; give those of the other, too"
            " (--moving_points)"
        )
    fixed, moving = (
        _in_world(path, parsed, frame, coordinates, None, part if together else None)
        for path, parsed, frame, part in zip(
            given, files, frames, ("fixed", "moving"), strict=False
        )
    )
    if fixed.points.shape != moving.points.shape:
        sizes = " and ".join(
            f"{len(s.points)} in {s.points.shape[1]}D" for s in (fixed, moving)
        )
        raise InputError(
            f"{paths[1]}: its points are not those of {paths[0]} ({sizes}); give"
            " points that correspond"
        )
    if of_one_image:
        _LOG.warning(
            "%s: holds the points of one image and was given for both, so nothing is"
            " taken to move",
            paths[0],
        )
    given_names = files[0].names, files[1].names
    names = [_comparable(each) for each in given_names]
    shown = dict(
        pair
        for alike, written in zip(names, given_names, strict=True)
        for pair in zip(alike, written, strict=True)
    )
    _check_names(paths, names, shown)
    if all(names) and not set(names[0]) & set(names[1]):
        _LOG.warning(
            "%s: shares no name of a point with %s, so points of the same row are"
            " taken to correspond",
            *(paths[1], paths[0]),
        )
    order = _order_by_names(*names)
    if order is None:
        return fixed.points, moving.points
    _LOG.warning(
        "%s: its points are in another order than those of %s, and are matched by name",
        *(paths[1], paths[0]),
    )
    return fixed.points, moving.points[order]


def _comparable(names: Sequence[str]) -> Sequence[str]:
    """Write names alike that programs write differently, such as 1, 01 and 1.0.

    They stay as they are if that would make two of them the same.
    """
    alike = ["".join(name.casefold().split()) for name in names]
    alike = [str(float(name)) if is_number(name) else name for name in alike]
    return names if len(set(alike)) < len(set(names)) else alike


def _check_names(paths, names: Sequence[Sequence[str]], shown) -> None:
    """Raise InputError if names say that the points of a row do not correspond."""
    fixed, moving = names
    shared = set(fixed) & set(moving)
    if list(fixed) == list(moving) or not shared:
        return
    alone = [name for name in (*fixed, *moving) if name not in shared]
    if alone:
        raise InputError(
            f"{paths[1]}: shares some names of points with {paths[0]}, but"
            f" {shown[alone[0]]!r} is in one of them alone; give the same points in"
            " both"
        )
    if len(shared) < max(len(fixed), len(moving)):
        raise InputError(
            f"{paths[1]}: its points are in another order than those of {paths[0]}, and"
            " some have the same name; give each a name of its own"
        )


def _order_by_names(fixed: Sequence[str], moving: Sequence[str]) -> list[int] | None:
    """Return the places of the fixed names among the moving ones.

    None where they have the same order or other names, see ``_check_names``.
    """
    if list(fixed) == list(moving) or set(fixed) != set(moving):
        return None
    places = {name: place for place, name in enumerate(moving)}
    return [places[name] for name in fixed]


def parse_points(path: Path) -> Parsed:
    """Choose the format of a file by its suffix, then by its content, and parse it."""
    suffix = path.suffix.lower()
    if suffix not in (*_PARSERS, ".vtk"):
        raise InputError(
            f"{path}: has no suffix of a point file; give .csv, .tsv, .txt, .pts, .vtk,"
            " .fcsv or .mrk.json"
        )
    content = _read_bytes(path)
    if not content.strip():
        raise InputError(f"{path}: is empty; give a file with points")
    if suffix == ".vtk":
        return parse_vtk(path, content)
    try:
        text = decode(content)
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: is not text in UTF-8; save it as that, or give a file with points"
        ) from None
    return _PARSERS[suffix](path, text)


def to_file(points, coordinates: str, frame: Frame | None) -> np.ndarray:
    """Return world points ``[n, d]`` in the coordinates of a file, x first.

    Args:
        points: mm, x first, LPS.
        coordinates: one of ``COORDINATES``.
        frame: of the image whose voxels are meant, for voxel indices.

    Returns:
        ``[n, d]``.
    """
    points = np.asarray(points, np.float64)
    if coordinates in _TO_LPS:
        return points * _TO_LPS[coordinates][: points.shape[1]]
    if frame is None:
        raise ValueError("voxel indices need the frame of their image")
    return to_index(frame, points)[:, ::-1] + _FIRST[coordinates]


def _in_world(
    path: Path,
    parsed: Parsed,
    frame: Frame | None,
    coordinates: str | None,
    dimension: int | None,
    part: str | None,
) -> PointSet:
    values = parsed.values
    if not len(values):
        raise InputError(f"{path}: holds no point; give one at least")
    if not np.isfinite(values).all():
        number = np.flatnonzero(~np.isfinite(values).all(axis=1))[0] + 1
        raise InputError(f"{path}: point {number} is NaN or infinite; remove it")
    wanted = frame.ndim if frame else dimension
    if values.shape[1] >= 4:
        values = _half(path, values, wanted, part)
    columns = values.shape[1]
    if wanted == 2 and values.shape[1] == 3 and not values[:, 2].any():
        # Formats of 3D points hold those of planes with z = 0.
        values = values[:, :2]
    d = values.shape[1]
    if frame is not None and d != frame.ndim:
        raise InputError(
            f"{path}: holds {d}D points and its image is {frame.ndim}D; give points"
            " of the image"
        )
    parsed = replace(parsed, values=values)
    found = coordinates or parsed.coordinates or _guess(path, parsed, frame)
    parsed = replace(parsed, coordinates=found)
    if found in _TO_LPS:
        points = values * _TO_LPS[found][:d]
    elif frame is None:
        raise InputError(f"{path}: holds voxel indices; give the image they are of too")
    else:
        index = values[:, ::-1] - _FIRST[found]
        points = to_world(frame, _inside(path, index, frame))
    if parsed.custom and not coordinates:
        _LOG.warning(
            "%s: does not say its coordinates; %s are taken, the custom of %s"
            " (--point_coordinates says otherwise)",
            *(path, _WORDS[found], parsed.custom),
        )
    return PointSet(points, parsed, path.suffix.lower(), columns)


def _half(
    path: Path, values: np.ndarray, wanted: int | None, part: str | None
) -> np.ndarray:
    """Return the fixed or the moving columns of a file that holds both."""
    d = values.shape[1] // 2
    if wanted not in (d, None):
        raise InputError(
            f"{path}: has {2 * d} columns where {wanted}, or {2 * wanted} for fixed and"
            " moving points, are needed; give one landmark on each line"
        )
    if part is None:
        raise InputError(
            f"{path}: has {2 * d} columns, fixed and moving points; give the same file"
            " for both images"
        )
    return values[:, :d] if part == "fixed" else values[:, d:]


def _guess(path: Path, parsed: Parsed, frame: Frame | None) -> str:
    """Return the coordinates of a file that does not say them, with a warning."""
    values, guess = parsed.values, parsed.guess
    whole = bool((values == np.rint(values)).all())
    if guess and frame is not None and whole:
        index = values[:, ::-1] - _FIRST[guess]
        if not is_outside(frame, index).any():
            _LOG.warning(
                "%s: %s; voxel indices from 0 are taken, as all are whole numbers in"
                " the image (--point_coordinates says it)",
                path,
                parsed.doubt,
            )
            return guess
    raise InputError(
        f"{path}: {parsed.doubt}; say it by --point_coordinates (lps, ras, voxels or"
        " voxels1) of register, warp or evaluate"
    )


def _read_bytes(path: Path) -> bytes:
    if not os.path.exists(path):
        raise InputError(f"{path}: does not exist; check the path")
    check_no_pipe(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give a file with points"
        ) from error


def _inside(path: Path, index: np.ndarray, frame: Frame) -> np.ndarray:
    """Return the indices; InputError if one lies outside of the frame."""
    outside = is_outside(frame, index)
    if outside.any():
        number = np.flatnonzero(outside)[0] + 1
        size = " x ".join(map(str, frame.shape[::-1]))
        raise InputError(
            f"{path}: point {number} lies outside of its image of {size} voxels;"
            " check that the two belong together, or say by --point_coordinates (of"
            " register, warp or evaluate) that the points are in mm"
        )
    return index
