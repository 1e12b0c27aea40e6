"""Writing landmarks: each format that is read, with the names of the points."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.files import check_suffix, write_atomically
from regnet_jax.io.landmarks.elastix import format_elastix
from regnet_jax.io.landmarks.reading import PointSet, to_file
from regnet_jax.io.landmarks.slicer import format_fcsv, format_markups
from regnet_jax.io.landmarks.tables import format_ants
from regnet_jax.io.landmarks.vtk import format_vtk
from regnet_jax.spatial.frames import Frame, is_outside, to_index

# The formats that are written.
POINT_SUFFIXES = (".csv", ".tsv", ".txt", ".pts", ".vtk", ".fcsv", ".mrk.json", ".json")


def write_points(path, points, names: Sequence[str] = ()) -> None:
    """Write world points in the format of the suffix, in mm (LPS), atomically.

    Args:
        path: .txt or .pts (elastix), .csv or, with tabs, .tsv (ANTs), .vtk, .fcsv or
            .mrk.json (3D Slicer).
        points: ``[n, d]``, mm, x first; written to 1e-6 mm.
        names: of the points, for the formats that have them.

    Raises:
        InputError: unknown suffix, missing or unwritable folder, full disk.
    """
    check_suffix(path, POINT_SUFFIXES)
    _write(path, _format(Path(path).suffix.lower(), points, names))


def rewrite_points(
    path, points, source: PointSet, frame: Frame | None = None
) -> list[str]:
    """Write points that were read, and then moved, atomically.

    A file of the same suffix gets the format, the coordinates and all other content of
    the source. For voxel indices that needs the image whose voxels are meant; without
    it, and for another suffix, the format is that of ``write_points``, in mm.

    Args:
        path: any of ``POINT_SUFFIXES``.
        points: ``[n, d]``, mm, x first.
        source: the points before.
        frame: of the image that the points lie in now.

    Returns:
        Lines for the user about what the format could not keep.

    Raises:
        InputError: as ``write_points``; or a frame for points in mm.
    """
    check_suffix(path, POINT_SUFFIXES)
    suffix, parsed = Path(path).suffix.lower(), source.parsed
    in_voxels = parsed.coordinates in ("voxels", "voxels1")
    kept = suffix == source.suffix and parsed.rewrite is not None
    # A format of whole numbers cannot hold mm.
    kept &= in_voxels or not parsed.whole
    if frame is not None and not (kept and in_voxels):
        raise InputError(
            "--like: with points it is for voxel indices that stay in their format;"
            " leave it out"
        )
    if not kept or (in_voxels and frame is None):
        _write(path, _format(suffix, points, parsed.names))
        if in_voxels and kept:
            return [
                f"{path}: is in mm; for voxel indices give --like, the image that the"
                " points lie in now"
            ]
        return []
    assert parsed.rewrite is not None
    assert parsed.coordinates is not None
    values = to_file(points, parsed.coordinates, frame)
    values = np.pad(values, ((0, 0), (0, source.columns - values.shape[1])))
    notes = _voxel_notes(path, points, frame, whole=parsed.whole) if frame else []
    _write(path, parsed.rewrite(values))
    return notes


def _voxel_notes(path, points, frame: Frame, *, whole: bool) -> list[str]:
    notes = []
    if whole:
        notes.append(f"{path}: is rounded to whole voxels, as its format has them")
    if count := int(is_outside(frame, to_index(frame, points)).sum()):
        notes.append(
            f"{path}: {count} of its points lie outside of the image of --like"
        )
    return notes


def _format(suffix: str, points, names: Sequence[str]) -> str | bytes:
    names = tuple(names)
    if suffix in (".csv", ".tsv"):
        return format_ants(points, names, "\t" if suffix == ".tsv" else ",")
    if suffix == ".fcsv":
        return format_fcsv(points, names)
    if suffix == ".json":
        return format_markups(points, names)
    if suffix == ".vtk":
        return format_vtk(points)
    return format_elastix(points)


def _write(path, content: str | bytes) -> None:
    data = content.encode() if isinstance(content, str) else content
    write_atomically(path, lambda name: Path(name).write_bytes(data))
