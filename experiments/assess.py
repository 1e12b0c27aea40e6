r"""Measure a network on held-out scans that are artificially deformed.

Example:
    python -m experiments.assess --volumes heldout.txt --model lung --out heldout.json

--volumes lists CTs in Hounsfield units, one path on each line. Each is deformed by
fields of every family in turn (components of up to 20 mm), noise of 10 HU is added to
both images, and the pair is registered as by experiments.register, without linear
alignment. Endpoint errors are over the voxels of the body that both images show; sd is
the sample standard deviation over pairs. A 2D network gets axial slices. With --crop N
random boxes of N voxels along each axis are taken, which are faster to register. With
--refine N both the refined and the unrefined prediction are measured.
"""

import math

import jax
from absl import flags
from tqdm import tqdm

from experiments.heldout.artificial import (
    assess,
    check_room,
    make_cases,
    read_volumes,
    summarise,
)
from regnet_jax.cli import common
from regnet_jax.errors import InputError
from regnet_jax.files import check_output, write_json
from regnet_jax.io import read_manifest
from regnet_jax.registration import load_network
from regnet_jax.synthesis import FAMILIES

_VOLUMES = flags.DEFINE_string("volumes", None, "File that lists scans.", required=True)
_OUT = flags.DEFINE_string("out", None, "JSON file for the measures.", required=True)
_MODEL = flags.DEFINE_string(
    "model", "lung", "Network that ships, or folder of a training run."
)
_COUNT = flags.DEFINE_integer("count", 2 * len(FAMILIES), "Pairs.", lower_bound=1)
_SPACING = flags.DEFINE_float("spacing", 2.0, "Voxel size, mm.", lower_bound=0.1)
_FAMILIES = flags.DEFINE_list("families", list(FAMILIES), "Families of the fields.")
_CROP = flags.DEFINE_integer(
    "crop", 0, "Voxels of random boxes along each axis; 0 for all.", lower_bound=0
)
_REFINE = flags.DEFINE_integer("refine", 0, "Steps of refinement.", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 2017, "Seed of the random numbers.")


def _check_flags():
    unknown = [name for name in _FAMILIES.value if name not in FAMILIES]
    if unknown or not _FAMILIES.value:
        known = ", ".join(FAMILIES)
        raise InputError(f"--families {', '.join(unknown)}: there are {known}")
    if not math.isfinite(_SPACING.value):
        raise InputError(f"--spacing {_SPACING.value}: give millimetres")


def _print(summary: dict) -> None:
    """Print a line for each family and method."""
    head = ("pairs", "mean", "sd", "p95", "ratio", "p95 ratio")
    print(f"{'endpoint error, mm':25s}" + "".join(f"{name:>10s}" for name in head))
    for family, methods in summary.items():
        for method, values in methods.items():
            n, *numbers = values.values()
            cells = ("" if x is None else f"{x:.3f}" for x in numbers)
            texts = "".join(f"{text:>10s}" for text in (str(n), *cells))
            print(f"{family:15s}{method:10s}{texts}")


def main():
    """Register the pairs, write and print the errors."""
    _check_flags()
    check_output(_OUT.value)
    network = load_network(_MODEL.value)
    d, spacing = network.dimensions, _SPACING.value
    volumes = read_volumes(read_manifest(_VOLUMES.value), spacing, d)
    check_room(volumes, _FAMILIES.value, spacing=spacing, d=d, crop=_CROP.value)
    key = jax.random.key(_SEED.value)
    cases = make_cases(
        key,
        volumes,
        _FAMILIES.value,
        _COUNT.value,
        spacing=spacing,
        d=d,
        crop=_CROP.value,
    )
    steps = sorted({0, _REFINE.value})
    rows = [
        assess(case, network, spacing, steps)
        for case in tqdm(cases, "registering", total=_COUNT.value)
    ]
    families = dict.fromkeys(row["family"] for row in rows)
    summary = {f: summarise([r for r in rows if r["family"] == f]) for f in families}
    summary["all"] = summarise(rows)
    settings = {"model": _MODEL.value, "spacing": spacing, "refine": _REFINE.value}
    settings |= {"crop": _CROP.value, "seed": _SEED.value, "volumes": list(volumes)}
    write_json(_OUT.value, {**settings, "summary": summary, "pairs": rows})
    _print(summary)
    print(f"wrote {_OUT.value}")


if __name__ == "__main__":
    common.run(main)
