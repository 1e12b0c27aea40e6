r"""Measure registration on DIR-Lab: 4DCT and COPDgene, 300 landmarks a case.

Example:
    python -m experiments.dirlab --data DIR-Lab --out out/dirlab \
        --methods regnet,regnet-accurate,elastix

--data is the folder in which the archives of the cases were unpacked; the files of both
sets are found below it by their names, such as case1_T00_s.img, case6_T50.img,
Case1_300_T00_xyz.txt, copd1_iBHCT.img and copd1_300_iBH_xyz_r1.txt. Their number of
bytes is checked before the first case is registered.
The fixed image is the inhale (T00, iBH) and the moving image the exhale (T50, eBH);
--fixed exhale swaps them. The tables give the TRE of each case and of all, with warped
landmarks as they are and snapped to the nearest voxel centre, beside published figures.
--out gets table.md, results.json, and in cases/ the error of every landmark. The same
command again goes on where it stopped. Methods are those of experiments.compare, which
run with its setting for lungs. Where to get the data: docs/dirlab.md.
"""

import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

from absl import flags
from tqdm import tqdm

from experiments.comparison import methods, runs
from experiments.comparison.dirlab_files import (
    INHALE,
    PHASES,
    check_case,
    find_cases,
    read_case_landmarks,
    read_geometries,
)
from experiments.comparison.dirlab_published import CASES, SETS, set_of
from experiments.comparison.dirlab_results import (
    Plan,
    check_against_published,
    register_case,
)
from experiments.comparison.dirlab_tables import write_report
from experiments.comparison.records import make_folder
from regnet_jax.cli import common
from regnet_jax.errors import InputError
from regnet_jax.files import check_folder

_DATA = flags.DEFINE_string("data", None, "Folder of the cases.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder for the results.", required=True)
_METHODS = flags.DEFINE_list(
    "methods", ["regnet", "regnet-accurate"], "Methods to run."
)
_CASES = flags.DEFINE_list(
    "cases", [], "Cases, such as 4dct1, or sets, 4dct or copd; all by default."
)
_FIXED = flags.DEFINE_enum("fixed", INHALE, PHASES, "Phase of the fixed image.")
_SIZES = flags.DEFINE_string(
    "sizes", None, "File with lines 4dct1, 256 x 256 x 94, 0.97 x 0.97 x 2.5."
)
_MODEL = flags.DEFINE_string("model", "auto", "Network of regnet, as for register.")
_PATIENCE = flags.DEFINE_float(
    "patience", 3600.0, "Time limit of a method for a case, seconds.", lower_bound=1.0
)


def _choose(found: dict, wanted: Sequence[str]) -> dict:
    """Return the cases that a flag names, by their names or their sets."""
    for name in wanted:
        if not any(name in (case, set_of(case)) for case in found):
            raise InputError(
                f"--cases {name}: not below --data; there are {', '.join(found)}"
            )
    if not wanted:
        return found
    return {c: files for c, files in found.items() if {c, set_of(c)} & {*wanted}}


def _missing_cases(cases: Iterable[str]) -> list[str]:
    """Say which cases the averages over a set lack."""
    warnings = []
    for name, of in SETS.items():
        there = [case for case in cases if set_of(case) == name]
        lacking = [c for c in CASES if set_of(c) == name and c not in there]
        if there and lacking:
            warnings.append(
                f"{of.title}: without {', '.join(lacking)}, so its averages are not"
                " comparable with published ones"
            )
    return warnings


def main():
    """Register all cases by all methods, and write and print the tables."""
    geometries = {case: published.geometry for case, published in CASES.items()}
    if _SIZES.value:
        geometries |= read_geometries(Path(_SIZES.value))
    cases = _choose(find_cases(Path(_DATA.value)), _CASES.value)
    for case, files in cases.items():
        check_case(case, files, geometries)
    points = {c: read_case_landmarks(f, geometries[c]) for c, f in cases.items()}
    out = Path(_OUT.value)
    check_folder(out)
    installed = methods.installed(_METHODS.value)
    cache = str(common.cache_folder() / "xla")
    values = ("lung", _MODEL.value, _PATIENCE.value, cache)
    plan = Plan(_FIXED.value, installed, runs.Options(*values), out / "cases")
    make_folder(plan.folder)
    warnings = _missing_cases(cases)
    for case, ends in points.items():
        warnings += check_against_published(case, geometries[case], ends)
    records, failures, reused = {}, [], 0
    for case, files in tqdm(cases.items(), "registering", unit="case"):
        results = register_case(case, files, geometries[case], points[case], plan)
        records[case] = results.records
        reused += results.reused
        failures += [f"{m} failed on {case}: {r}" for m, r in results.failures.items()]
    remarks = {"warnings": warnings, "failures": failures}
    if reused:
        print(f"{reused} registrations are those of an earlier run")
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    parameters = {"fixed": plan.fixed} | plan.options._asdict() | machine
    print(write_report(out, records, geometries, installed, parameters, remarks))
    print(f"wrote {out}/table.md, results.json and cases/")
    if failures:
        raise InputError(
            f"{out}/table.md: {len(failures)} of {len(cases) * len(installed)}"
            " registrations failed; its last lines say why, and the same command tries"
            " them again"
        )


if __name__ == "__main__":
    common.run(main)
