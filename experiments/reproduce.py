r"""Train RegNet 2017, register with it, and report.

Example:
    python -m experiments.reproduce --dimensions 2 --scans folder --out out/regnet2d

This does what the two scripts that were published with RegNet did, RegNet2D_MICCAI.py
and RegNet3D_MICCAI.py, and goes on to whole images. It reads every CT below --scans
(procedural chests where none are given) and holds out whole patients; trains RegNet on
artificial deformations, and the network of a single scale for as many steps, as the
paper compares them; measures both on held-out pairs; registers the pairs of --pairs (a
CSV or JSON, as regnet register takes it), or artificial ones of held-out volumes; and
writes report.html. A folder directly below --scans is a patient, and so is a file
there.

In 3D each network starts from two networks of half the features, which are trained on
axial and on coronal slices first; from random weights it learns nothing in the time.
In 2D the network is trained on slices of the 3D volumes, with fields that are smooth in
3D and move nothing across the slices, and 3D pairs are registered slice by slice. The
time of --minutes includes everything. The same command again goes on where it stopped,
with the patients that it began with; scans that were added since are not used.
"""

import dataclasses
from pathlib import Path

from absl import flags

from experiments.reproduction.errors import measure
from experiments.reproduction.page import write_page
from experiments.reproduction.pairs import make_pairs, register_pairs
from experiments.reproduction.recipe import recipe, train_both, write_list
from experiments.reproduction.requests import Request, begin
from regnet_jax.cli import common
from regnet_jax.geometry.slices import SLICE_AXES
from regnet_jax.io import read_frame, read_pairs
from regnet_jax.registration import Network, RegistrationOptions, load_network
from regnet_jax.registration.batch import check_pairs
from regnet_jax.training.checkpoint import read_config
from regnet_jax.training.config import ScansConfig
from regnet_jax.training.data import ScanPrefetcher
from regnet_jax.training.normalisation import reestimate_statistics

_DIMENSIONS = flags.DEFINE_enum(
    "dimensions", None, ["2", "3"], "Of the network.", required=True
)
_OUT = flags.DEFINE_string("out", None, "Folder for everything.", required=True)
_SCANS = flags.DEFINE_string("scans", None, "Folder that holds chest CTs.")
_PAIRS = flags.DEFINE_string("pairs", None, "CSV or JSON of pairs to register.")
_MINUTES = flags.DEFINE_float(
    "minutes", None, "Time for all; 20 in 2D and 60 in 3D by default.", lower_bound=0.1
)
_AXIS = flags.DEFINE_enum(
    "axis", "axial", list(SLICE_AXES), "Slices of 3D volumes, for --dimensions 2."
)
_SEED = flags.DEFINE_integer("seed", 2017, "Seed of the random numbers.")

_DEFAULT_MINUTES = {2: 20.0, 3: 60.0}
# Held-out pairs of each of the three families.
_COUNT = 20


def _scans(config, paths, name: str, out: Path, cache):
    """Return the ``ScanBank`` of some scans; None without any."""
    if not paths:
        return None
    scans = ScansConfig(file=str(write_list(out, name, paths)))
    with ScanPrefetcher(dataclasses.replace(config, scans=scans), cache=cache) as bank:
        return bank.scans_at(0)[0]


def _finished(folder: Path, cache: Path) -> Network:
    """Return a trained network, with the statistics of its averaged weights."""
    network = load_network(folder)
    variables = reestimate_statistics(
        network.variables, read_config(folder), cache=cache
    )
    return dataclasses.replace(network, variables=variables)


def main():
    """Train, measure, register, and print where the report is."""
    dimensions, out = int(_DIMENSIONS.value), Path(_OUT.value)
    minutes = _MINUTES.value or _DEFAULT_MINUTES[dimensions]
    if _PAIRS.value:
        check_pairs(_PAIRS.value, read_pairs(_PAIRS.value), dimensions)
    request = Request(dimensions, _SCANS.value, _PAIRS.value, _AXIS.value, _SEED.value)
    cache = common.cache_folder() / "volumes"
    patients = begin(out, request, cache)
    flat = any(read_frame(path).ndim == 2 for path in patients.training[:1])
    config = recipe(
        dimensions, _AXIS.value, patients, flat=flat, out=out, seed=_SEED.value
    )
    runs = train_both(config, out, minutes=minutes, cache=cache)
    if runs is None:
        print("stopped by SIGTERM; the same command again goes on")
        return
    networks = {name: _finished(run.folder, cache) for name, run in runs.items()}
    scans = _scans(config, patients.held_out, "held_out", out, cache)
    data = dataclasses.replace(config.data, scan_probability=float(scans is not None))
    tested = dataclasses.replace(config, data=data)
    found = measure(networks, tested, scans, count=_COUNT)
    axis = config.data.slice_axis
    path = _PAIRS.value or make_pairs(
        out / "held_out_pairs",
        patients.held_out,
        len(data.shape),
        spacing=data.spacing,
        axis=axis,
        seed=_SEED.value,
        cache=cache,
    )
    options = RegistrationOptions(
        model=networks["multi_scale"], slice_axis=axis or None
    )
    registered = register_pairs(Path(path), out / "pairs", options)
    write_page(out / "report.html", tested, patients, runs, found, registered, scans)
    print(f"report: {out / 'report.html'}")


if __name__ == "__main__":
    common.run(main)
