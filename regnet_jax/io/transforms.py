"""Transforms from and to files of ITK, ANTs, elastix and 3D Slicer.

A text names one transform or several: ``a.h5,inverse:b.mat`` maps a fixed point by
``a.h5`` first and by the inverse of ``b.mat`` then. This is the order of the flags
``-t`` of antsApplyTransforms, whose ``[b.mat,1]`` means the same as ``inverse:b.mat``.
"""

import dataclasses
import errno
import logging
import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError, shown
from regnet_jax.files import (
    check_capitals,
    check_no_pipe,
    check_suffix,
    quietly,
    text_of,
    write_atomically,
)
from regnet_jax.io.displacements import (
    check_no_positions,
    read_displacement,
    rounded,
    write_displacement,
)
from regnet_jax.io.elastix import (
    is_parameter_file,
    named_files,
    read_parameter_file,
)
from regnet_jax.spatial.frames import Frame
from regnet_jax.spatial.images import as_numbers, frame_of, to_sitk
from regnet_jax.spatial.inversion import invert_transform
from regnet_jax.spatial.transforms import (
    affine_transform,
    field_frame,
    flatten,
    linear_matrix,
)

_LOG = logging.getLogger(__name__)

_HDF5 = (".h5", ".hdf5")
TRANSFORM_SUFFIXES = (*_HDF5, ".tfm", ".txt")
# Names in the HDF5 files of ITK, and of the grid that is added.
_GROUP, _GRID = "TransformGroup", "Grid"
_NUMBERS, _FIXED_NUMBERS = "TransformParameters", "TransformFixedParameters"
# Multiples of a step are exact in single precision up to 2^24 steps, and the step of
# ``rounded`` is at least as large as the tolerance.
_EXACT = 2.0**24
# Numbers in a chunk of a compressed file.
_CHUNK = 1 << 16
# Of images, which can only be displacement images.
_IMAGE_SUFFIXES = (
    *(".nii", ".nii.gz", ".hdr", ".img", ".img.gz", ".mha", ".mhd", ".nrrd", ".nhdr"),
    *(".vtk", ".tif", ".tiff", ".png", ".gipl", ".mnc", ".dcm"),
)
_INVERSE = "inverse:"
# The first words of a transform of MINC.
_MNI = b"MNI Transform File"
# Commas outside of the brackets of ANTs.
_COMMA = re.compile(r",(?![^\[\]]*\])")
# To the end of its line.
_COMMENT = re.compile("#.*")
_BRACKETS = re.compile(r"\[\s*(.*?)\s*,\s*([01])\s*\]")
_LINEAR = "a linear SimpleITK transform, the path of one, or a homogeneous matrix"
# A matrix is singular if its smallest scale is below this fraction of the largest.
_SINGULAR = 1e-6


def write_transform(
    path,
    transform: sitk.Transform,
    *,
    grid: Frame | None = None,
    tolerance: float = 0.0,
) -> None:
    """Write a transform for ``sitk.ReadTransform``, atomically.

    HDF5 files are compressed, which hardly helps unless displacements are rounded. With
    a tolerance of 0.0003 mm, a breath on 9.3 million voxels takes 50 MB instead of 223.

    Args:
        path: .h5, .hdf5, .tfm or .txt.
        transform: any.
        grid: that the transform is made for, usually of the fixed image, which an HDF5
            file keeps for ``grid_of``.
        tolerance: mm by which components of a displacement field may be rounded in an
            HDF5 file.

    Raises:
        InputError: unknown suffix, missing or unwritable folder, full disk.
    """
    check_suffix(path, TRANSFORM_SUFFIXES)

    def write(name):
        if not str(path).lower().endswith(_HDF5):
            sitk.WriteTransform(transform, name)
            return
        parts = flatten(transform)[::-1] or [
            sitk.Transform(transform.GetDimension(), sitk.sitkIdentity)
        ]
        # HDF5 crashes the process at its end if the disk was full.
        needed = 8 * sum(part.GetNumberOfParameters() for part in parts)
        if shutil.disk_usage(Path(name).parent).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        _write_hdf5(name, parts, grid, tolerance)

    write_atomically(path, write)


def _write_hdf5(
    name: str, parts: list[sitk.Transform], grid: Frame | None, tolerance: float
) -> None:
    """Write parts as the composite of ITK, compressed, and with a grid.

    ITK writes the file with fields of one voxel, whose numbers are then replaced: it
    would write the whole in eight bytes a number, and uncompressed.

    Args:
        name: of the file.
        parts: the last is applied first; a single one is no composite.
        grid: as in ``write_transform``.
        tolerance: the same.
    """
    import h5py

    single = len(parts) == 1
    small = [_shrunk(part) for part in parts]
    sitk.WriteTransform(small[0] if single else sitk.CompositeTransform(small), name)
    found = {}

    def read(key, item):
        if isinstance(item, h5py.Dataset):
            found[key] = item[()]

    # Nobody else uses the file. A lock would fail on file systems without locks, and
    # where a process that another thread starts still holds the one of the reading.
    with h5py.File(name, locking=False) as file:
        file.visititems(read)
    for number, part in enumerate(parts, 0 if single else 1):
        if isinstance(part, sitk.DisplacementFieldTransform):
            group = f"{_GROUP}/{number}"
            found[f"{group}/{_FIXED_NUMBERS}"] = np.array(part.GetFixedParameters())
            vectors = sitk.GetArrayViewFromImage(part.GetDisplacementField())
            # Four bytes are exact for rounded numbers that are not too large.
            largest = max(-vectors.min(), vectors.max()) if vectors.size else 0.0
            kind = np.float32 if largest < _EXACT * tolerance else np.float64
            numbers = rounded(np.ascontiguousarray(vectors, kind), tolerance)
            found[f"{group}/{_NUMBERS}"] = numbers.ravel()
    if grid is not None:
        found |= {f"{_GRID}/{k}": v for k, v in dataclasses.asdict(grid).items()}
    with h5py.File(name, "w", locking=False) as file:
        for key, values in found.items():
            large = np.size(values) > _CHUNK
            how = {"chunks": (_CHUNK,), "compression": 1, "shuffle": True}
            file.create_dataset(key, data=values, **(how if large else {}))


def _shrunk(part: sitk.Transform) -> sitk.Transform:
    """Return a transform as it is, or a field of one voxel in place of a field."""
    if not isinstance(part, sitk.DisplacementFieldTransform):
        return part
    d = part.GetDimension()
    return sitk.DisplacementFieldTransform(
        sitk.Image([1] * d, sitk.sitkVectorFloat64, d)
    )


def grid_of(given, transform: sitk.Transform) -> Frame | None:
    """Return the grid for which a transform was made.

    Args:
        given: the file or files of it, as for ``read_transform``.
        transform: what was read.

    Returns:
        The grid that ``write_transform`` put into the file of the transform that maps
        first, unless that is inverted; otherwise the grid of the displacement field
        that maps first, or None if there is none.
    """
    first = split_transforms(given)[0]
    recorded = None if first.inverse else _recorded_grid(first.path)
    return recorded or field_frame(transform)


def _recorded_grid(path: Path) -> Frame | None:
    """Return the grid in a file, or None."""
    if not path.name.lower().endswith(_HDF5):
        return None
    import h5py

    with h5py.File(path, locking=False) as file:
        names = [field.name for field in dataclasses.fields(Frame)]
        if any(f"{_GRID}/{name}" not in file for name in names):
            return None
        return Frame(**{name: np.array(file[f"{_GRID}/{name}"]) for name in names})


class Link(NamedTuple):
    """One of the transforms that a text names.

    Attributes:
        path: of its file.
        inverse: whether its inverse is meant.
    """

    path: Path
    inverse: bool


def _no_name(given) -> InputError:
    return InputError(
        f"transform: {shown(given)} names no file; give a path, a text such as"
        " A,inverse:B, or a list of these"
    )


def split_transforms(given) -> list[Link]:
    """Return the transforms that a text names, the one that maps first in front.

    Args:
        given: a path, or a text such as ``a.h5,inverse:b.mat`` or ``a.h5,[b.mat,1]``;
            or a list of these.

    Returns:
        The links, none of an empty list.

    Raises:
        InputError: if nothing stands before or after a comma, or it is no name.
    """
    if isinstance(given, list | tuple):
        return [link for each in given for link in split_transforms(each)]
    if not isinstance(given, str | os.PathLike):
        raise _no_name(given)
    if not isinstance(given, str) or os.path.exists(given):
        return [Link(Path(given), False)]
    links = []
    for word in map(str.strip, _COMMA.split(given)):
        if not word.removeprefix(_INVERSE):
            raise InputError(
                f"{given!r}: lacks the name of a transform; write A or A,inverse:B"
            )
        if match := _BRACKETS.fullmatch(word):
            links.append(Link(Path(match[1]), match[2] == "1"))
        else:
            path = word.removeprefix(_INVERSE)
            links.append(Link(Path(path), path != word))
    return links


def transform_files(given) -> list[Path]:
    """Return the files that are read for transforms.

    Args:
        given: as for ``split_transforms``.

    Returns:
        The files that it names, and those that parameter files of elastix name.

    Raises:
        InputError: if a parameter file is damaged, or names a file that is missing.
    """
    files: list[Path] = []
    waiting = [link.path for link in split_transforms(given)]
    while waiting:
        path = waiting.pop(0)
        if path not in files:
            files.append(path)
            if path.is_file() and is_parameter_file(path):
                waiting += named_files(path)
    return files


def read_transform(given, *, progress: bool = False) -> sitk.Transform:
    """Read a transform, or several that are applied one after the other.

    A file is one of ITK (.h5, .tfm, .txt, .mat; so those of ANTs and 3D Slicer), a
    displacement image (NIfTI as ANTs writes it, .mha, .nrrd), or a transform parameter
    file of elastix, which is read with the initial transforms that it names.

    Args:
        given: as for ``split_transforms``.
        progress: show a bar where a deformation is inverted.

    Returns:
        The transform from fixed points to moving points.

    Raises:
        InputError: missing, unreadable or truncated file, not a transform, transforms
            of different dimensions, or one without an inverse where that is needed.
    """
    read = [
        _inverse(transform, link.path, progress) if link.inverse else transform
        for link, transform in read_links(given)
    ]
    # ITK applies the transform that was added last first.
    return read[0] if len(read) == 1 else sitk.CompositeTransform(read[::-1])


def read_links(given) -> list[tuple[Link, sitk.Transform]]:
    """Read the transforms that a text names as they are in their files, not inverted.

    Args:
        given: as for ``split_transforms``.

    Returns:
        Each link with what its file holds, in the order of ``split_transforms``.

    Raises:
        InputError: as ``read_transform``, except for those without an inverse.
    """
    links = split_transforms(given)
    if not links:
        raise _no_name(given)
    read: list[tuple[Link, sitk.Transform]] = []
    initial, names = {}, set()
    for link in links:
        path, trail = link.path, []
        transform = _read_file(path, trail)
        names.add(trail[0])
        initial |= dict.fromkeys(trail[1:], path)
        first = read[0][1] if read else transform
        if transform.GetDimension() != first.GetDimension():
            raise InputError(
                f"{path}: is {transform.GetDimension()}D and {links[0].path} is"
                f" {first.GetDimension()}D; give transforms of one dimension"
            )
        read.append((link, transform))
    for name in sorted(names & set(initial)):
        raise InputError(
            f"{initial[name]}: starts from {name.name} by itself; give it alone"
        )
    return read


def _inverse(transform: sitk.Transform, path: Path, progress: bool) -> sitk.Transform:
    try:
        inverse, lost = invert_transform(transform, progress=progress)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if lost:
        _LOG.warning(
            "%s: folds, so it has no inverse at %d voxels; the nearest point is used",
            path,
            lost,
        )
    return inverse


def _read_file(path: Path, trail: list[Path]) -> sitk.Transform:
    """Read a file of any tool; ``trail`` gets it, and those that it starts from."""
    if not os.path.exists(path):
        raise InputError(f"{path}: does not exist; check the path")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name the file of a transform in it")
    if path.resolve() in trail:
        raise InputError(f"{path}: starts from itself; correct its initial transform")
    check_no_pipe(path)
    trail.append(path.resolve())
    if path.is_file() and path.name.lower().endswith(_IMAGE_SUFFIXES):
        vectors, frame = read_displacement(path)
        field = to_sitk(vectors.astype(np.float64), frame)
        return sitk.DisplacementFieldTransform(field)
    if path.is_file() and is_parameter_file(path):
        return read_parameter_file(path, lambda name: _read_file(name, trail))
    return _read_itk(path)


def _read_itk(path: Path) -> sitk.Transform:
    """Read a file that ITK wrote."""
    otherwise = (
        "is not a whole transform that ITK can read; give the .h5 of a registration"
        " or a .tfm"
    )
    check_capitals(path, (".tfm", ".txt", ".mat"))
    if not quietly(lambda: _is_whole_hdf5(path), path, otherwise):
        raise InputError(f"{path}: {otherwise}")
    if _begins_with(path, _MNI) or path.suffix.lower() == ".lta":
        raise InputError(
            f"{path}: is a transform of MINC or FreeSurfer, whose axes and direction"
            " are not those of ITK; convert it, for example by lta_convert (--inmni,"
            " --outitk)"
        )
    if _is_bare_matrix(path):
        raise InputError(
            f"{path}: is a bare matrix, whose axes its file does not say; convert it"
            " for ITK, one of FLIRT by c3d_affine_tool -ref FIXED -src MOVING FILE"
            " -fsl2ras -oitk OUT, one of greedy or ITK-SNAP by c3d_affine_tool FILE"
            " -oitk OUT"
        )
    try:
        transform = quietly(lambda: sitk.ReadTransform(text_of(path)), path, otherwise)
    except KeyError:
        raise InputError(
            f"{path}: holds a kind of transform that SimpleITK does not know; convert"
            " it to an affine transform or a displacement image"
        ) from None
    if path.suffix.lower() in (".tfm", ".txt"):
        # ITK accepts a truncated text, and leaves out parameters that are too many.
        lines = path.read_text("utf-8", errors="replace").splitlines()
        entries = [line.partition(":")[::2] for line in lines]
        keys = [key for key, _ in entries]
        if keys.count("Parameters") != keys.count("FixedParameters"):
            raise InputError(f"{path}: {otherwise}")
        given = sum(len(words.split()) for key, words in entries if key == "Parameters")
        taken = sum(part.GetNumberOfParameters() for part in flatten(transform))
        if given != taken:
            raise InputError(
                f"{path}: has {given} parameters where its transform takes {taken};"
                " correct it"
            )
    parts = flatten(transform)
    if not parts:
        raise InputError(f"{path}: {otherwise}")
    for part in parts:
        values = [*part.GetFixedParameters()]
        if isinstance(part, sitk.DisplacementFieldTransform):
            field = part.GetDisplacementField()
            vectors = sitk.GetArrayViewFromImage(field)
            check_no_positions(path, vectors, frame_of(field))
        else:
            vectors = np.asarray(part.GetParameters())
        if not (np.isfinite(vectors).all() and np.isfinite(values).all()):
            raise InputError(f"{path}: holds NaN or infinite values; make it again")
    return transform


def _begins_with(path: Path, content: bytes) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(content)) == content


def _is_bare_matrix(path: Path) -> bool:
    """Tell whether a file holds only comments and the numbers of a matrix as text.

    AFNI and NiftyReg may leave out the last row.
    """
    if not path.is_file() or path.stat().st_size > 4096:
        return False
    try:
        text = path.read_bytes().decode("ascii")
        words = _COMMENT.sub("", text).replace(",", " ").split()
        return len([float(word) for word in words]) in (12, 16)
    except ValueError:
        return False


def _is_whole_hdf5(path: Path) -> bool:
    """Tell whether an HDF5 file has its stated length; true for all other files.

    ITK's HDF5 may end the process on a file that is longer than it states.
    """
    if path.is_dir():
        return True
    with path.open("rb") as file:
        head = file.read(64)
    if not head.startswith(b"\x89HDF\r\n\x1a\n"):
        return True
    place = 28 if head[8:9] >= b"\2" else 40
    return int.from_bytes(head[place : place + 8], "little") == path.stat().st_size


def affine_matrix(given, dimension: int) -> np.ndarray:
    """Return the homogeneous matrix of any linear transform.

    Args:
        given: a SimpleITK transform (translation, rigid, similarity, affine, or
            composite of them), the path of its file, or the matrix itself as an array
            or nested lists.
        dimension: ``d``, of the images.

    Returns:
        ``[d + 1, d + 1]``, mm, x first.

    Raises:
        InputError: if it is not linear, of another dimension, not finite, or has no
            inverse.
    """
    if isinstance(given, str | os.PathLike):
        try:
            return affine_matrix(read_transform(given), dimension)
        except InputError as error:
            prefix = f"{Path(given)}: "
            raise InputError(prefix + str(error).removeprefix(prefix)) from None
    if isinstance(given, sitk.Transform):
        matrix = _matrix_of(given, dimension)
    else:
        matrix = _homogeneous(given, dimension)
    scales = np.linalg.svd(matrix[:-1, :-1], compute_uv=False)
    if not scales[-1] > _SINGULAR * scales[0]:
        raise InputError(
            "the linear transform is singular; give one that has an inverse"
        )
    return matrix


def _homogeneous(given, dimension: int) -> np.ndarray:
    matrix = as_numbers(given, "the matrix", wanted=_LINEAR)
    size, last = dimension + 1, [0.0] * dimension + [1.0]
    fact = f"has shape {matrix.shape}"
    if matrix.shape == (size, size):
        if np.allclose(matrix[-1], last):
            return matrix
        fact = f"ends with the row {matrix[-1].tolist()}"
    raise InputError(
        f"the matrix {fact}; give one of {size} x {size} that ends with the row {last},"
        " mm, x first"
    )


def _matrix_of(transform: sitk.Transform, dimension: int) -> np.ndarray:
    if transform.GetDimension() != dimension:
        raise InputError(
            f"the transform is {transform.GetDimension()}D and the images are"
            f" {dimension}D; give one of their dimension"
        )
    if not transform.IsLinear():
        raise InputError(
            "the transform is not linear; give a translation, rigid or affine one"
        )
    return as_numbers(linear_matrix(transform), "the transform")


def write_for_ants(folder, frame: Frame, residual, affine) -> None:
    """Write a registration for ANTs.

    The files are ``ants_1Warp.nii.gz`` and ``ants_0GenericAffine.mat``, for
    ``antsApplyTransforms -t ants_1Warp.nii.gz -t ants_0GenericAffine.mat``.

    Args:
        folder: an existing folder.
        frame: the fixed grid.
        residual: ``r``, ``[*frame.shape, d]`` vectors, mm, x first.
        affine: ``A``, homogeneous ``[d + 1, d + 1]``.
    """
    folder = Path(folder)
    write_displacement(folder / "ants_1Warp.nii.gz", residual, frame)
    linear = affine_transform(affine)
    path = folder / "ants_0GenericAffine.mat"
    write_atomically(path, lambda name: sitk.WriteTransform(linear, name))
