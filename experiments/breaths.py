r"""Measure breaths of people, and the families of artificial ones in the same way.

Example:
    python -m experiments.breaths --landmarks case1.csv,case2.csv --out breaths

Each file of --landmarks holds the landmarks of one breath in both scans, in mm: six
columns, such as exhale_x,exhale_y,exhale_z,inhale_x,inhale_y,inhale_z. Each family of
--families, at each amplitude of --amplitudes, deforms --count procedural chests, and
its fields are measured at 300 random voxels of the lungs. Every motion is measured in
the direction in which the lungs grow: sizes, directions, the profile from the lowest to
the highest quarter of the lungs, Jacobian determinants, and the irregular part, which
no affine map explains, with its correlation over distances.

--out gets statistics.json; table.md, which is also printed; and statistics.png with the
breaths as points beside the ranges of the families.

Landmarks of patients, such as those of DIR-Lab, serve here to measure only. Never train
on them, nor choose the parameters of a family so that it fits single cases: methods are
compared on these landmarks.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from experiments.heldout.breaths import POINTS, read_breath, sample_lungs
from experiments.text import markdown, mean_and_sd
from regnet_jax.cli import common
from regnet_jax.errors import InputError
from regnet_jax.evaluation import (
    MotionStatistics,
    motion_statistics,
    orient_to_expansion,
    sample_deviation,
)
from regnet_jax.files import staged_folder, strict_json
from regnet_jax.geometry import warp
from regnet_jax.reporting import motion_figure
from regnet_jax.synthesis import FAMILIES, Family, chest, sample_field

_LANDMARKS = flags.DEFINE_list(
    "landmarks", None, "Files, each with the landmarks of a breath.", required=True
)
_OUT = flags.DEFINE_string("out", None, "Folder for the results.", required=True)
_FAMILIES = flags.DEFINE_list(
    "families", ["respiratory", "sliding"], "Families of artificial fields."
)
_AMPLITUDES = flags.DEFINE_list(
    "amplitudes", ["20", "60"], "Largest components of the fields, mm."
)
_COUNT = flags.DEFINE_integer(
    "count", 8, "Fields of each family and amplitude.", lower_bound=1
)
_SPACING = flags.DEFINE_float(
    "spacing", 2.5, "Voxel size of the chests, mm.", lower_bound=1.0, upper_bound=10.0
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the random numbers.", lower_bound=0)

# Size of the chests (z, y, x), mm.
_SIZE = (300.0, 240.0, 320.0)
# Title and digits by name, in the order of the rows of the table.
_TITLES = {
    "mean": ("mean displacement, mm", 1),
    "p95": ("95th percentile, mm", 1),
    "max": ("largest, mm", 1),
    "head_feet": ("fraction head-feet", 2),
    "front_back": ("fraction front-back", 2),
    "left_right": ("fraction left-right", 2),
    "quarter_2": ("head-feet, 2nd quarter / lowest", 2),
    "quarter_3": ("head-feet, 3rd quarter / lowest", 2),
    "quarter_4": ("head-feet, highest quarter / lowest", 2),
    "jacobian_p5": ("determinant, 5th percentile", 2),
    "jacobian_median": ("determinant, median", 2),
    "jacobian_p95": ("determinant, 95th percentile", 2),
    "irregular": ("irregular part", 2),
    "correlation_near": ("its correlation, 5-15 mm", 2),
    "correlation_middle": ("its correlation, 25-40 mm", 2),
    "correlation_far": ("its correlation, 50-70 mm", 2),
}

Columns = Mapping[str, np.ndarray]


def measure_families(families: Mapping[str, Family]) -> dict[str, list]:
    """Measure fields of families on procedural chests, which all families share.

    Args:
        families: of the fields, by the name of the result.

    Returns:
        The statistics of each field, by the same names.

    Raises:
        InputError: if a family moves the lungs out of sight.
    """
    spacing = _SPACING.value
    shape = tuple(round(size / spacing) for size in _SIZE)
    draw = jax.jit(lambda key: chest(key, shape, spacing=spacing))

    @jax.jit
    def deform(key, volume, family):
        field = sample_field(key, volume, family, spacing=spacing).displacement
        return warp(volume, field), field

    stream = jax.random.key(_SEED.value)
    results: dict[str, list] = {name: [] for name in families}
    with tqdm(total=_COUNT.value * len(families), desc="measuring fields") as bar:
        for number in range(_COUNT.value):
            volume_key, field_key = jax.random.split(jax.random.fold_in(stream, number))
            volume = draw(volume_key)
            for name, family in families.items():
                traced = jax.tree.map(np.float32, family)
                image, field = deform(field_key, volume, traced)
                rng = np.random.default_rng((_SEED.value, number))
                motion = sample_lungs(image, field, spacing, rng)
                if len(motion[0]) < POINTS:
                    raise InputError(
                        f"{name}: leaves no lungs in sight; give smaller --amplitudes"
                    )
                motion = orient_to_expansion(*motion)
                results[name].append(motion_statistics(*motion))
                bar.update()
    return results


def stack(motions: Sequence[MotionStatistics]) -> dict[str, np.ndarray]:
    """Return the statistics of several motions as arrays ``[n]``, by name."""
    columns = zip(*motions, strict=True)
    return dict(zip(MotionStatistics._fields, map(np.array, columns), strict=True))


def make_table(
    breaths: Mapping[str, MotionStatistics], families: Mapping[str, Columns]
) -> str:
    """Return a table in Markdown, a row for each statistic.

    Args:
        breaths: the statistics of each breath, by name.
        families: of each family, from ``stack``.

    Returns:
        The table, with the values of the breaths, and mean ± sd over the fields of each
        family, which has no ± for a single field.
    """
    body = []
    for name, (title, digits) in _TITLES.items():
        row = [title]
        for breath in breaths.values():
            row.append(mean_and_sd(getattr(breath, name), math.nan, digits))
        for columns in families.values():
            mean, sd = columns[name].mean(), sample_deviation(columns[name])
            row.append(mean_and_sd(mean, sd, digits))
        body.append(row)
    return markdown(["", *breaths, *families], body)


def _names(paths: Sequence[str]) -> list[str]:
    """Return the name of each file without its suffix, or paths where these repeat."""
    if len(set(paths)) < len(paths):
        raise InputError("--landmarks: name each file once")
    stems = [Path(path).stem for path in paths]
    return stems if len(set(stems)) == len(stems) else list(paths)


def _families() -> dict[str, Family]:
    """Parse and check --families and --amplitudes."""
    for name in _FAMILIES.value:
        if name not in FAMILIES or not FAMILIES[name].amplitude:
            known = ", ".join(name for name in FAMILIES if FAMILIES[name].amplitude)
            raise InputError(f"--families {name}: has no amplitude; choose of {known}")
    families = {}
    for name, text in itertools.product(_FAMILIES.value, _AMPLITUDES.value):
        try:
            amplitude = float(text)
        except ValueError:
            amplitude = math.nan
        if not 0 < amplitude < math.inf:
            raise InputError(f"--amplitudes {text}: give millimetres above 0")
        family = FAMILIES[name]
        scaled = family.scaled(amplitude / family.amplitude)
        families[f"{name} {amplitude:g} mm"] = scaled
    return families


def main():
    """Measure breaths and fields, and write and print the statistics."""
    families = _families()
    paths = _LANDMARKS.value
    names = _names(paths)
    with staged_folder(_OUT.value) as folder:
        breaths = {
            name: motion_statistics(*read_breath(path))
            for name, path in zip(names, paths, strict=True)
        }
        columns = {
            name: stack(motions) for name, motions in measure_families(families).items()
        }
        result = {
            "breaths": {name: breath._asdict() for name, breath in breaths.items()},
            "families": {
                name: {key: values.tolist() for key, values in numbers.items()}
                for name, numbers in columns.items()
            },
        }
        text = strict_json(result, indent=1) + "\n"
        (folder / "statistics.json").write_text(text, "utf-8")
        table = make_table(breaths, columns)
        (folder / "table.md").write_text(table + "\n", "utf-8")
        figure = motion_figure(stack(list(breaths.values())), columns)
        figure.savefig(folder / "statistics.png", dpi=150)
    print(table)
    print(f"wrote statistics.json, table.md and statistics.png to {_OUT.value}")


if __name__ == "__main__":
    common.run(main)
