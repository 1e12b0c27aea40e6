"""Where a registration starts: a linear alignment, or a transform that is given."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.io import (
    affine_matrix,
    read_links,
    read_transform,
    split_transforms,
    transform_files,
)
from regnet_jax.registration.alignment.linear import KINDS, align
from regnet_jax.spatial import (
    Frame,
    Image,
    affine_transform,
    composite,
    field_frame,
    split_frame,
    to_world,
)
from regnet_jax.spatial.point_maps import PointMap, sampled_map
from regnet_jax.spatial.transforms import flatten, solve_affine

# Points that are mapped at a time, to bound the memory.
_CHUNK = 1 << 19


@dataclass(frozen=True, eq=False)
class Start:
    """The transform ``x -> A(D(x))`` from which a registration goes on.

    Attributes:
        affine: ``A``, homogeneous ``[d + 1, d + 1]``, mm, x first.
        deformation: ``D``, from points ``[n, d]`` to points ``[n, d]`` of the fixed
            image's world, continued beyond the edge of its field; None if that is the
            identity.
    """

    affine: np.ndarray
    deformation: PointMap | None = None


def is_kind(initial) -> bool:
    """Tell whether an option names a kind of linear alignment."""
    return isinstance(initial, str) and initial in KINDS


def is_computed(initial) -> bool:
    """Tell whether an option asks for a linear alignment of the images."""
    return is_kind(initial) and initial != "none"


def files_of_start(initial) -> list[Path]:
    """Return the files of a transform that is given to start from.

    Args:
        initial: the option of this name, see ``RegistrationOptions``.

    Returns:
        Their paths; none if an alignment is computed or an object is given.
    """
    if is_kind(initial) or not isinstance(initial, str | os.PathLike):
        return []
    return transform_files(initial)


def checksum_of_start(initial) -> str | None:
    """Return the checksum of a transform that is given to start from.

    Args:
        initial: the option of this name, see ``RegistrationOptions``.

    Returns:
        16 hexadecimal digits, others for other numbers, also of files that a file
        names, and where it is inverted; None if an alignment is computed, or if what is
        given is no transform, which ``find_start`` refuses. No transform is inverted
        for it, as that is slow.
    """
    if is_kind(initial):
        return None
    digest = hashlib.sha256()
    if isinstance(initial, str | os.PathLike):
        try:
            links = read_links(initial)
        except (InputError, OSError):
            return None
        for link, transform in links:
            _add(digest, transform, inverse=link.inverse)
    elif isinstance(initial, sitk.Transform):
        _add(digest, initial, inverse=False)
    else:
        digest.update(repr(np.asarray(initial).tolist()).encode())
    return digest.hexdigest()[:16]


def _add(digest, transform: sitk.Transform, *, inverse: bool) -> None:
    """Add the numbers of a transform to a digest, and whether its inverse is meant."""
    parts = flatten(transform)
    if inverse:
        digest.update(f"inverse of {len(parts)}".encode())
    for part in parts:
        digest.update(repr(part.GetFixedParameters()).encode())
        if isinstance(part, sitk.DisplacementFieldTransform):
            field = sitk.GetArrayViewFromImage(part.GetDisplacementField())
            digest.update(np.ascontiguousarray(field).data)
        else:
            digest.update(repr(part.GetParameters()).encode())


def find_start(fixed: Image, moving: Image, initial, masks, padding) -> Start:
    """Return where a registration starts, computed or given.

    Args:
        fixed: the fixed image.
        moving: the moving image.
        initial: the option of this name, see ``RegistrationOptions``.
        masks: of both images, for the linear alignment; each may be None.
        padding: of both images, likewise.

    Returns:
        The start.

    Raises:
        InputError: if it cannot be used.
    """
    if is_kind(initial):
        fixed_mask, moving_mask = masks
        affine = align(
            fixed,
            moving,
            kind=initial,
            fixed_mask=fixed_mask,
            moving_mask=moving_mask,
            padding=padding,
        )
        return Start(affine)
    # Messages of the reader name the file.
    name = f"{initial}: " if isinstance(initial, str | os.PathLike) else ""
    given = read_start(initial)
    try:
        return _given_start(given, fixed.frame)
    except InputError as error:
        raise InputError(f"initial: {name}{error}") from None


def read_start(initial):
    """Read a transform to start from, for callers that start from it several times.

    Args:
        initial: the option of this name, see ``RegistrationOptions``.

    Returns:
        The transform if files are given, otherwise what is given.

    Raises:
        InputError: if the files cannot be read, or are none.
    """
    if is_kind(initial) or not isinstance(initial, str | os.PathLike):
        return initial
    return _read(initial, read_transform)


def check_start(initial, dimension: int | None = None) -> None:
    """Read a transform to start from, before long work, without its inverse.

    Args:
        initial: the option of this name, see ``RegistrationOptions``.
        dimension: of the images; None for any.

    Raises:
        InputError: if the files cannot be read, or are of another dimension.
    """
    if is_kind(initial) or not isinstance(initial, str | os.PathLike):
        return
    d = _read(initial, read_links)[0][1].GetDimension()
    if dimension not in (None, d):
        raise InputError(
            f"initial: {initial}: the transform is {d}D and the images are"
            f" {dimension}D; give one of their dimension"
        )


def _read(initial, read):
    """Read the files of a transform; a word may be meant for an alignment."""
    links = split_transforms(initial)
    if str(links[0].path) == initial and not os.path.exists(initial):
        raise InputError(
            f"initial: {initial!r} is no alignment and no file; give one of"
            f" {', '.join(KINDS)}, or a transform"
        )
    try:
        return read(initial)
    except InputError as error:
        raise InputError(f"initial: {error}") from None


def _given_start(given, frame: Frame) -> Start:
    if _has_transforms(given):
        raise InputError(
            "is a list of transforms; give the paths as one text, with commas between"
            " them, or one transform, such as a sitk.CompositeTransform"
        )
    is_deformation = isinstance(given, sitk.Transform) and not given.IsLinear()
    if not is_deformation or given.GetDimension() != frame.ndim:
        return Start(affine_matrix(given, frame.ndim))
    several = sum(not part.IsLinear() for part in flatten(given)) > 1
    # No single grid of several shows all of them; that of the fixed image does.
    domain = (None if several else field_frame(given)) or frame
    if 0 in domain.shape:
        raise InputError("the displacement field is empty; give one with voxels")
    mapped, affine = sampled_map(given, domain)
    return Start(affine, lambda points: solve_affine(affine, mapped(points)))


def _has_transforms(given) -> bool:
    """Tell a list of transforms from a matrix."""
    kinds = (str, os.PathLike, sitk.Transform)
    return isinstance(given, list | tuple) and any(isinstance(i, kinds) for i in given)


def residual_after(start: Start, frame: Frame, vectors) -> np.ndarray:
    """Return the residual of a displacement that is applied before a start.

    Args:
        start: ``A(D(x))``.
        frame: the grid of the displacement and of the result.
        vectors: ``v``, ``[*frame.shape, d]``, mm, x first.

    Returns:
        ``r``, ``[*frame.shape, d]``, mm, x first, with
        ``A(x + r(x)) = A(D(x + v(x)))``.
    """
    if start.deformation is None:
        return vectors
    residual = np.empty((*frame.shape, frame.ndim))
    for part, grid in split_frame(frame, _CHUNK):
        points = to_world(grid, np.moveaxis(np.indices(grid.shape), 0, -1))
        moved = (points + vectors[part]).reshape(-1, frame.ndim)
        residual[part] = start.deformation(moved).reshape(points.shape) - points
    return residual


def start_transform(start: Start, frame: Frame) -> sitk.Transform:
    """Return a start as a transform that is sampled at the voxels of a grid."""
    if start.deformation is None:
        return affine_transform(start.affine)
    nothing = np.zeros((*frame.shape, frame.ndim))
    return composite(frame, residual_after(start, frame, nothing), start.affine)
