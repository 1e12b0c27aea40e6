r"""Make artificial pairs with their displacement fields, and show the families.

Example:
    python -m experiments.synthesize --family low,medium,high --count 2 \
        --shape 160,160,160 --out pairs

For each family and number, --out gets NAME_NNN_fixed.nii.gz, NAME_NNN_moving.nii.gz and
NAME_NNN_displacement.nii.gz (mm, ITK vector image, fixed to moving). It also gets
pairs.csv, which lists them for experiments.compare; families.png with heat maps of the
first field of each family; and statistics.json and statistics.png with the magnitudes,
Jacobian determinants and wavelengths of the fields. --family all makes all families. A
family that has no room in --shape is refused before any pair is made. The volumes are
procedural chests, or the middle of --volume, whose fields depend on --seed and on the
checksum of the file. Figures of 3D pairs show coronal slices.

The volumes lose their own noise, table and arms, and each image gets noise, a table and
arms of its own, as from two scanners. With --noscanners, a volume is the moving image
as it is, and the fixed one is warped and gets noise of 5 HU, as in RegNet's recipe of
2017.
"""

import csv
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from experiments.heldout.files import write_pair
from experiments.text import mean_and_sd, plain
from regnet_jax.cli import common
from regnet_jax.errors import InputError
from regnet_jax.evaluation import sample_deviation
from regnet_jax.files import staged_folder, strict_json
from regnet_jax.io import checksum, read_ct
from regnet_jax.reporting import family_figure, statistics_figure
from regnet_jax.reporting.families import middle_slices
from regnet_jax.spatial import Frame, to_isotropic
from regnet_jax.synthesis import (
    FAMILIES,
    FieldStatistics,
    artificial_pair,
    chest,
    field_statistics,
)
from regnet_jax.synthesis.fields.families import has_room, sample_field
from regnet_jax.synthesis.pairs import two_scans
from regnet_jax.synthesis.random import fold_in_text
from regnet_jax.synthesis.volumes.anatomy import anatomy

_FAMILY = flags.DEFINE_list(
    "family",
    None,
    f"Families of fields, with commas, or all: {', '.join(FAMILIES)}.",
    required=True,
)
_VOLUME = flags.DEFINE_string(
    "volume", None, "CT in Hounsfield units to deform; default procedural."
)
_COUNT = flags.DEFINE_integer("count", 1, "Pairs of each family.", lower_bound=1)
_SHAPE = flags.DEFINE_list("shape", "128,128,128", "Voxels: Z,Y,X or Y,X.")
_OUT = flags.DEFINE_string("out", None, "Folder for the results.", required=True)
_SPACING = flags.DEFINE_float("spacing", 1.0, "Voxel size, mm.", lower_bound=0.1)
_SCANNERS = flags.DEFINE_boolean(
    "scanners", True, "Take both images of a pair with scanners of their own."
)
_LEAST = flags.DEFINE_float(
    "least_jacobian", None, "Least Jacobian determinant; default any."
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the random numbers.")


def make_source(path, shape: tuple[int, ...], spacing: float, *, scanners: bool):
    """Return a function that samples volumes, and their frame.

    Args:
        path: of a scan, whose middle is used; None for procedural chests.
        shape: of the volumes.
        spacing: voxel size, mm.
        scanners: whether to reduce a scan to its anatomy.

    Returns:
        ``sample(key) -> [*shape, 1]`` and the frame of the volumes.

    Raises:
        InputError: if the scan cannot be read, has no Hounsfield units or has another
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
    if scanners:
        # Of the whole scan, as its middle may show lungs without the body around them.
        image = to_isotropic(image, spacing)
        image = replace(image, array=anatomy(image.array, spacing=spacing))
    image = to_isotropic(image, spacing, shape)
    volume = image.array[..., None]
    return lambda key: volume, image.frame


# What is printed of the statistics.
_SHOWN = {
    "mean": "mean, mm",
    "largest": "largest component, mm",
    "least_jacobian": "least determinant",
    "wavelength": "wavelength, mm",
}


def write_statistics(
    folder: Path, fields: Mapping[str, Sequence[FieldStatistics]]
) -> str:
    """Write the statistics of each family as statistics.json and statistics.png.

    Args:
        folder: of the results; it must exist.
        fields: the statistics of each field, by family.

    Returns:
        A table with a row for each family: mean ± standard deviation over its fields.
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
    text = strict_json(listed, indent=1) + "\n"
    (folder / "statistics.json").write_text(text, "utf-8")
    statistics_figure(columns).savefig(folder / "statistics.png", dpi=150)
    body = [
        [name, *(mean_and_sd(n[k].mean(), sample_deviation(n[k])) for k in _SHOWN)]
        for name, n in columns.items()
    ]
    return plain(["family", *_SHOWN.values()], body)


def _shape() -> tuple[int, ...]:
    """Parse and check --shape."""
    text = ",".join(_SHAPE.value)
    if len(_SHAPE.value) not in (2, 3) or not all(n.isdecimal() for n in _SHAPE.value):
        raise InputError(f"--shape {text}: give Z,Y,X or Y,X in voxels")
    shape = tuple(int(n) for n in _SHAPE.value)
    if min(shape) < 8:
        raise InputError(f"--shape {text}: too small to deform; give 8 or more")
    return shape


def _families() -> list[str]:
    """Parse --family, and check it and the flags of the fields."""
    names = list(FAMILIES) if _FAMILY.value == ["all"] else _FAMILY.value
    unknown = [name for name in names if name not in FAMILIES]
    if unknown:
        known = ", ".join(FAMILIES)
        raise InputError(f"--family {unknown[0]}: unknown; there are {known}, or all")
    if len(set(names)) < len(names):
        raise InputError(f"--family {','.join(names)}: name each once")
    if not math.isfinite(_SPACING.value):
        raise InputError(f"--spacing {_SPACING.value}: give millimetres")
    if _LEAST.value is not None and not _LEAST.value < 1:
        raise InputError(f"--least_jacobian {_LEAST.value}: give a number below 1")
    return names


def _check_motion(names, numbers, shape, keys, sample_volume) -> None:
    """Refuse families without room for their fields, before any pair is made."""
    spacing = _SPACING.value
    room = {name: has_room(FAMILIES[name], shape, spacing=spacing) for name in names}
    still = [name for name in names if room[name] is False]

    @jax.jit
    def moves(key, volume, family):
        # The same key as in ``artificial_pair``.
        field_key, _ = jax.random.split(key)
        return sample_field(
            field_key, volume, family, spacing=spacing
        ).displacement.any()

    unsure = [] if still else [(n, i) for n, i in numbers if room[n] is None]
    for name, number in tqdm(
        unsure, "looking for room", leave=False, disable=not unsure
    ):
        volume_key, pair_key = keys(number)
        traced = jax.tree.map(np.float32, FAMILIES[name])
        if name not in still and not moves(pair_key, sample_volume(volume_key), traced):
            still.append(name)
    if still:
        raise InputError(
            f"--family {','.join(still)}: finds nothing to move in --shape"
            f" {','.join(_SHAPE.value)}; leave it out or give a larger shape or spacing"
        )


@functools.partial(jax.jit, static_argnames=("spacing", "least", "scanners"))
def _make_pair(key, volume, family, *, spacing: float, least, scanners: bool):
    options = {"spacing": spacing, "least_jacobian": least}
    if not scanners:
        return artificial_pair(key, volume, family, **options)
    pair = artificial_pair(key, volume, family, noise=0.0, **options)
    return two_scans(jax.random.fold_in(key, 1), pair, spacing=spacing)


def main():
    """Make the pairs and the figures, and print where they are."""
    names, shape, spacing = _families(), _shape(), _SPACING.value
    scanners = _SCANNERS.value
    sample_volume, frame = make_source(_VOLUME.value, shape, spacing, scanners=scanners)
    measure = jax.jit(functools.partial(field_statistics, spacing=spacing))
    stream = jax.random.key(_SEED.value)
    patient = None
    if _VOLUME.value:
        identity = checksum(_VOLUME.value)
        # Scans of several patients often have the same name.
        patient = f"{Path(_VOLUME.value).name} {identity[:8]}"
        # Most fields depend on the shape alone and would be those of other scans, too.
        stream = fold_in_text(stream, identity)
    fields, images, measures = {}, {}, {name: [] for name in names}
    numbers = list(itertools.product(names, range(_COUNT.value)))
    rows = [("name", "fixed", "moving", "displacement", "patient")]

    def keys(number):
        """Return keys of volume and pair; all families of a number share them."""
        return jax.random.split(jax.random.fold_in(stream, number))

    with staged_folder(_OUT.value) as folder:
        _check_motion(names, numbers, shape, keys, sample_volume)
        for name, number in tqdm(numbers, "making pairs"):
            volume_key, pair_key = keys(number)
            traced = jax.tree.map(np.float32, FAMILIES[name])
            pair = _make_pair(
                pair_key,
                sample_volume(volume_key),
                traced,
                spacing=spacing,
                least=_LEAST.value,
                scanners=scanners,
            )
            measures[name].append(jax.device_get(measure(pair.displacement)))
            pair = jax.tree.map(np.asarray, pair)
            case = f"{name}_{number:03d}"
            write_pair(folder, case, frame, pair)
            files = (f"{case}_{x}.nii.gz" for x in ("fixed", "moving", "displacement"))
            # All families of a number deform the same chest.
            rows.append((case, *files, patient or f"chest_{number}"))
            if number == 0:
                images[name], fields[name] = middle_slices(
                    pair.fixed[..., 0], spacing * pair.displacement
                )
        with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        figure = family_figure(fields, images, spacing=(spacing, spacing))
        figure.savefig(folder / "families.png", dpi=150)
        table = write_statistics(folder, measures)
    print(table)
    print(f"wrote {len(numbers)} pairs and their figures to {_OUT.value}")


if __name__ == "__main__":
    common.run(main)
