"""Transforms and displacement images from and to files of ITK, ANTs and elastix."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.files import (
    check_suffix,
    quietly,
    text_of,
    write_atomically,
    write_text,
)
from regnet_jax.io.headers import header_frame, permissively
from regnet_jax.io.images import write_image
from regnet_jax.spatial.frames import Frame, cosines
from regnet_jax.spatial.images import as_numbers, from_sitk, straight_frame
from regnet_jax.spatial.transforms import affine_transform

TRANSFORM_SUFFIXES = (".h5", ".hdf5", ".tfm", ".txt")
_LINEAR = "a linear SimpleITK transform, the path of one, or a homogeneous matrix"
# A matrix is singular if its smallest scale is below this fraction of the largest.
_SINGULAR = 1e-6


def write_displacement(path, displacement, frame: Frame) -> None:
    """Write a displacement as a float32 vector image, atomically.

    Args:
        path: as in ``write_image``.
        displacement: ``[*frame.shape, d]`` vectors, mm, x first.
        frame: the fixed grid.

    Raises:
        InputError: as ``write_image``.
    """
    write_image(path, np.asarray(displacement, np.float32), frame)


def read_displacement(path) -> tuple[np.ndarray, Frame]:
    """Read a vector image of displacements.

    Args:
        path: of an image by ``write_displacement`` or another tool that uses ITK.

    Returns:
        ``[*frame.shape, d]`` vectors (mm, x first) and the grid. A 3D image of one
        slice stays 3D.

    Raises:
        InputError: missing or unreadable file, not a vector of ``d`` components, or
            a vector that is not finite.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise InputError(f"{path}: does not exist; check the path")
    otherwise = "cannot be read; check that it is whole"
    image = quietly(
        lambda: permissively(lambda: sitk.ReadImage(text_of(path))), path, otherwise
    )
    image = _with_its_slice(image)
    d = image.GetDimension()
    if image.GetNumberOfComponentsPerPixel() != d:
        raise InputError(
            f"{path}: has {image.GetNumberOfComponentsPerPixel()} components in {d}D;"
            " give a displacement image, a vector for each voxel"
        )
    vectors = from_sitk(image, str(path))
    if not np.isfinite(vectors.array).all():
        raise InputError(f"{path}: holds NaN or infinite values; make it again")
    frame = straight_frame(str(path), header_frame(path, vectors.frame))
    return vectors.array, frame


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


def write_transform(path, transform: sitk.Transform) -> None:
    """Write a transform for ``sitk.ReadTransform``, atomically.

    A field takes 24 bytes a voxel in .h5: 256 x 256 x 128 voxels are 201 MB,
    written in 0.5 s and read in 1 s. As text they would be 494 MB and 17 s.

    Args:
        path: .h5, .hdf5, .tfm or .txt.
        transform: any.

    Raises:
        InputError: unknown suffix, missing or unwritable folder, full disk.
    """
    check_suffix(path, TRANSFORM_SUFFIXES)

    def write(name):
        # HDF5 crashes the process at its end if the disk was full. The parameters of a
        # composite that are counted are those of its last transform, the field.
        needed = 8 * transform.GetNumberOfParameters()
        if shutil.disk_usage(Path(name).parent).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sitk.WriteTransform(transform, name)

    write_atomically(path, write)


def read_transform(path) -> sitk.Transform:
    """Read a transform that ITK or ``write_transform`` wrote.

    Args:
        path: of the file.

    Returns:
        The transform.

    Raises:
        InputError: missing, unreadable or truncated file, or not a transform.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise InputError(f"{path}: does not exist; check the path")
    otherwise = (
        "is not a whole transform that ITK can read; give the .h5 of a registration"
        " or a .tfm"
    )
    if not quietly(lambda: _is_whole_hdf5(path), path, otherwise):
        raise InputError(f"{path}: {otherwise}")
    transform = quietly(lambda: sitk.ReadTransform(text_of(path)), path, otherwise)
    if path.suffix.lower() in (".tfm", ".txt"):
        # ITK accepts a truncated text.
        lines = path.read_text("utf-8", errors="replace").splitlines()
        keys = [line.partition(":")[0] for line in lines]
        if keys.count("Parameters") != keys.count("FixedParameters"):
            raise InputError(f"{path}: {otherwise}")
    return transform


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
    zero = np.array(transform.TransformPoint((0.0,) * dimension))
    units = [transform.TransformPoint(unit) for unit in np.eye(dimension).tolist()]
    matrix = np.eye(dimension + 1)
    matrix[:-1, :-1] = (np.array(units) - zero).T
    matrix[:-1, -1] = zero
    return as_numbers(matrix, "the transform")


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


def write_for_elastix(folder, frame: Frame) -> None:
    """Write ``transform_elastix.txt``, which refers to ``displacement.nii.gz``.

    transformix must be started in the folder of both.

    Args:
        folder: an existing folder.
        frame: the fixed grid, on which the displacement lies.
    """
    flipped = np.ravel(cosines(frame).T)
    lines = {
        "Transform": "DeformationFieldTransform",
        "DeformationFieldFileName": "displacement.nii.gz",
        "DeformationFieldInterpolationOrder": 1,
        "NumberOfParameters": 0,
        "InitialTransformParametersFileName": "NoInitialTransform",
        "HowToCombineTransforms": "Compose",
        "FixedImageDimension": frame.ndim,
        "MovingImageDimension": frame.ndim,
        "FixedInternalImagePixelType": "float",
        "MovingInternalImagePixelType": "float",
        "Size": frame.shape[::-1],
        "Index": (0,) * frame.ndim,
        "Spacing": frame.spacing,
        "Origin": frame.origin,
        "Direction": flipped.tolist(),
        "UseDirectionCosines": "true",
        "ResampleInterpolator": "FinalLinearInterpolator",
        "Resampler": "DefaultResampler",
        "DefaultPixelValue": 0,
        "ResultImageFormat": "nii.gz",
        "ResultImagePixelType": "float",
        "CompressResultImage": "true",
    }
    text = "\n".join(f"({key} {_words(value)})" for key, value in lines.items())
    write_text(Path(folder) / "transform_elastix.txt", text + "\n")


def _words(value) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    values = value if isinstance(value, tuple | list) else (value,)
    return " ".join(f"{number:.12g}" for number in values)
