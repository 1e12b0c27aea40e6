r"""Measure networks on held-out scans that are artificially deformed.

Example:
    python -m experiments.assess --volumes scans.csv --model lung --out heldout.json

--volumes is a manifest (see experiments.manifest), whose scans of --role are taken if
their checksums are right, or a plain list of CTs in Hounsfield units, one path on each
line. Each scan is deformed by fields of every family (components of up to 20 mm), both
images are taken by scanners of their own (noise, slices, table and arms), and the pair
is registered as by experiments.register, without linear alignment. The fields of a scan
depend on --seed and on its checksum, not on the other scans. All families get the same
number of pairs, and all patients as far as that is possible.

Tables by family, by region (body, lung, vessels, uniform tissue) and by size of the
true displacement are printed and written to --out (JSON, with the numbers of each pair)
and beside it as CSV. Their 95 % intervals are over patients. A 2D network gets axial
slices. With --crop N random boxes of N voxels along each axis are taken, which are
faster to register. With --refine N the refined prediction is measured, too. Several
networks in --model, with commas, get the same pairs, and the differences from the first
are added. With --confidence the networks estimate their errors, and a table compares
these with those found.
"""

import functools
import math
from pathlib import Path

import jax
from absl import flags, logging
from tqdm import tqdm

from experiments.heldout.artificial import (
    make_cases,
    make_plan,
    measure_case,
    register_case,
)
from experiments.heldout.calibration import as_text as calibration_text
from experiments.heldout.calibration import compare_errors, summarise
from experiments.heldout.tables import as_csv, as_json, as_text, make_tables
from experiments.heldout.volumes import check_room, read_held_out
from regnet_jax.cli import common
from regnet_jax.errors import InputError
from regnet_jax.files import check_not_read, check_output, write_json, write_text
from regnet_jax.io import ROLES, ListedScan, checksum, read_scans
from regnet_jax.registration import Network, load_network
from regnet_jax.registration.inference.confidence import check_confidence
from regnet_jax.synthesis import FAMILIES

_VOLUMES = flags.DEFINE_string("volumes", None, "File that lists scans.", required=True)
_ROLE = flags.DEFINE_enum("role", "test", ROLES, "Scans of a manifest to take.")
_OUT = flags.DEFINE_string("out", None, "JSON file for the measures.", required=True)
_MODEL = flags.DEFINE_list(
    "model", ["lung"], "Networks that ship, or folders of training runs."
)
_COUNT = flags.DEFINE_integer(
    "count",
    60,
    "Pairs, rounded up to a multiple of the number of families.",
    lower_bound=1,
)
_SPACING = flags.DEFINE_float("spacing", 2.0, "Voxel size, mm.", lower_bound=0.1)
_FAMILIES = flags.DEFINE_list("families", list(FAMILIES), "Families of the fields.")
_CROP = flags.DEFINE_integer(
    "crop", 0, "Voxels of random boxes along each axis; 0 for all.", lower_bound=0
)
_REFINE = flags.DEFINE_integer("refine", 0, "Steps of refinement.", lower_bound=0)
_CONFIDENCE = flags.DEFINE_bool(
    "confidence", False, "Compare the estimated errors with those found."
)
_SEED = flags.DEFINE_integer("seed", 2017, "Seed of the random numbers.")


def _check_flags():
    families = _FAMILIES.value
    unknown = [name for name in families if name not in FAMILIES]
    if unknown:
        known = ", ".join(FAMILIES)
        raise InputError(f"--families {','.join(unknown)}: unknown; there are {known}")
    for name, values in (("families", families), ("model", _MODEL.value)):
        if len(set(values)) < len(values) or not values:
            raise InputError(f"--{name} {','.join(values)}: name each once")
    if not math.isfinite(_SPACING.value):
        raise InputError(f"--spacing {_SPACING.value}: give millimetres")
    if _table_path().resolve() == Path(_OUT.value).resolve():
        raise InputError(
            f"--out {_OUT.value}: is the place of the table; name a .json file, and the"
            " table is written beside it"
        )


def _table_path() -> Path:
    return Path(_OUT.value).with_suffix(".csv")


def _scans() -> tuple[list[ListedScan], list[str]]:
    """Return the scans to measure on, and warnings about what is known of them."""
    scans = read_scans(_VOLUMES.value, _ROLE.value)
    if any(scan.role for scan in scans):
        return scans, []
    if _ROLE.present:
        raise InputError(
            f"--role {_ROLE.value}: {_VOLUMES.value} is a plain list without roles;"
            " leave --role out, or make a manifest with experiments.manifest"
        )
    warnings = []
    warnings.append(
        f"{_VOLUMES.value} is a plain list, so each of its scans is taken for a patient"
        " of its own, and nothing tells whether they have changed"
    )
    return scans, warnings


def _load_networks() -> dict[str, Network]:
    networks = {name: load_network(name) for name in _MODEL.value}
    (first, one), *others = networks.items()
    for name, network in others:
        if network.dimensions != one.dimensions:
            raise InputError(
                f"--model {name}: is {network.dimensions}D and {first}"
                f" {one.dimensions}D; measure them one by one"
            )
    if _CONFIDENCE.value:
        for name, network in networks.items():
            check_confidence(network, name)
    return networks


def _methods(networks: dict[str, Network]) -> dict:
    """Return the functions that register a case, by name."""
    methods = {}
    for name, network in networks.items():
        how = {"network": network, "spacing": _SPACING.value}
        how |= {"confidence": _CONFIDENCE.value}
        methods[name] = functools.partial(register_case, **how, refine=0)
        if _REFINE.value:
            refined = functools.partial(register_case, **how, refine=_REFINE.value)
            methods[f"{name}+refine"] = refined
    return methods


def main():
    """Register the pairs, write and print the errors."""
    _check_flags()
    check_output(_OUT.value)
    check_output(_table_path())
    scans, warnings = _scans()
    check_not_read(
        [Path(_OUT.value), _table_path()], [_VOLUMES.value, *(s.path for s in scans)]
    )
    networks = _load_networks()
    d, spacing = next(iter(networks.values())).dimensions, _SPACING.value
    families, count, crop = _FAMILIES.value, _COUNT.value, _CROP.value
    volumes = read_held_out(scans, spacing, d)
    check_room(volumes, families, spacing=spacing, d=d, crop=crop)
    plan = make_plan(volumes, families, count)
    if _COUNT.present and len(plan) > count:
        warnings.append(
            f"--count {count}: {len(plan)} pairs are made, so that all of the"
            f" {len(families)} families get the same number"
        )
    if len({volume.patient for volume in volumes}) == 1:
        warnings.append(
            "there is one patient alone, so the intervals are over pairs and say"
            " nothing about other patients"
        )
    for warning in warnings:
        logging.warning(warning)
    methods = _methods(networks)
    cases = make_cases(
        jax.random.key(_SEED.value), plan, spacing=spacing, d=d, crop=crop
    )
    rows = [
        measure_case(case, methods, spacing, compare_errors)
        for case in tqdm(cases, "registering", total=len(plan))
    ]
    for name in methods:
        reasons = [row["failed"][name] for row in rows if name in row["failed"]]
        if reasons:
            text = (
                f"{name}: failed on {len(reasons)} of {len(rows)} pairs, which count as"
                f" if nothing was moved: {reasons[0]}"
            )
            logging.warning(text)
            warnings.append(text)
    tables, calibration = make_tables(rows), summarise(rows)
    settings = {
        "model": _MODEL.value,
        "spacing": spacing,
        "refine": _REFINE.value,
        "crop": crop,
        "seed": _SEED.value,
        "role": scans[0].role or None,
        "list_sha256": checksum(_VOLUMES.value),
        "volumes": [
            {"name": one.name, "patient": one.patient, "sha256": one.identity}
            for one in volumes
        ],
        "warnings": warnings,
    }
    write_text(_table_path(), as_csv(tables))
    content = {"summary": as_json(tables), "calibration": calibration, "pairs": rows}
    write_json(_OUT.value, {**settings, **content})
    print(as_text(tables))
    if calibration:
        print(f"\n{calibration_text(calibration)}")
    print(f"wrote {_OUT.value} and {_table_path()}")
    if failures := sum(len(row["failed"]) for row in rows):
        raise InputError(
            f"{_OUT.value}: {failures} of its registrations failed, which count there"
            " as if nothing was moved; see its warnings"
        )


if __name__ == "__main__":
    common.run(main)
