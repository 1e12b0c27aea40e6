r"""Register the same pairs with this project and with other tools, in one run.

Example:
    python -m experiments.compare --pairs pairs.csv \
        --methods regnet,regnet+refine,elastix,greedy --setting lung --out comparison

--pairs is a CSV file with the columns name, fixed, moving and, where they are known,
fixed_mask, moving_mask, fixed_points, moving_points, fixed_labels, moving_labels and
displacement (mm, on the fixed grid), or a JSON list of such objects. Relative paths
start from the folder of the file.
Each method runs in a process of its own, one after another. --out gets report.html,
table.md and results.json: similarity, overlap of lungs, folding, errors at landmarks
and against the displacement, Dice, seconds of the whole process, and peak memory.
The headers of all pairs are checked before the first is registered. A method that
fails on a pair is listed, and the others continue. Methods: affine, regnet,
regnet+refine, demons and bspline (both of SimpleITK), elastix and greedy
(pip install ".[compare]").
"""

import os
import platform

from absl import flags
from tqdm import tqdm

from experiments.comparison import methods, runs, tables
from experiments.comparison.runs import compare_on
from experiments.comparison.tables import write_page
from regnet_jax.cli import common
from regnet_jax.errors import InputError
from regnet_jax.files import staged_folder, write_json
from regnet_jax.io import read_pairs
from regnet_jax.registration.batch import check_pairs

_PAIRS = flags.DEFINE_string("pairs", None, "File that lists pairs.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder for the results.", required=True)
_METHODS = flags.DEFINE_list("methods", list(methods.METHODS), "Methods to compare.")
_SETTING = flags.DEFINE_enum(
    "setting", "default", ["default", "lung"], "Content of the images."
)
_MODEL = flags.DEFINE_string("model", None, "Network of regnet, as for register.")
_REFINE = flags.DEFINE_integer("refine", 50, "Steps of regnet+refine.", lower_bound=1)
_PATIENCE = flags.DEFINE_float(
    "patience", 3600.0, "Time limit of a method for a pair, seconds.", lower_bound=1.0
)


def main():
    """Run all methods on all pairs, and write and print the tables."""
    pairs = read_pairs(_PAIRS.value)
    check_pairs(_PAIRS.value, pairs)
    installed = methods.installed(_METHODS.value)
    cache = str(common.cache_folder() / "xla")
    values = (_SETTING.value, _MODEL.value, _REFINE.value, _PATIENCE.value, cache)
    options = runs.Options(*values)
    rows, failures, figures = [], [], []
    with staged_folder(_OUT.value) as folder:
        for pair in tqdm(pairs, "comparing"):
            try:
                compared = compare_on(pair, list(installed), options)
            except InputError as error:
                failures.append(
                    {"pair": pair.name, "method": "all", "reason": str(error)}
                )
                continue
            rows += compared.rows
            failures += compared.failures
            if not figures:
                caption = f"Fixed minus warped image of {pair.name}; white is none."
                figures.append(("Difference", caption, compared.figure))
        for failure in failures:
            print("failed: {method} on {pair}: {reason}".format(**failure))
        if not rows:
            raise InputError(f"{_PAIRS.value}: none of its pairs could be compared")
        machine = {"cores": os.cpu_count(), "python": platform.python_version()}
        parameters = options._asdict() | machine | installed
        report = {"parameters": parameters, "summary": tables.summarise(rows)}
        report |= {"failures": failures, "rows": rows}
        write_json(folder / "results.json", report)
        (folder / "table.md").write_text(tables.markdown(rows), "utf-8")
        write_page(folder / "report.html", rows, figures, failures, parameters)
    head, body = tables.table(rows)
    for line in zip(head, *body, strict=True):
        print(f"{line[0]:36s}" + "".join(f"{cell:>18s}" for cell in line[1:]))
    print(f"wrote {_OUT.value}/report.html, results.json and table.md")


if __name__ == "__main__":
    common.run(main)
