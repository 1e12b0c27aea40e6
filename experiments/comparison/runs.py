"""Run a method on a pair in a process of its own."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.comparison.methods import Variant
from experiments.comparison.worker import COSTS, FIELD
from regnet_jax.errors import InputError
from regnet_jax.io import PairPaths, read_displacement


class Options(NamedTuple):
    """The options of a comparison, the same for all pairs.

    Attributes:
        setting: ``lung`` or ``default``.
        model: of this project's methods.
        patience: time limit of a method, seconds.
        cache: folder of compiled programs.
    """

    setting: str
    model: str
    patience: float
    cache: str


def run_method(
    variant: Variant,
    pair: PairPaths,
    folder: Path,
    options: Options,
    *,
    log: Path,
    initial=None,
    spacing: float | None = None,
) -> dict:
    """Run a method on a pair in a process of its own.

    Args:
        variant: of the method.
        pair: its paths.
        folder: for the files of the run; it must exist.
        options: for all pairs.
        log: file for the output of the method, which is kept where it fails; its folder
            exists.
        initial: ``alignment`` of an earlier run, for methods that start from it; None
            computes it.
        spacing: of the network's voxels, mm, for the resolution ``network``.

    Returns:
        ``seconds`` of the whole process, ``registration_seconds`` from images in
        memory to a field in memory, ``cpu_seconds`` of all threads, ``peak_gib``,
        ``notes``, and ``alignment`` where it was computed. The three times include
        that of the alignment, also where an earlier run computed it.

    Raises:
        InputError: if the method fails or takes too long. The message has the last
            line of its output and names the log.
    """
    shared = initial if variant.alignment == "shared" else None
    request = {
        **variant._asdict(),
        **{key: str(value) for key, value in asdict(pair).items() if value},
        "initial": shared and shared["matrix"],
        "spacing": spacing,
        "masks": [m and str(m) for m in (pair.fixed_mask, pair.moving_mask)],
        "folder": str(folder),
        **options._asdict(),
    }
    (folder / "request.json").write_text(json.dumps(request), "utf-8")
    command = [sys.executable, "-m", "experiments.comparison.worker"]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": options.cache}
    began = time.perf_counter()
    with log.open("w+", encoding="utf-8") as output:
        try:
            done = subprocess.run(
                [*command, str(folder / "request.json")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                timeout=options.patience,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise InputError(
                f"took more than {options.patience:g} s (its output: {log})"
            ) from error
        seconds = time.perf_counter() - began
        output.seek(0)
        lines = [line for line in output.read().splitlines() if line.strip()]
    if done.returncode:
        reason = lines[-1].removeprefix("error: ") if lines else "no output"
        raise InputError(
            f"ended with status {done.returncode}: {reason} (its output: {log})"
        )
    log.unlink()
    ran = {"seconds": seconds, **json.loads((folder / COSTS).read_text("utf-8"))}
    if shared:
        ran["seconds"] += shared["seconds"]
        ran["registration_seconds"] += shared["seconds"]
        ran["cpu_seconds"] += shared["cpu_seconds"]
    return ran


def read_field(folder: Path) -> np.ndarray:
    """Read the displacement that a worker wrote: ``[*fixed, d]``, mm, x first."""
    return read_displacement(folder / FIELD)[0]
