"""Displacement images: a vector for each voxel, as ITK, ANTs and Slicer keep them."""

import dataclasses
import math
import struct
import tempfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.files import write_atomically
from regnet_jax.io.headers import check_vector_axes, header_frame
from regnet_jax.io.images import execute, open_image, warn_of_guess, write_image
from regnet_jax.spatial.frames import Frame, split_frame
from regnet_jax.spatial.images import check_shape, from_sitk, straight_frame, to_sitk

# Of a NIfTI header: where the sizes are, and where the values begin, in bytes.
_SIZES, _BODY = 42, 352
# The sizes are 16-bit numbers.
_LONGEST = 2**15 - 1
# Of a gzip file: its first bytes, for one member without a name or a time, and the
# block that ends the compressed values.
_GZIP_HEAD, _GZIP_END = b"\x1f\x8b\x08" + bytes(5) + b"\x04\xff", b"\x03\x00"
# Threads that compress, and the parts that wait for them at most.
_COMPRESSORS = 2
# Units of space of NIfTI beside mm.
_UNITS = {1: "m", 3: "um"}
_FLOATS = (sitk.sitkVectorFloat32, sitk.sitkVectorFloat64)
# How much faster or slower positions may change along an axis than those of the grid
# itself: a displacement changes as fast only where it enlarges by 1.7 or more. What
# turns them changes them beside their axis, too.
_PACES, _BESIDE = (0.7, 1.4), 0.6
# The middle of a grid is far from zero beyond this fraction of half its diagonal.
_FAR = 0.8
# Voxels of one size above this one, mm; sizes are equal up to this factor.
_WIDE, _EQUAL = 1.6, 1.3


def write_displacement(
    path, displacement, frame: Frame, *, tolerance: float = 0.0
) -> None:
    """Write a displacement as a float32 vector image, atomically.

    Args:
        path: as in ``write_image``.
        displacement: ``[*frame.shape, d]`` vectors, mm, x first.
        frame: the fixed grid.
        tolerance: mm by which components may be rounded in .nii.gz, for smaller files.

    Raises:
        InputError: as ``write_image``.
    """
    vectors = np.asarray(displacement, np.float32)
    check_shape(vectors, frame)
    if not str(path).lower().endswith(".nii.gz") or max(frame.shape) > _LONGEST:
        write_image(path, vectors, frame)
        return
    write_atomically(path, lambda name: _write_nifti(name, vectors, frame, tolerance))


def _write_nifti(
    name: str, vectors: np.ndarray, frame: Frame, tolerance: float
) -> None:
    """Write a compressed NIfTI as ITK does, which would hold four copies of it."""
    d = frame.ndim
    with tempfile.TemporaryDirectory(dir=Path(name).parent) as folder:
        # ITK's own header, of an image of one voxel.
        single = str(Path(folder) / "header.nii")
        first = dataclasses.replace(frame, shape=(1,) * d)
        sitk.WriteImage(to_sitk(vectors[(slice(0, 1),) * d], first), single)
        header = bytearray(Path(single).read_bytes()[:_BODY])
    struct.pack_into(f"={d}h", header, _SIZES, *frame.shape[::-1])

    def parts() -> Iterator:
        yield header
        for component in range(d):
            for rows, _ in split_frame(frame):
                values = rounded(vectors[rows][..., component], tolerance)
                yield np.ascontiguousarray(values, np.float32).reshape(-1).view("u1")

    _write_gzip(name, parts())


def _write_gzip(name: str, parts: Iterable) -> None:
    """Write parts of bytes as a gzip file of one member, in several threads.

    The values of a part are compressed without those before it, so the blocks of all
    parts follow each other in one stream.
    """
    checksum = length = 0
    waiting: deque = deque()
    with open(name, "wb") as file, ThreadPoolExecutor(_COMPRESSORS) as pool:
        file.write(_GZIP_HEAD)
        for part in parts:
            checksum = zlib.crc32(part, checksum)
            length += len(part)
            waiting.append(pool.submit(_deflate, part))
            if len(waiting) > _COMPRESSORS:
                file.write(waiting.popleft().result())
        for last in waiting:
            file.write(last.result())
        file.write(_GZIP_END + struct.pack("<2I", checksum, length % 2**32))


def _deflate(part) -> bytes:
    """Compress bytes as blocks of a stream that goes on."""
    stream = zlib.compressobj(level=1, wbits=-zlib.MAX_WBITS)
    return stream.compress(part) + stream.flush(zlib.Z_FULL_FLUSH)


def rounded(values: np.ndarray, tolerance: float) -> np.ndarray:
    """Round to multiples of a power of two, so that compression finds zeros.

    Args:
        values: of any shape.
        tolerance: largest change; 0 changes nothing.

    Returns:
        The values.
    """
    if not tolerance:
        return values
    step = 2.0 ** math.floor(math.log2(2 * tolerance))
    # Both products are exact, as the step is a power of two.
    result = np.multiply(values, 1 / step)
    np.rint(result, out=result)
    result *= step
    return result


def read_displacement(path) -> tuple[np.ndarray, Frame]:
    """Read a vector image of displacements.

    In NIfTI these are the images of five dimensions that ITK and ANTs write.

    Args:
        path: of an image by ``write_displacement`` or another tool that uses ITK.

    Returns:
        ``[*frame.shape, d]`` vectors (mm, x first) and the grid. A 3D image of one
        slice stays 3D.

    Raises:
        InputError: missing or unreadable file, not a vector of ``d`` components, a
            vector that is not finite, or positions in place of displacements.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: does not exist; check the path")
    with open_image(path) as reader:
        image = execute(reader, path)
    check_vector_axes(path)
    # NiftyReg keeps positions or knots, in other axes, under the same kind of image.
    if image.HasMetaDataKey("intent_name"):
        intent = image.GetMetaData("intent_name").strip("\0 ")
        if intent.startswith("NREG"):
            raise InputError(
                f"{path}: is a transformation of NiftyReg, which does not hold the"
                " vectors of ITK; convert it to a displacement image of ITK"
            )
        if intent == "Mapping":
            raise InputError(
                f"{path}: holds positions, as SPM writes them, and not displacements;"
                " convert it to a displacement image of ITK"
            )
    # ITK converts the grid to mm, but not the vectors.
    if (unit := _unit(image)) in _UNITS:
        raise InputError(
            f"{path}: says that its space unit is {_UNITS[unit]}; convert it to mm"
        )
    image = _with_its_slice(image)
    d, components = image.GetDimension(), image.GetNumberOfComponentsPerPixel()
    if components != d:
        raise InputError(
            f"{path}: has {components} components in {d}D; give a displacement image,"
            " a vector for each voxel" + " (of NIfTI intent code 1007)" * (d > 3)
        )
    if image.GetPixelID() not in _FLOATS:
        raise InputError(
            f"{path}: holds a {image.GetPixelIDTypeAsString()}, such as a colour, where"
            " a displacement image holds floats; give one"
        )
    vectors = from_sitk(image, str(path))
    if not np.isfinite(vectors.array).all():
        raise InputError(f"{path}: holds NaN or infinite values; make it again")
    warn_of_guess(path)
    frame = straight_frame(str(path), header_frame(path, vectors.frame))
    check_no_positions(path, vectors.array, frame)
    return vectors.array, frame


def check_no_positions(path, vectors: np.ndarray, frame: Frame) -> None:
    """Raise InputError if vectors change from voxel to voxel as positions do.

    These are positions in mm, in LPS or RAS, or in voxels from the first. In voxels of
    one size above 1.6 mm, indices cannot be told from an enlargement, and pass.

    Args:
        path: of the file, for the message.
        vectors: ``[*frame.shape, d]``, x first.
        frame: their grid.
    """
    sizes = np.array(frame.shape[::-1])
    used = sizes > 1
    if used.sum() < 2 or not sizes.all():
        return
    changes, middle, bends = _linear_trend(vectors)
    if not np.isfinite(middle).all():
        return
    centre = (sizes - 1) / 2
    for unit, (steps, place) in _kinds_of_positions(frame, centre).items():
        extent, far = np.linalg.norm(steps @ centre), np.linalg.norm(place)
        # On a grid far from zero positions are long. Short vectors that change as fast
        # are an enlargement to twice the size.
        is_far = far > _FAR * extent
        if is_far and np.linalg.norm(middle) < np.linalg.norm(middle - place):
            continue
        squares = (steps**2).sum(0)
        paces = (changes * steps).sum(0) / squares
        beside = ((changes - paces * steps) ** 2).sum(0) + bends
        slowest, fastest = _PACES
        fits = (slowest < paces) & (paces < fastest) & (beside < _BESIDE**2 * squares)
        if fits[used].all():
            raise InputError(
                f"{path}: its vectors change from voxel to voxel as positions in {unit}"
                " do, so they are no displacements; convert it to a displacement image"
                " of ITK"
            )


def _linear_trend(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit lines to the means of vectors across each axis.

    Args:
        vectors: ``[*spatial, d]``, x first.

    Returns:
        The change from voxel to voxel along each axis, x first, in the columns of
        ``[d, d]``; the mean ``[d]``; and the squares that each line leaves, in units of
        those of the change, ``[d]``. Zero along axes of a single voxel.
    """
    d = vectors.shape[-1]
    changes, bends = np.zeros((d, d)), np.zeros(d)
    mean = np.zeros(d)
    for k in range(d):
        axis = d - 1 - k
        across = tuple(other for other in range(d) if other != axis)
        line = vectors.mean(across, dtype=np.float64)
        mean = line.mean(0)
        along = np.arange(len(line)) - (len(line) - 1) / 2
        if scale := along @ along:
            changes[:, k] = along @ line / scale
            rest = line - mean - np.outer(along, changes[:, k])
            bends[k] = (rest**2).sum() / scale
    return changes, mean, bends


def _kinds_of_positions(frame: Frame, centre) -> dict[str, tuple]:
    """Return how positions change and what they are in the middle, by their unit.

    Args:
        frame: the grid.
        centre: index of its middle, x first.

    Returns:
        The change along each axis, x first, in the columns of ``[d, d]``, and the
        position ``[d]``.
    """
    d, spacing = frame.ndim, np.array(frame.spacing)
    steps = np.reshape(frame.direction, (d, d)) * spacing
    middle = steps @ centre + frame.origin
    to_ras = np.diag([-1.0, -1.0, 1.0][:d])
    kinds = {
        "mm": (steps, middle),
        "mm in RAS": (to_ras @ steps, to_ras @ middle),
    }
    if spacing.min() < _WIDE or spacing.max() > _EQUAL * spacing.min():
        kinds["voxels"] = (np.eye(d), centre)
    return kinds


def _unit(image: sitk.Image) -> int:
    """Return the code of the unit of space of a NIfTI; 0 if there is none."""
    if not image.HasMetaDataKey("xyzt_units"):
        return 0
    return int(image.GetMetaData("xyzt_units")) % 8


def _with_its_slice(image: sitk.Image) -> sitk.Image:
    """Restore the third axis, which ITK drops from a NIfTI of one slice."""
    kind = (image.GetDimension(), image.GetNumberOfComponentsPerPixel())
    if kind != (2, 3) or not image.HasMetaDataKey("srow_x"):
        return image
    rows = [image.GetMetaData(f"srow_{axis}").split() for axis in "xyz"]
    # NIfTI points to the right and to the front, ITK to the left and to the back.
    world = np.diag((-1.0, -1.0, 1.0)) @ np.array(rows, float)
    spacing = np.linalg.norm(world[:, :3], axis=0)
    if not spacing.all():
        return image
    volume = sitk.JoinSeries(image)
    volume.SetSpacing(spacing.tolist())
    volume.SetOrigin(world[:, 3].tolist())
    volume.SetDirection((world[:, :3] / spacing).ravel().tolist())
    return volume
