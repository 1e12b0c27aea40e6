"""The report of a reproduction: one HTML page."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from experiments.reproduction.errors import Measured, ratio, tables
from experiments.reproduction.pairs import Registered
from experiments.reproduction.recipe import Trained
from experiments.reproduction.scans import Patients
from regnet_jax.geometry.slices import SLICE_AXES
from regnet_jax.hounsfield import DISPLAY_WINDOW
from regnet_jax.reporting import (
    difference_figure,
    family_figure,
    pair_figure,
    training_figure,
)
from regnet_jax.reporting.families import middle_slices
from regnet_jax.reporting.html import write_html
from regnet_jax.reporting.slices import View
from regnet_jax.synthesis.generator import sample_patches
from regnet_jax.training.config import ExperimentConfig

_SHOWN = 4


def field_gallery(config: ExperimentConfig, scans):
    """Draw a field of each family on held-out scans, as figure 2 of 2017.

    Args:
        config: of the training, whose families are sampled.
        scans: ``ScanBank`` of the held-out scans; None for procedural chests.

    Returns:
        The figure.
    """
    (data,) = config.data.stages
    across = SLICE_AXES.get(data.slice_axis)
    size = min(n for axis, n in enumerate(data.shape) if axis != across)
    data = dataclasses.replace(data, patch_size=size, patches_per_pair=1)
    fields, images = {}, {}
    for number, (name, family) in enumerate(data.amplified.items()):
        key = jax.random.fold_in(jax.random.key(config.seed), number)
        patch = jax.tree.map(
            lambda a: np.asarray(a[0]), sample_patches(key, family, data, scans=scans)
        )
        images[name], fields[name] = middle_slices(
            patch.fixed[..., 0], data.spacing * patch.displacement
        )
    return family_figure(fields, images, spacing=(data.spacing,) * 2)


def write_page(
    path: Path,
    config: ExperimentConfig,
    patients: Patients,
    runs: Mapping[str, Trained],
    found: Sequence[Measured],
    registered: Sequence[Registered],
    scans,
) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        config: of the training at both resolutions.
        patients: whose scans were used.
        runs: from ``recipe.train_both``.
        found: from ``errors.measure``.
        registered: from ``pairs.register_pairs``.
        scans: held out, see ``field_gallery``.
    """
    both, single = (f"{ratio(found, name):.2f}" for name in runs)
    summary = [
        ("multi-scale", both, "error in one pass, as a fraction of the displacement"),
        ("single scale", single, f"the same, after {_steps(runs)}"),
        ("steps", runs["multi_scale"].steps, f"in {_minutes(runs['multi_scale'])}"),
    ]
    notes = [_origin(patients, config)]
    notes += [f"left out: {path} ({why})" for path, why in patients.left_out]
    figures = [
        (
            f"Training, {name.replace('_', ' ')}",
            f"{run.steps} steps in {_minutes(run)}",
            training_figure(run.records),
        )
        for name, run in runs.items()
    ]
    shown = "procedural chests" if scans is None else "the held-out scans"
    figures.append(
        (
            f"Fields on {shown}",
            "A deformed image of each family, and the magnitude of its field.",
            field_gallery(config, scans),
        )
    )
    for pair in registered[:_SHOWN]:
        images = [image.array for image in pair.images]
        view = View(pair.images[0].frame.spacing[::-1], DISPLAY_WINDOW)
        view = view.resolve(*images[:2])
        text = f"All of it: pairs/{pair.name}/report.html. {_change(pair)}"
        figures += [
            (f"Pair {pair.name}", text, pair_figure(*images, view)),
            (f"Difference, {pair.name}", "", difference_figure(*images, view)),
        ]
    write_html(
        path,
        title=f"RegNet 2017 in {config.dimensions}D",
        summary=summary,
        tables=[*tables(found), _pair_table(registered)],
        figures=figures,
        notes=notes,
    )


def _steps(runs: Mapping[str, Trained]) -> str:
    both, single = (run.steps for run in runs.values())
    return "as many steps" if single == both else f"{single} steps"


def _minutes(run: Trained) -> str:
    return f"{run.seconds / 60:.0f} minutes"


def _origin(patients: Patients, config: ExperimentConfig) -> str:
    axis = config.data.slice_axis
    kind = f"{axis} slices of " if axis else ""
    if not patients.training:
        return f"Trained and measured on {kind}procedural chests; no scans were given."
    measured = f"{_counted(patients.held_out)} of other patients"
    if not patients.held_out:
        measured = "procedural chests, as there is only one patient"
    return (
        f"Trained on {kind}{_counted(patients.training)} and procedural chests;"
        f" measured on {measured}."
    )


def _counted(paths: Sequence[Path]) -> str:
    return f"{len(paths)} scan{'s' * (len(paths) != 1)}"


def _change(pair: Registered) -> str:
    if pair.after is None:
        return ""
    return f"Mean endpoint error {pair.before:.2f} mm before, {pair.after:.2f} after."


def _pair_table(registered: Sequence[Registered]):
    keys = ("correlation", "lung_correlation", "lung_overlap", "tre", "dice")
    head = ["pair"]
    rows = [[pair.name] for pair in registered]
    for key in keys:
        if not any(pair.row[f"{key}_after"] for pair in registered):
            continue
        head += [f"{key.replace('_', ' ')} before", "after"]
        for row, pair in zip(rows, registered, strict=True):
            found = (pair.row[f"{key}_{when}"] for when in ("before", "after"))
            row += [f"{float(cell):.3f}" if cell else "" for cell in found]
    if any(pair.after is not None for pair in registered):
        head += ["endpoint error before, mm", "after"]
        for row, pair in zip(rows, registered, strict=True):
            known = pair.after is not None
            row += [f"{x:.2f}" if known else "" for x in (pair.before, pair.after)]
    return "Registered pairs", head, rows
