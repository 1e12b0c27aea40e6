"""Where a NIfTI header places its voxels, read from the header itself.

ITK takes the size of a voxel from one field of the header and its direction from
another, chooses between sform and qform without a word, and, where the environment
says so, turns a sheared sform into a rotation. So it is told to read whatever it can,
and what the header says is compared here with what ITK made of it.
"""

import gzip
import logging
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.io.frames import Frame, largest_offset, straighten

T = TypeVar("T")
_LOG = logging.getLogger(__name__)

_PERMISSIVE = "ITK_NIFTI_SFORM_PERMISSIVE"
_MM_PER_UNIT = {1: 1e3, 3: 1e-3}
# Fraction of a voxel: what places voxels closer together says the same.
_SAME, _ROUNDING = 0.1, 1e-3
_LPS_OF_RAS = np.diag((-1.0, -1.0, 1.0))


def permissively(call: Callable[[], T]) -> T:
    """Run a call of ITK that reads a sheared NIfTI, too, whatever the environment says.

    The caller holds the lock of ``quietly``, since the environment is the process's.
    """
    before = os.environ.get(_PERMISSIVE)
    os.environ[_PERMISSIVE] = "1"
    try:
        return call()
    finally:
        del os.environ[_PERMISSIVE]
        if before is not None:
            os.environ[_PERMISSIVE] = before


def header_frame(path: Path, frame: Frame) -> Frame:
    """The frame that the header of a file says, sheared where the header is.

    Args:
        path: of an image in any format.
        frame: as ITK read it.

    Returns:
        ``frame`` itself where the file is no NIfTI, or says the same.

    Raises:
        InputError: if the header is not finite, or contradicts itself.
    """
    header = _header(path)
    if header is None:
        return frame
    order = "<" if struct.unpack_from("<i", header)[0] == 348 else ">"
    qform_code, sform_code = struct.unpack_from(order + "2h", header, 252)
    scale = _MM_PER_UNIT.get(header[123] & 7, 1.0)
    sform = qform = None
    if sform_code > 0:
        rows = struct.unpack_from(order + "12f", header, 280)
        sform = _frame(path, "sform", frame, np.reshape(rows, (3, 4)) * scale)
    if qform_code > 0:
        qform = _frame(path, "qform", frame, _quaternion(path, order, header, scale))
    if sform and qform and (apart := largest_offset(sform, qform)) > _SAME:
        # What ITK took, but for a shear, which it takes the qform for by default.
        takes_sform = not _sheared(sform) and largest_offset(
            frame, sform
        ) < largest_offset(frame, qform)
        _LOG.warning(
            "%s: its sform and its qform place the same voxel up to %.3g voxels apart;"
            " the %s is used",
            path,
            apart,
            "sform" if takes_sform else "qform",
        )
        sform = sform if takes_sform else None
    # A shear, which changes the size, too, is the caller's to refuse.
    if sform and not _sheared(sform):
        _check_size(path, sform, frame)
    said = sform or qform
    if said is None or largest_offset(frame, said) < _ROUNDING:
        return frame
    return said


def _header(path: Path) -> bytes | None:
    """The header of a NIfTI-1 file of one part, or None."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            header = file.read(348)
    except (OSError, EOFError):
        return None
    return header if len(header) == 348 and header[344:347] == b"n+1" else None


def _frame(path: Path, name: str, frame: Frame, affine: np.ndarray) -> Frame:
    """The frame of an affine ``[3, 4]`` from voxels to RAS (mm)."""
    if not np.isfinite(affine).all():
        raise InputError(f"{path}: its {name} is not finite; correct its header")
    affine = _LPS_OF_RAS @ affine
    d = frame.ndim
    columns = affine[:, :d]
    spacing = np.linalg.norm(columns, axis=0)
    direction = (columns / np.where(spacing > 0, spacing, 1.0))[:d]
    if abs(np.linalg.det(direction)) < 1e-3:
        raise InputError(
            f"{path}: its {name} has a direction matrix that is singular; correct its"
            " header"
        )
    return Frame(frame.shape, spacing, affine[:d, 3], direction)


def _sheared(frame: Frame) -> bool:
    return straighten(frame)[1] > _SAME


def _quaternion(path: Path, order: str, header: bytes, scale: float) -> np.ndarray:
    """The affine ``[3, 4]`` of the qform, voxels to RAS (mm)."""
    pixdim = np.array(struct.unpack_from(order + "4f", header, 76), np.float64)
    values = struct.unpack_from(order + "6f", header, 256)
    b, c, d = map(float, values[:3])
    rest = 1.0 - (b * b + c * c + d * d)
    if rest < -0.01:
        raise InputError(
            f"{path}: its qform holds a quaternion longer than 1; correct its header"
        )
    a = np.sqrt(max(rest, 0.0))
    norm = np.sqrt(a * a + b * b + c * c + d * d)
    a, b, c, d = (value / norm for value in (a, b, c, d))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    size = pixdim[1:] * (1, 1, -1 if pixdim[0] < 0 else 1)
    offset = np.reshape(values[3:], (3, 1))
    return np.hstack([rotation * size, offset]) * scale


def _check_size(path: Path, sform: Frame, frame: Frame) -> None:
    """Raise InputError if the sform and the pixdim that ITK reads differ in size."""
    ratio = np.divide(sform.spacing, frame.spacing)
    if (np.abs(ratio - 1) * np.subtract(frame.shape[::-1], 1)).max() > _SAME:
        sizes = (", ".join(f"{s:g}" for s in f.spacing) for f in (sform, frame))
        raise InputError(
            f"{path}: has voxels of ({next(sizes)}) mm by its sform and of"
            f" ({next(sizes)}) mm by its pixdim; correct its header"
        )
