"""DIR-Lab's files: images without header, and landmarks as voxel indices from 1.

R. Castillo et al., "A framework for evaluation of deformable image registration spatial
accuracy using large landmark point sets", Phys Med Biol 54(7), 2009 (4DCT 1 to 5);
E. Castillo et al., "Four-dimensional deformable image registration using trajectory
modeling", Phys Med Biol 55(1), 2010 (4DCT 6 to 10); R. Castillo et al., "A reference
dataset for deformable image registration spatial accuracy evaluation using the COPDgene
study archive", Phys Med Biol 58(9), 2013.

An image is int16 in little endian, x fastest. As the set's document on coordinates
says, voxel (1, 1, 1) is the right, anterior, superior corner: x grows to the left, y to
the back and z to the feet. T00 is maximum inhale and T50 maximum exhale.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.comparison.dirlab_published import Geometry, set_of
from regnet_jax.errors import InputError
from regnet_jax.hounsfield import SCANNER_RANGE, UNSIGNED_OFFSET
from regnet_jax.io import Frame, Image, read_landmarks
from regnet_jax.io.text import is_comment, read_lines
from regnet_jax.spatial import canonicalise

INHALE, EXHALE = "inhale", "exhale"
PHASES = (INHALE, EXHALE)
_PHASE = {"00": INHALE, "50": EXHALE, "i": INHALE, "e": EXHALE}
_IMAGE, _LANDMARKS = "image", "landmarks"
# The names of the files: the set, what they hold, and a pattern of number and phase.
_NAMES = (
    ("4dct", _IMAGE, r"case(\d+)_T(00|50)(?:_s|-ssm)?\.img"),
    ("4dct", _LANDMARKS, r"case(\d+)_(?:dirlab)?300_T(00|50)_xyz\.txt"),
    ("copd", _IMAGE, r"copd(\d+)_([ie])BHCT\.img"),
    ("copd", _LANDMARKS, r"copd(\d+)_300_([ie])BH_xyz(?:_r1)?\.txt"),
)
_BYTES = 2
_AIR = int(SCANNER_RANGE[0])
# In a chest this percentile is soft tissue, which lies within so many HU of water.
_TISSUE_PERCENTILE, _NEAR_WATER = 90, 300


class CaseFiles(NamedTuple):
    """The files of a case.

    Attributes:
        images: by phase.
        landmarks: by phase.
    """

    images: dict[str, Path]
    landmarks: dict[str, Path]


def find_cases(folder: Path) -> dict[str, CaseFiles]:
    """Find the cases below a folder by the names of their files.

    Args:
        folder: of the unpacked archives; their own folders may have any names.

    Returns:
        The files of each case, by the name of the case, in the order of the sets.

    Raises:
        InputError: if there is none, or a file is there twice.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; give the one that holds DIR-Lab")
    found: dict[str, CaseFiles] = {}
    for path in sorted(folder.rglob("*")):
        match = _recognise(path)
        if match is None:
            continue
        case, kind, phase = match
        files = found.setdefault(case, CaseFiles({}, {}))
        by_phase = files.images if kind == _IMAGE else files.landmarks
        if phase in by_phase:
            raise InputError(
                f"{path}: {by_phase[phase]} is the same file of {case}; keep one"
            )
        by_phase[phase] = path
    if not found:
        raise InputError(
            f"{folder}: holds no files of DIR-Lab, such as case1_T00_s.img or"
            " copd1_iBHCT.img; unpack the archives of the cases there"
        )
    order = sorted(found, key=lambda case: (set_of(case), int(case[4:])))
    return {case: found[case] for case in order}


def _recognise(path: Path) -> tuple[str, str, str] | None:
    """Return the case, the kind and the phase of a file; None for other files."""
    for prefix, kind, pattern in _NAMES:
        match = re.fullmatch(pattern, path.name, re.IGNORECASE)
        if match:
            return f"{prefix}{int(match[1])}", kind, _PHASE[match[2].lower()]
    return None


def check_case(case: str, files: CaseFiles, geometries: Mapping[str, Geometry]) -> None:
    """Refuse a case whose files are not those that its size needs.

    Args:
        case: its name.
        files: from ``find_cases``.
        geometries: of the cases, by name.

    Raises:
        InputError: if the case is incomplete or not in ``geometries``, or an image has
            another number of bytes than its geometry needs.
    """
    there = [*files.images.values(), *files.landmarks.values()]
    for kind, by_phase in zip((_IMAGE, _LANDMARKS), files, strict=True):
        for phase in PHASES:
            if phase not in by_phase:
                raise InputError(
                    f"{there[0]}: {case} has no {kind} of {phase} beside it;"
                    " add the file, or choose others by --cases"
                )
    if case not in geometries:
        raise InputError(
            f"{there[0]}: no size is published for {case}; give it by --sizes"
        )
    for path in files.images.values():
        _check_size(path, geometries[case], geometries)


def _check_size(path: Path, geometry: Geometry, geometries) -> None:
    needed = _BYTES * math.prod(geometry.shape)
    size = path.stat().st_size
    if size != needed:
        raise InputError(
            f"{path}: has {size} bytes where {_text(geometry.shape)} voxels of 2 bytes"
            f" need {needed} ({_explain(size, geometry.shape, geometries)}); check that"
            " the file is whole, or give its size by --sizes"
        )


def _explain(size: int, shape, geometries: Mapping[str, Geometry]) -> str:
    """Say which images have so many bytes."""
    fitting: dict[str, list[str]] = {}
    for case, geometry in geometries.items():
        if _BYTES * math.prod(geometry.shape) == size:
            fitting.setdefault(_text(geometry.shape), []).append(case)
    if fitting:
        shapes = "; ".join(f"{s} of {', '.join(c)}" for s, c in fitting.items())
        return f"it has the size of {shapes}"
    slices, rest = divmod(size, _BYTES * math.prod(shape[1:]))
    if slices and not rest:
        return f"it has the size of {_text((slices, *shape[1:]))}"
    return "no image of whole slices has so many"


def _text(shape: Iterable[int]) -> str:
    return " x ".join(str(n) for n in reversed(tuple(shape)))


def file_frame(geometry: Geometry) -> Frame:
    """Return where the voxels of a file lie in LPS, its first voxel at the origin."""
    return Frame(geometry.shape, geometry.spacing, (0, 0, 0), np.diag((1, 1, -1)))


def read_case_image(path: Path, geometry: Geometry) -> Image:
    """Read an image in Hounsfield units, with slices from the feet to the head.

    The files hold HU + 1024, or HU, which is recognised by the soft tissue. What is
    darker than -1024, as beside the field of view, becomes -1024.

    Args:
        path: of a file of the size that ``check_case`` checks.
        geometry: of its case.

    Returns:
        The image, int16.

    Raises:
        InputError: if the values are neither HU nor HU + 1024.
    """
    values = np.fromfile(path, "<i2").astype(np.int16, copy=False)
    offset = _offset(path, values)
    values = np.maximum(values, np.int16(_AIR + offset)) - np.int16(offset)
    array, frame = canonicalise(values.reshape(geometry.shape), file_frame(geometry))
    return Image(np.ascontiguousarray(array), frame, str(path))


def _offset(path: Path, values: np.ndarray) -> int:
    """Return what was added to the Hounsfield units of a chest: 0 or 1024."""
    measured = values[values > _AIR]
    tissue = np.percentile(measured, _TISSUE_PERCENTILE) if measured.size else math.nan
    for offset in (0, UNSIGNED_OFFSET):
        if abs(tissue - offset) < _NEAR_WATER:
            return offset
    raise InputError(
        f"{path}: the {_TISSUE_PERCENTILE}th percentile of its values is {tissue:g}, so"
        " they are neither HU nor HU + 1024 of a chest in little endian; unpack the"
        " archive again"
    )


def read_case_landmarks(files: CaseFiles, geometry: Geometry) -> dict[str, np.ndarray]:
    """Read the landmarks of a case.

    Args:
        files: of the case.
        geometry: of its images.

    Returns:
        Points ``[n, 3]`` by phase, mm, x first, in the frame of ``read_case_image``.

    Raises:
        InputError: if a file cannot be read, or the two do not correspond.
    """
    frames = [file_frame(geometry)] * len(PHASES)
    paths = [files.landmarks[phase] for phase in PHASES]
    points = read_landmarks(paths, frames, coordinates="voxels1")
    return dict(zip(PHASES, points, strict=True))


def read_geometries(path: Path) -> dict[str, Geometry]:
    """Read sizes and spacings that differ from the published ones.

    Args:
        path: of a text file with a line ``4dct1, 256 x 256 x 94, 0.97 x 0.97 x 2.5``
            for each case; empty lines and lines that begin with ``#`` are skipped.

    Returns:
        The geometries by case.

    Raises:
        InputError: if a line is malformed, a case has several, or there is none.
    """
    geometries = {}
    for number, line in enumerate(read_lines(path, "sizes of cases"), 1):
        if not line.strip() or is_comment(line):
            continue
        cells = [cell.strip() for cell in line.split(",")]
        if (entry := _parse_geometry(cells)) is None:
            raise InputError(
                f"{path}, line {number}: {line.strip()!r} is not the size of a case;"
                " write it as 4dct1, 256 x 256 x 94, 0.97 x 0.97 x 2.5"
            )
        if entry[0] in geometries:
            raise InputError(
                f"{path}, line {number}: {entry[0]} has a line already; give one for"
                " each case"
            )
        geometries[entry[0]] = entry[1]
    if not geometries:
        raise InputError(f"{path}: names no case; give one on each line")
    return geometries


def _parse_geometry(cells: Sequence[str]) -> tuple[str, Geometry] | None:
    """Return the case and its geometry; None for malformed cells."""
    try:
        case, size, spacing = cells
        x, y, z = map(int, size.split("x"))
        dx, dy, dz = map(float, spacing.split("x"))
    except ValueError:
        return None
    named = re.fullmatch(r"(4dct|copd)0*(\d+)", case)
    if not named or min(x, y, z) <= 0:
        return None
    if not all(0 < d < math.inf for d in (dx, dy, dz)):
        return None
    return named[1] + named[2], Geometry((z, y, x), (dx, dy, dz))
