"""Files that appear whole or not at all."""

import contextlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.io.frames import Frame
from regnet_jax.io.images import to_sitk
from regnet_jax.io.native import quietly, text_of

# One file each, and each holds origin, spacing and direction.
IMAGE_SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd")
# Of a name that may be as long as names can be.
_KEPT = 32


def write_image(path, array, frame: Frame) -> None:
    """Write ``[*shape]`` or ``[*shape, c]`` on its frame, whole or not at all.

    Args:
        path: .nii.gz, .nii, .mha or .nrrd; all but .nii are compressed.
        array: values in any type that ITK knows.
        frame: where the voxels lie. NIfTI keeps it in single precision.

    Raises:
        InputError: unknown suffix, missing or unwritable folder, full disk.
    """
    check_suffix(path, IMAGE_SUFFIXES)
    image = to_sitk(array, frame)
    write_atomically(path, lambda name: sitk.WriteImage(image, name, True))


def check_suffix(path, suffixes: tuple[str, ...]) -> None:
    """Raise InputError unless ``path`` ends in one of ``suffixes``."""
    if not str(path).lower().endswith(suffixes):
        raise InputError(
            f"{path}: has no suffix that can be written here; use"
            f" {', '.join(suffixes[:-1])} or {suffixes[-1]}"
        )


def check_output(path) -> None:
    """Raise InputError unless a file can be written at ``path``, before long work."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file for the result")
    _check_parent(path)
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path}: its folder may not be written; choose another")


def _check_parent(path: Path) -> None:
    if not path.parent.is_dir():
        raise InputError(f"{path}: its folder does not exist; create it")


def write_atomically(path, write: Callable[[str], None]) -> None:
    """Call ``write(name)`` on a name beside ``path``, then move it into place.

    The name keeps the suffix, by which ITK picks the format. If anything goes
    wrong the file beside is removed, ``path`` stays as it was, and InputError
    says why.
    """
    path = Path(text_of(path))
    _check_parent(path)
    failure = "cannot be written; check that its folder may be written"
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name[-_KEPT:]}")
    try:
        quietly(lambda: write(str(temporary)), path, failure)
        quietly(lambda: os.replace(temporary, path), path, failure)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
