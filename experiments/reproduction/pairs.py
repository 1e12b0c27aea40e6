"""Whole pairs to register: those of a list, or artificial ones of held-out volumes."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.comparison.measures import find_regions, read_truth
from experiments.heldout.files import write_pair
from regnet_jax.evaluation import evaluate
from regnet_jax.files import write_json
from regnet_jax.geometry import warp
from regnet_jax.geometry.slices import SLICE_AXES
from regnet_jax.io import (
    LoadedPair,
    PairPaths,
    checksum,
    read_image,
    read_pairs,
)
from regnet_jax.io.transforms import read_transform
from regnet_jax.registration import RegistrationOptions
from regnet_jax.registration.batch import run_batch
from regnet_jax.spatial import Frame, Image
from regnet_jax.synthesis import ArtificialPair, chest
from regnet_jax.synthesis.fields.families import FAMILIES, sample_field
from regnet_jax.synthesis.pairs import add_noise
from regnet_jax.training.data import read_anatomy

# Of procedural volumes, where no scan is held out.
_SHAPE = {2: (160, 160), 3: (96, 112, 128)}
_FAMILIES = ("low", "medium")
_NOISE = 5.0
# The file that says what the pairs were made from.
_ORIGIN = "origin.json"


class Registered(NamedTuple):
    """A registered pair, read back from its files.

    Attributes:
        name: of the pair, and of the folder with its report.
        row: of the table of the batch.
        images: fixed, moving and warped image.
        before: mean endpoint error before, mm, where ``experiments.compare`` measures
            it; None where the truth is not known.
        after: the same after the registration.
    """

    name: str
    row: dict
    images: tuple[Image, Image, Image]
    before: float | None = None
    after: float | None = None


def make_pairs(
    folder: Path,
    held_out: Sequence[Path],
    dimensions: int,
    *,
    spacing: float,
    axis: str,
    seed: int,
    cache: Path | None,
) -> Path:
    """Write an artificial pair of each of two families, and their list.

    Pairs of an earlier call with the same arguments stay as they are, so that their
    results are not older than they.

    Args:
        folder: for the files.
        held_out: paths of scans to deform; procedural chests where there are none.
        dimensions: of the volumes.
        spacing: voxel size, mm.
        axis: across the slices of 3D volumes within which alone the field moves; empty
            for fields that move along all axes.
        seed: of the fields.
        cache: of ``training.data.read_anatomy``.

    Returns:
        The path of the list.
    """
    path, record = folder / "pairs.csv", folder / _ORIGIN
    origin = {
        "scans": [checksum(scan) for scan in held_out],
        "dimensions": dimensions,
        "spacing": spacing,
        "axis": axis,
        "seed": seed,
    }
    files = [folder / name for family in _FAMILIES for name in _names(family)]
    complete = all(file.exists() for file in (path, record, *files))
    if complete and json.loads(record.read_text("utf-8")) == origin:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    record.unlink(missing_ok=True)
    lines = ["name,fixed,moving,displacement"]
    for number, family in enumerate(_FAMILIES):
        key = jax.random.fold_in(jax.random.key(seed), number)
        volume_key, field_key, fixed_key, moving_key = jax.random.split(key, 4)
        if held_out:
            (array,) = read_anatomy(held_out[number % len(held_out)], [spacing], cache)
            volume = jnp.asarray(array, jnp.float32)[..., None]
        else:
            volume = chest(volume_key, _SHAPE[dimensions], spacing=spacing)
        field = sample_field(field_key, volume, FAMILIES[family], spacing=spacing)
        displacement = field.displacement
        if axis:
            displacement = displacement.at[..., SLICE_AXES[axis]].set(0.0)
        fixed = add_noise(fixed_key, warp(volume, displacement), _NOISE)
        moving = add_noise(moving_key, volume, _NOISE)
        pair = ArtificialPair(fixed, moving, displacement, field.area)
        d = volume.ndim - 1
        frame = Frame(volume.shape[:-1], (spacing,) * d, (0.0,) * d, np.eye(d))
        write_pair(folder, family, frame, jax.tree.map(np.asarray, pair))
        lines.append(",".join([family, *_names(family)]))
    path.write_text("\n".join(lines) + "\n", "utf-8")
    # Last, so that it stands beside complete files alone.
    write_json(record, origin)
    return path


def _names(family: str) -> list[str]:
    """Return the names of the files of a pair, as ``write_pair`` gives them."""
    return [f"{family}_{x}.nii.gz" for x in ("fixed", "moving", "displacement")]


def register_pairs(path: Path, out: Path, options: RegistrationOptions) -> list:
    """Register the pairs of a list; finished ones are not registered again.

    Args:
        path: of the list.
        out: folder for the results.
        options: of every registration.

    Returns:
        A ``Registered`` for each pair.
    """
    run_batch(path, out, options)
    with (out / "pairs.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    return [_read(pair, rows[pair.name], out / pair.name) for pair in read_pairs(path)]


def _read(pair: PairPaths, row: dict, folder: Path) -> Registered:
    fixed, moving = read_image(pair.fixed), read_image(pair.moving)
    images = (fixed, moving, read_image(folder / "warped.nii.gz"))
    if (truth := read_truth(pair, fixed.frame)) is None:
        return Registered(pair.name, row, images)
    inside = find_regions(LoadedPair(fixed, moving), truth)["endpoint"]
    transform = read_transform(folder / "transform.h5")
    errors = [
        evaluate(how, fixed.frame, truth=truth, truth_mask=inside).endpoint
        for how in (None, transform)
    ]
    return Registered(pair.name, row, images, *(error.mean for error in errors))
