r"""Train networks for the same processor time on the same data, and compare them.

Example:
    python -m experiments.ablate --dimensions 2 --budget 240 --out ablation.json \
        --volumes heldout.txt

Networks train on procedural chests at 2 mm in 2D and 4 mm in 3D, deformed by all
families, until their steps have taken --budget seconds of processor time. All cores
count, so that other work on the machine does not matter. All networks are measured on
the same pairs: procedural chests that no training samples, and the scans that --volumes
lists (CTs in Hounsfield units, one path on each line, or a manifest, of which the scans
for validation are taken), artificially deformed. Endpoint errors are over the body that
both images show.
"""

from pathlib import Path

from absl import flags

from experiments.heldout.ablation import experiment, measure, sample_volumes, train_for
from experiments.heldout.volumes import check_room, read_held_out
from regnet_jax.cli import common
from regnet_jax.errors import InputError
from regnet_jax.files import check_not_read, check_output, write_json
from regnet_jax.io import read_scans
from regnet_jax.models import MODELS
from regnet_jax.synthesis import FAMILIES

_DIMENSIONS = flags.DEFINE_enum("dimensions", "2", ["2", "3"], "Of the networks.")
_BUDGET = flags.DEFINE_float(
    "budget", 240.0, "Seconds of processor time for the steps.", lower_bound=1.0
)
_NETWORKS = flags.DEFINE_list("networks", list(MODELS), "Networks to compare.")
_VOLUMES = flags.DEFINE_string("volumes", None, "File that lists held-out scans.")
_COUNT = flags.DEFINE_integer(
    "count", 24, "Pairs of each set, rounded up to a multiple of 12.", lower_bound=1
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of weights and pairs.")
_OUT = flags.DEFINE_string("out", None, "JSON file for the measures.", required=True)


def _print(name: str, result: dict) -> None:
    for volumes, methods in result["sets"].items():
        before, after = methods["before"], methods["network"]
        print(
            f"{name:14s}{result['steps']:6d} steps  {volumes:8s} n = {after['pairs']}"
            f"  {before['mean']:.2f} ± {before['sd']:.2f} ->"
            f" {after['mean']:.2f} ± {after['sd']:.2f} mm  ratio {after['ratio']:.2f}"
            f"  {methods['seconds']:.2f} s, {methods['failed']} failed",
            flush=True,
        )


def main():
    """Train and measure one network after the other."""
    for name in _NETWORKS.value:
        if name not in MODELS:
            known = ", ".join(MODELS)
            raise InputError(f"--networks {name}: unknown; there are {known}")
    check_output(_OUT.value)
    check_not_read([Path(_OUT.value)], [_VOLUMES.value])
    dimensions, results = int(_DIMENSIONS.value), {}
    sets = {"procedural": sample_volumes(_COUNT.value // 2 + 1, dimensions)}
    if _VOLUMES.value:
        scans = read_scans(_VOLUMES.value, "validation")
        spacing = experiment(_NETWORKS.value[0], dimensions, 0).data.spacing
        sets["scans"] = read_held_out(scans, spacing, dimensions)
        check_room(sets["scans"], list(FAMILIES), spacing=spacing, d=dimensions)
    for name in _NETWORKS.value:
        config = experiment(name, dimensions, _SEED.value)
        network, steps = train_for(config, _BUDGET.value)
        results[name] = {"steps": steps, **measure(network, sets, _COUNT.value)}
        _print(name, results[name])
        settings = {"dimensions": dimensions, "budget_seconds": _BUDGET.value}
        write_json(_OUT.value, {**settings, "networks": results})
    print(f"wrote {_OUT.value}")
    every = [measured for row in results.values() for measured in row["sets"].values()]
    if failures := sum(measured["failed"] for measured in every):
        raise InputError(
            f"{_OUT.value}: {failures} of its registrations failed, which count there"
            " as if nothing was moved"
        )


if __name__ == "__main__":
    common.run(main)
