"""One method on one pair, in a process that does nothing else.

    python -m experiments.comparison.worker REQUEST.json

Called by ``experiments.compare``, which writes the request and reads the results.
"""

import json
import os
import sys
import time
from pathlib import Path

# Keeps XLA from logging its own tuning flags as missing CPU features on every start.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from experiments.comparison import methods
from experiments.comparison.lungs import closed_lungs
from experiments.comparison.methods import Task
from regnet_jax.cli.common import peak_gib
from regnet_jax.errors import InputError
from regnet_jax.io import read_image, read_mask, write_displacement
from regnet_jax.registration.alignment.linear import align
from regnet_jax.registration.monitoring import collect_warnings
from regnet_jax.spatial import check_pair, resample, resample_field, to_isotropic

FIELD, COSTS = "displacement.nii", "costs.json"


def make_task(request: dict) -> Task:
    """Read the images of a request, with the linear alignment that was found before.

    Args:
        request: from ``runs.run_method``.

    Returns:
        The task, without lungs.

    Raises:
        InputError: if a file cannot be used.
    """
    images = [read_image(request[side]) for side in ("fixed", "moving")]
    check_pair(*images)
    fixed_mask, moving_mask = (
        path and read_mask(path, image.frame)
        for path, image in zip(request["masks"], images, strict=True)
    )
    initial = request["initial"] and np.array(request["initial"])
    masks = (fixed_mask, moving_mask)
    return Task(*images, masks, None, request["setting"], initial)


def at_voxel_size(task: Task, spacing: float) -> Task:
    """Return a task on isotropic grids that follow the anatomical axes.

    Args:
        task: on any grids, without lungs.
        spacing: of the voxels, mm.

    Returns:
        The same task, its images smoothed before they are resampled.
    """
    fixed, moving = (to_isotropic(i, spacing) for i in (task.fixed, task.moving))
    fixed_mask, moving_mask = (
        mask and resample(mask, image.frame, interpolation="nearest")
        for mask, image in zip(task.masks, (fixed, moving), strict=True)
    )
    return task._replace(fixed=fixed, moving=moving, masks=(fixed_mask, moving_mask))


def _register(request: dict) -> None:
    """Register as requested; write the field, its costs and the warnings."""
    task, name = make_task(request), request["method"]
    method = methods.METHODS[name]
    register = methods.load(name, model=request["model"])
    costs: dict = {}
    began, own = time.perf_counter(), time.process_time()
    with collect_warnings() as notes:
        if request["alignment"] == "shared" and task.initial is None:
            masks = dict(zip(("fixed_mask", "moving_mask"), task.masks, strict=True))
            matrix = align(task.fixed, task.moving, **masks)
            costs["alignment"] = {
                "matrix": matrix.tolist(),
                "seconds": time.perf_counter() - began,
                "cpu_seconds": time.process_time() - own,
            }
            task = task._replace(initial=matrix)
        frame = task.fixed.frame
        if request["resolution"] == "network":
            task = at_voxel_size(task, request["spacing"])
        if method.uses_lungs and task.setting == "lung":
            task = task._replace(lungs=closed_lungs(task.fixed))
            if task.lungs is None:
                notes.append(f"no lungs are found, so {name} ran without a lung mask")
        field = register(task)
        if task.fixed.frame != frame:
            field = resample_field(field, task.fixed.frame, frame)
    seconds = time.perf_counter() - began
    folder = Path(request["folder"])
    write_displacement(folder / FIELD, field, frame)
    costs |= {
        "registration_seconds": seconds,
        "peak_gib": peak_gib(),
        # Summed over threads; it hardly depends on other load of the machine.
        "cpu_seconds": time.process_time(),
        "notes": notes,
    }
    (folder / COSTS).write_text(json.dumps(costs), "utf-8")


if __name__ == "__main__":
    try:
        _register(json.loads(Path(sys.argv[1]).read_text("utf-8")))
    except InputError as error:
        sys.exit(f"error: {error}")
