"""The recipe of RegNet 2017 as a chain of trainings that fit into a time.

In 2D the network starts from random weights. In 3D it would learn nothing in an hour on
a CPU, so it starts from two networks of slices, which take a part of the time.
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.reproduction.scans import Patients
from regnet_jax.errors import InputError
from regnet_jax.geometry.slices import SLICE_AXES
from regnet_jax.models import HALVES, MODELS
from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.training.config import (
    EvaluationConfig,
    ExperimentConfig,
    OptimizerConfig,
    ScansConfig,
    ScheduleConfig,
    with_model,
)
from regnet_jax.training.logs import METRICS
from regnet_jax.training.loop import train

# The number of steps is not known before; the learning rate is constant, as in 2017.
_STEPS = 10_000_000
_EVERY = 1_000_000_000
# Slices are taken from slabs of this many voxels.
_SLAB = 56
# Voxels of slices, of volumes and, by dimension, of patches, along each axis. In 3D a
# patch has eight targets, which show little more than one displacement; larger ones
# cost more and show as many.
_SLICE = 160
_VOLUME = 96
_PATCH = {2: 85, 3: 55}
# The slices on which the start of the 3D network is trained.
_PLANES = ("axial", "coronal")
# Fraction of the pairs that is made of scans, where there are any; the others show
# procedural chests.
_SCANS = 0.8
# Shares of the time for the network at both resolutions, by dimension: for each network
# of slices, and for itself. The one at full resolution then takes as many steps, which
# cost less, and the rest is left for measuring.
_SHARES = {2: (0.0, 0.45), 3: (0.11, 0.24)}


class Trained(NamedTuple):
    """A trained network.

    Attributes:
        folder: of its run.
        steps: number of its steps.
        seconds: time of its steps.
        records: of the log.
    """

    folder: Path
    steps: int
    seconds: float
    records: list[dict]


def recipe(
    dimensions: int, axis: str, patients: Patients, *, flat: bool, out: Path, seed: int
) -> ExperimentConfig:
    """Return the training of the network at both resolutions.

    Args:
        dimensions: 2 or 3.
        axis: across the slices of 3D volumes, on which a 2D network is trained.
        patients: whose scans are trained on; without any, procedural chests are.
        flat: whether the scans are 2D.
        out: folder that gets the list of the scans.
        seed: of the training.

    Returns:
        The experiment.
    """
    data = GeneratorConfig(
        shape=(_SLICE,) * 2 if dimensions == 2 else (_VOLUME,) * 3,
        spacing=2.0,
        families=("low", "medium", "high"),
        # As in the paper, a displacement is in an upper class if any component is.
        class_limits=(1.5, 4.0, 8.0),
        noise_fixed=5.0,
        noise_moving=5.0,
        unseen_weight=0.05,
        patches_per_pair={2: 4, 3: 6}[dimensions],
        patch_size=_PATCH[dimensions],
    )
    batch_size = 4
    if dimensions == 2 and not flat:
        data = _on_slices(data, axis, _SLICE)
        batch_size = 2
    scans = ScansConfig()
    if patients.training:
        scans = ScansConfig(file=str(write_list(out, "training", patients.training)))
        data = dataclasses.replace(data, scan_probability=_SCANS)
    return ExperimentConfig(
        name=f"regnet{dimensions}d",
        model="regnet",
        data=data,
        batch_size=batch_size,
        steps=_STEPS,
        seed=seed,
        scans=scans,
        optimizer=OptimizerConfig(max_grad_norm=1.0, ema_decay=0.99),
        schedule=ScheduleConfig(final_fraction=1.0),
        evaluation=EvaluationConfig(every=_EVERY, pairs=1),
    )


def _on_slices(data, axis: str, size: int):
    """Return the same pairs in slabs of which slices of ``size`` are taken."""
    shape = [size, size, size]
    shape[SLICE_AXES[axis]] = _SLAB
    return dataclasses.replace(
        data,
        shape=tuple(shape),
        slice_axis=axis,
        patch_size=_PATCH[2],
        patches_per_pair=8,
    )


def _chain(config: ExperimentConfig, model: str, name: str, out: Path):
    """Return the runs that end with a network: ``(folder, config, share)`` of each."""
    plane_share, share = _SHARES[config.dimensions]
    runs, planes = [], []
    if config.dimensions == 3:
        for axis in _PLANES:
            folder = out / f"{name}_{axis}"
            plane = dataclasses.replace(
                config,
                name=folder.name,
                data=_on_slices(config.data, axis, 2 * _SLAB),
                batch_size=2,
            )
            plane = with_model(plane, HALVES[model], _targets(plane))
            runs.append((folder, plane, plane_share))
            planes.append(f"{axis}={folder}")
    config = dataclasses.replace(config, name=name, init_planes=tuple(planes))
    # Both networks get as many targets in a patch.
    last = with_model(config, model, _targets(config))
    return [*runs, (out / name, last, share)]


def _targets(config: ExperimentConfig) -> int:
    """Return the number of predictions along an axis of a patch."""
    support = MODELS[config.model].support
    return (config.data.patch_size - 2 * support.margin - 1) // support.stride + 1


def write_list(out: Path, name: str, paths: Sequence[Path]) -> Path:
    """Write a list of scans for ``scans.file``; the paths become absolute."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.txt"
    path.write_text("".join(f'"{p.absolute()}"\n' for p in paths), "utf-8")
    return path


def read_log(folder: Path) -> list[dict]:
    """Return the records of a run's log; none before its first step."""
    log = folder / METRICS
    lines = log.read_text("utf-8").splitlines() if log.exists() else []
    return [json.loads(line) for line in lines]


def _trained(folder: Path) -> Trained:
    records = read_log(folder)
    steps = [record for record in records if "seconds" in record]
    seconds = sum(record["seconds"] for record in steps)
    return Trained(folder, len(steps), seconds, records)


def train_both(
    config: ExperimentConfig, out: Path, *, minutes: float, cache: Path
) -> dict[str, Trained] | None:
    """Train the network at both resolutions, then at the full one for as many steps.

    Both have as many targets in a step. One of the second network costs less, so it
    needs less time than the first. If the machine has become so slow that it would need
    more, it ends after fewer steps.
    The same call again goes on: seconds of the steps that are in the log count.

    Args:
        config: from ``recipe``.
        out: folder of the runs.
        minutes: for everything; about nine tenths are used.
        cache: of ``train``.

    Returns:
        The networks by name, with the time of all runs that led to them; None if
        SIGTERM stopped them.

    Raises:
        InputError: if the time is too short for a step.
    """
    both, single = (
        _chain(config, model, name, out)
        for model, name in (
            ("regnet", "multi_scale"),
            ("regnet_single", "single_scale"),
        )
    )
    for number, run in enumerate(both):
        # A run must not change once another has started from it or takes its steps.
        later = (*both[number + 1 :], *single)
        if any(_trained(other).steps for other, _, _ in later):
            continue
        if not _train_for(*run, minutes=minutes, cache=cache):
            return None
    for (reference, _, _), run in zip(both, single, strict=True):
        steps = _trained(reference).steps
        if not _train_for(*run, minutes=minutes, cache=cache, until=steps):
            return None
    return {"multi_scale": _total(both), "single_scale": _total(single)}


def _train_for(
    folder: Path,
    config: ExperimentConfig,
    share: float,
    *,
    minutes: float,
    cache: Path,
    until: int | None = None,
) -> bool:
    """Train for a share of the minutes, less the time of the steps that are logged.

    Returns:
        False if SIGTERM stopped it.
    """
    left = 60.0 * share * minutes - _trained(folder).seconds
    if left <= 0:
        return True
    began = time.monotonic()
    finished = train(config, folder, minutes=left / 60.0, until=until, cache=cache)
    if not finished and time.monotonic() - began < left:
        return False
    if not _trained(folder).steps:
        raise InputError(f"--minutes {minutes:g}: is too short for a step; give more")
    return True


def _total(runs) -> Trained:
    """Return the last run, with the seconds of all."""
    *_, last = trained = [_trained(folder) for folder, _, _ in runs]
    return last._replace(seconds=sum(run.seconds for run in trained))
