r"""Register the same pairs with this project and with other tools, in one run.

Example:
    python -m experiments.compare --pairs pairs.csv \
        --methods regnet,regnet-accurate,elastix,greedy --setting lung --out comparison

--pairs is a CSV file with the columns name, fixed, moving and, where they are known,
patient, fixed_mask, moving_mask, fixed_points, moving_points, fixed_labels,
moving_labels and displacement (mm, on the fixed grid), or a JSON list of such objects.
Relative paths start from the folder of the file.
Each method runs in a process of its own, one after another. --out gets report.html,
table.md and results.json: errors at landmarks and against the displacement, Dice, and
their paired differences from regnet with an interval over patients; likeness of the
images, which is not accuracy, and folding; seconds of the whole process, and peak
memory.
The headers of all pairs are checked before the first is registered. A method that
fails on a pair is listed, and the others continue. Each registration is recorded in
pairs/ of --out, and the same command again goes on where it stopped; with further
methods or pairs it adds these.
Methods: affine; regnet-fast, regnet and regnet-accurate, the presets of the network;
demons and bspline, both of SimpleITK; elastix, elastix-short and greedy
(pip install ".[compare]"); ants (pip install ".[ants]"); convexadam
(pip install ".[convexadam]").
All start from the same linear alignment, at the voxels of the images. --alignment and
--resolution add or take the tool's own alignment, and the network's voxels.
"""

import os
import platform
from pathlib import Path

from absl import flags

from experiments.comparison import methods, runs
from experiments.comparison.records import make_folder
from experiments.comparison.report import write_report
from experiments.comparison.results import compare_pairs
from regnet_jax.cli import common
from regnet_jax.errors import InputError
from regnet_jax.files import check_folder, staged_folder
from regnet_jax.io import read_pairs
from regnet_jax.registration.batch import check_pairs

_PAIRS = flags.DEFINE_string("pairs", None, "File that lists pairs.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder for the results.", required=True)
_METHODS = flags.DEFINE_list("methods", list(methods.METHODS), "Methods to compare.")
_SETTING = flags.DEFINE_enum(
    "setting", "default", ["default", "lung"], "Content of the images."
)
_RESOLUTION = flags.DEFINE_enum(
    "resolution",
    "full",
    ["full", "network", "both"],
    "Voxels that the other tools work on: those of the fixed image, or those that the"
    " network is used at; for --setting lung.",
)
_ALIGNMENT = flags.DEFINE_enum(
    "alignment",
    "shared",
    ["shared", "own", "both"],
    "Linear alignment that the other tools start from: this project's, or their own"
    " (where they have one).",
)
_MODEL = flags.DEFINE_string("model", "auto", "Network of regnet, as for register.")
_PATIENCE = flags.DEFINE_float(
    "patience", 3600.0, "Time limit of a method for a pair, seconds.", lower_bound=1.0
)


def main():
    """Run all methods on all pairs, and write and print the tables."""
    if _RESOLUTION.value != "full" and _SETTING.value != "lung":
        raise InputError(
            f"--resolution {_RESOLUTION.value}: the voxels of the network depend on the"
            " images with --setting default; leave it out"
        )
    pairs = read_pairs(_PAIRS.value)
    columns = ("ignore_fixed", "ignore_moving", "immobile")
    limited = [name for name in columns if any(getattr(p, name) for p in pairs)]
    if limited:
        raise InputError(
            f"{_PAIRS.value}: has {', '.join(limited)}, which not all methods take;"
            " leave these columns out"
        )
    check_pairs(_PAIRS.value, pairs)
    out = Path(_OUT.value)
    check_folder(_OUT.value)
    installed = methods.installed(_METHODS.value)
    cache = str(common.cache_folder() / "xla")
    values = (_SETTING.value, _MODEL.value, _PATIENCE.value, cache)
    options = runs.Options(*values)
    variants = methods.variants(
        list(installed),
        resolution=_RESOLUTION.value,
        alignment=_ALIGNMENT.value,
    )
    make_folder(out / "pairs")
    found = compare_pairs(pairs, variants, options, out / "pairs")
    for failure in found.failures:
        print("failed: {method} on {pair}: {reason}".format(**failure))
    if not found.rows:
        raise InputError(f"{_PAIRS.value}: none of its pairs could be compared")
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    chosen = {"resolution": _RESOLUTION.value, "alignment": _ALIGNMENT.value}
    parameters = options._asdict() | chosen | machine | installed
    with staged_folder(out) as folder:
        print(write_report(folder, found, parameters, list(installed)))
    print(f"wrote {_OUT.value}/report.html, results.json and table.md")
    if found.failures:
        raise InputError(
            f"{_PAIRS.value}: {len(found.failures)} of its registrations failed, which"
            f" {_OUT.value}/report.html lists; the tables are of the others, and the"
            " same command tries them again"
        )


if __name__ == "__main__":
    common.run(main)
