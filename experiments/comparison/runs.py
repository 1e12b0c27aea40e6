"""Starting a worker, and waiting for what it finds."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.comparison.worker import ANSWER, FIELD
from regnet_jax.errors import InputError
from regnet_jax.io import Pair, read_displacement


class Options(NamedTuple):
    """What holds for all pairs.

    Attributes:
        setting: ``lung`` or ``default``.
        model: of this project's methods.
        refine: steps of refinement.
        patience: seconds after which a method is given up.
        cache: folder of compiled programs.
    """

    setting: str
    model: str | None
    refine: int
    patience: float
    cache: str


def run_method(name: str, pair: Pair, folder: Path, options: Options) -> dict:
    """Runs a method on a pair in a process of its own.

    Args:
        name: one of ``methods.METHODS``.
        pair: paths.
        folder: for the files of the run; it exists.
        options: for all pairs.

    Returns:
        ``seconds`` of the whole process, ``registration_seconds`` from images in
        memory to a field in memory, ``cpu_seconds`` of all threads, ``peak_gib``.

    Raises:
        InputError: if the method fails or takes too long; the last line of what it
            said is in it, all of it in ``log.txt``.
    """
    request = {
        "method": name,
        **{key: str(value) for key, value in asdict(pair).items() if value},
        "masks": [m and str(m) for m in (pair.fixed_mask, pair.moving_mask)],
        "folder": str(folder),
        **options._asdict(),
    }
    (folder / "request.json").write_text(json.dumps(request))
    command = [sys.executable, "-m", "experiments.comparison.worker"]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": options.cache}
    began = time.perf_counter()
    with (folder / "log.txt").open("w+", encoding="utf-8") as log:
        try:
            done = subprocess.run(
                [*command, str(folder / "request.json")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                timeout=options.patience,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise InputError(f"took more than {options.patience:g} s") from error
        seconds = time.perf_counter() - began
        log.seek(0)
        said = [line for line in log.read().splitlines() if line.strip()]
    if done.returncode:
        reason = said[-1].removeprefix("error: ") if said else "it said nothing"
        raise InputError(f"ended with status {done.returncode}: {reason}")
    return {"seconds": seconds, **json.loads((folder / ANSWER).read_text())}


def read_field(folder: Path) -> np.ndarray:
    """What a worker found: ``[*fixed, d]``, mm."""
    return read_displacement(folder / FIELD)[0]
