"""Landmarks from and to files, as world points.

Points are ``[n, d]`` float64, mm, (x, y, z), LPS as in ITK. Whatever cannot be used
raises ``InputError`` with one line that names the file.
"""

import os
from pathlib import Path

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.io.frames import Frame, to_world
from regnet_jax.io.landmark_formats import (
    Parsed,
    parse_csv,
    parse_dirlab,
    parse_elastix,
    parse_fcsv,
    parse_markups,
)
from regnet_jax.io.writing import check_suffix, write_atomically

POINT_SUFFIXES = (".pts", ".txt")


def read_points(path, frame: Frame | None = None) -> np.ndarray:
    """Read landmarks.

    Args:
        path: .pts or .txt, which is a point file of elastix if its first word is
            ``point`` or ``index`` and voxel indices of DIR-Lab (from 1) if not;
            .csv, voxel indices of Learn2Reg (from 0); .fcsv or .mrk.json of 3D
            Slicer.
        frame: of the image that the landmarks lie in. Files of voxel indices need
            it; for others it only says how many coordinates a point has.

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
        frames: of the images, where files hold voxel indices; or Nones.

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
    """Write ``[n, d]`` world points (mm) as elastix does, whole or not at all.

    Args:
        path: .pts or .txt.
        points: kept to 1e-6 mm.

    Raises:
        InputError: unknown suffix, missing or unwritable folder, full disk.
    """
    check_suffix(path, POINT_SUFFIXES)
    rows = [" ".join(f"{value:.6f}" for value in point) for point in points]
    text = "\n".join(["point", str(len(rows)), *rows]) + "\n"
    write_atomically(path, lambda name: Path(name).write_text(text, "utf-8"))


def _parse(path: Path, text: str) -> Parsed:
    """The one place where the format is chosen: by suffix, then by the first word."""
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
        raise InputError(f"{path}: is no text; give a file with points") from None
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give a file with points"
        ) from error


def _inside(path: Path, index: np.ndarray, frame: Frame) -> np.ndarray:
    """The indices, or an InputError where one is of no voxel of the frame."""
    outside = (index < -0.5) | (index > np.asarray(frame.shape) - 0.5)
    if outside.any():
        number = np.flatnonzero(outside.any(axis=1))[0] + 1
        size = " x ".join(map(str, frame.shape[::-1]))
        raise InputError(
            f"{path}: point {number} lies outside of its image of {size} voxels;"
            " check that the two belong together"
        )
    return index
