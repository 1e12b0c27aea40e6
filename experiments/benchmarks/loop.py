"""Overhead of the training loop over its steps: logs, checkpoints, reading of scans."""

import dataclasses
import json
import tempfile
import time
from pathlib import Path

import jax

from experiments import configs
from experiments.benchmarks.timing import start_steps
from regnet_jax.cli.common import peak_gib
from regnet_jax.training import parallel
from regnet_jax.training.config import EvaluationConfig, ScansConfig
from regnet_jax.training.data import ScanPrefetcher
from regnet_jax.training.logs import METRICS
from regnet_jax.training.loop import train

# Number of steps before the timing, in which the loop times the sampling of pairs, and
# number of timed steps.
_FIRST, _TIMED = 16, 48


def run(scans: str | None) -> list[dict]:
    """Time steps at 64^3 alone and in the whole loop.

    Args:
        scans: file that lists CTs, or None for procedural volumes alone.

    Returns:
        A row for each kind of volumes: seconds of a step alone and in the loop, the
        former as a fraction of the latter, and the fraction of a step that the sampling
        of pairs takes.
    """
    cases = {"procedural": {}}
    if scans:
        given = ScansConfig(scans, resident=2, rotate_every=20)
        cases["scans"] = {"scans": given}
    rows = []
    for name, changes in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            rows.append(_case(name, _config(changes), Path(folder)))
    return rows


def _config(changes: dict):
    base = configs.load("lung3d")
    # One family and scale: more of them take longer to compile but as long to run.
    fields = {"families": ("multiscale",), "family_weights": (), "scales": (1.0,)}
    share = 0.6 if changes else 0.0
    data = dataclasses.replace(base.data, scan_probability=share, **fields)
    return dataclasses.replace(
        base,
        model="unet",
        data=data,
        batch_size=jax.device_count(),
        steps=_FIRST + _TIMED,
        checkpoint_every=24,
        evaluation=EvaluationConfig(every=_FIRST + _TIMED, pairs=1),
        steps_per_call=4,
        **changes,
    )


def _case(name: str, config, folder: Path) -> dict:
    cache = folder / "volumes"
    step = _bare(config, cache)
    train(config, folder / "run", cache=cache)
    lines = map(json.loads, (folder / "run" / METRICS).read_text("utf-8").splitlines())
    records = {record["step"]: record for record in lines if "elapsed" in record}
    first, last = (records[step] for step in (_FIRST, _FIRST + _TIMED))
    loop = (last["elapsed"] - first["elapsed"]) / _TIMED
    row = {"case": f"{config.model}, {name}", "step_seconds": step}
    row |= {"loop_seconds": loop, "rate": step / loop, "peak_gib": peak_gib()}
    return row | {"generating": last["generating"]}


def _bare(config, cache: Path) -> float:
    """Return the seconds of a step alone, with the same scans throughout."""
    advance, scans = start_steps(config), ()
    if config.data.scan_probability:
        with ScanPrefetcher(config, parallel.replicate, cache=cache) as volumes:
            scans = volumes.scans_at(0)
    advance(_FIRST, scans)
    began = time.perf_counter()
    for end in range(_FIRST, _FIRST + _TIMED, config.steps_per_call):
        advance(end + config.steps_per_call, scans)
    return (time.perf_counter() - began) / _TIMED
