"""Volumes for artificial pairs, and the files and figures of pairs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.io import (
    Frame,
    canonicalise,
    displacement_to_world,
    isotropic_frame,
    read_ct,
    resample,
    strict_json,
    write_displacement,
    write_image,
)
from regnet_jax.reporting import statistics_figure
from regnet_jax.synthesis import ArtificialPair, FieldStatistics, chest


def make_source(path, shape: tuple[int, ...], spacing: float):
    """Where the volumes come from.

    Args:
        path: of a scan, of which the middle is taken; None draws chests.
        shape: of the volumes.
        spacing: voxel size, mm.

    Returns:
        ``draw(key) -> [*shape, 1]`` and the frame of the volumes.

    Raises:
        InputError: if the scan cannot be read, has no Hounsfield units or another
            dimension.
    """
    if path is None:
        d = len(shape)
        frame = Frame(shape, (spacing,) * d, (0.0,) * d, np.eye(d))
        return jax.jit(lambda key: chest(key, shape, spacing=spacing)), frame
    image = read_ct(path)
    if image.frame.ndim != len(shape):
        raise InputError(
            f"{path} is {image.frame.ndim}D and --shape {len(shape)}D;"
            " give both of the same dimension"
        )
    _, frame = canonicalise(image.array, image.frame)
    frame = isotropic_frame(frame, spacing, shape)
    volume = resample(image, frame).array[..., None]
    return lambda key: volume, frame


def middle_slice(array):
    """The middle coronal slice with the head up of ``[*spatial, c]``, or the slice."""
    return array[::-1, array.shape[1] // 2] if array.ndim == 4 else array


def field_in_view(displacement):
    """The middle slice of a field, its last two components along the slice."""
    field = middle_slice(displacement)
    return field[..., [1, 0, 2]] * [1, -1, 1] if displacement.ndim == 4 else field


def write_pair(folder: Path, name: str, frame: Frame, pair: ArtificialPair) -> None:
    """Writes an artificial pair as NAME_fixed, NAME_moving and NAME_displacement.

    Args:
        folder: where to; it exists.
        name: begins the names of the files.
        frame: where the voxels lie.
        pair: its displacement in voxels; written in mm.
    """
    write_image(folder / f"{name}_fixed.nii.gz", pair.fixed[..., 0], frame)
    write_image(folder / f"{name}_moving.nii.gz", pair.moving[..., 0], frame)
    vectors = displacement_to_world(frame, pair.displacement)
    write_displacement(folder / f"{name}_displacement.nii.gz", vectors, frame)


def write_statistics(
    folder: Path, fields: Mapping[str, Sequence[FieldStatistics]]
) -> list[str]:
    """Writes what the fields of each family are like, as statistics.json and .png.

    Args:
        folder: where to; it exists.
        fields: the statistics of each field, by family.

    Returns:
        A table, a line for each family: mean and standard deviation over its fields.
    """
    columns = {
        name: {
            key: np.asarray([getattr(one, key) for one in several], float)
            for key in FieldStatistics._fields
        }
        for name, several in fields.items()
    }
    listed = {
        name: {key: values.tolist() for key, values in numbers.items()}
        for name, numbers in columns.items()
    }
    (folder / "statistics.json").write_text(strict_json(listed, indent=1) + "\n")
    statistics_figure(columns).savefig(folder / "statistics.png", dpi=150)
    lines = ["family          mean mm      largest mm   least det.    wavelength mm"]
    for name, numbers in columns.items():
        shown = ("mean", "largest", "least_jacobian", "wavelength")
        cells = (f"{numbers[k].mean():6.2f} ±{numbers[k].std():5.2f}" for k in shown)
        lines.append(f"{name:14s}{' '.join(cells)}")
    return lines
