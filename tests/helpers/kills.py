"""Kill a training run at random moments and measure what it lost.

    python -m tests.helpers.kills FOLDER KILLS

runs ``experiments.train``; tests run the tiny model of ``training_process``.

Trains once without interruption, and once with SIGKILL again and again: at random
moments, while the program starts, and while a checkpoint is being written. After each
kill the newest checkpoint must be valid and not more than an interval old, the next
start must go on from it, and in the end weights and log must be those of the run that
nobody killed.
"""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict

from regnet_jax.training.checkpoint import open_checkpoints, restore_variables
from regnet_jax.training.logs import METRICS
from tests.helpers import tiny

_OVERRIDES = (
    "data.shape=32,32",
    "data.patch_size=32",
    "data.families=low",
    "batch_size=1",
    "steps_per_call=2",
    "checkpoint_every=8",
    "optimizer.ema_decay=0.99",
    "evaluation.pairs=1",
)


class Run(NamedTuple):
    """A run to kill: its command line, and the most steps that a kill may cost."""

    command: Callable[[Path, int], list[str]]
    checkpoint_every: int


def _train_shipped(folder: Path, steps: int) -> list[str]:
    """The smallest run of a shipped config, by its command line."""
    values = (*_OVERRIDES, f"steps={steps}", f"evaluation.every={steps}")
    arguments = ["--config=demo2d", f"--workdir={folder}"]
    arguments += [f"--override={value}" for value in values]
    return [sys.executable, "-m", "experiments.train", *arguments]


def _train_tiny(folder: Path, steps: int) -> list[str]:
    module = "tests.helpers.training_process"
    return [sys.executable, "-m", module, str(folder), str(steps)]


SHIPPED = Run(_train_shipped, 8)
TINY = Run(_train_tiny, tiny.TINY.checkpoint_every)


def records(folder: Path) -> list[dict]:
    """The whole lines of the log, without what times have to do with."""
    log = folder / METRICS
    lines = log.read_text("utf-8").splitlines(keepends=True) if log.exists() else []
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    timed = ("seconds", "pairs_per_second", "generating", "waiting", "elapsed")
    return [{k: v for k, v in r.items() if k not in timed} for r in found]


def last_step(folder: Path) -> int:
    """The newest step of the log."""
    return max((record["step"] for record in records(folder)), default=0)


def newest(folder: Path) -> int:
    """The newest complete checkpoint."""
    if not (folder / "checkpoints").is_dir():
        return 0
    with open_checkpoints(folder) as manager:
        return manager.latest_step() or 0


def last_saved(folder: Path) -> int:
    """The same by the names of folders alone, which is quick."""
    names = [path.name for path in (folder / "checkpoints").glob("*")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def being_written(folder: Path) -> bool:
    """Whether a checkpoint is there that is not complete."""
    return any("tmp" in path.name for path in (folder / "checkpoints").glob("*"))


def kill(process, folder: Path, when: str, interval: int, rng: random.Random) -> str:
    """Waits for the moment and kills, unless the run has ended by itself."""

    def wait(condition):
        while not condition() and process.poll() is None:
            time.sleep(0.001)

    if when == "start":
        time.sleep(rng.uniform(0.0, 6.0))
    else:
        # Some saves later than where it began, so that the run comes forward.
        saved = last_saved(folder) + interval * rng.randint(0, 2)
        begun = last_step(folder)
        wait(lambda: last_step(folder) > begun)
        wait(lambda: last_saved(folder) >= saved)
        if when == "write":
            wait(lambda: being_written(folder))
        time.sleep(rng.uniform(0.0, 0.02 if when == "write" else 1.0))
    state = "while writing" if being_written(folder) else "between writes"
    process.send_signal(signal.SIGKILL)
    process.wait()
    return f"{when}, {state}"


def kill_runs(
    folder: Path, kills: int, steps: int, *, victim: Run = SHIPPED, seed: int = 0
) -> list[dict]:
    """Trains with and without kills.

    Returns:
        A row for each kill: the moment, the last step in the log, the newest
        checkpoint, and the step from which the run went on.

    Raises:
        AssertionError: if anything was lost that should not be.
    """
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    straight, killed, rng = folder / "straight", folder / "killed", random.Random(seed)
    subprocess.run(victim.command(straight, steps), check=True, **quiet)
    rows = []
    while len(rows) < kills:
        process = subprocess.Popen(victim.command(killed, steps), **quiet)
        moment = rng.choice(("start", "steps", "write", "write"))
        moment = kill(process, killed, moment, victim.checkpoint_every, rng)
        if process.returncode == 0:
            # It came to its end: once more from the beginning.
            _compare(straight, killed)
            shutil.rmtree(killed)
            continue
        row = {"moment": moment, "log": last_step(killed), "kept": newest(killed)}
        row["lost"] = row["log"] - row["kept"]
        rows.append(row)
        print(row, flush=True)
        assert row["lost"] <= victim.checkpoint_every, row
        assert row["kept"] % (victim.checkpoint_every // 2) == 0, row
    subprocess.run(victim.command(killed, steps), check=True, **quiet)
    _compare(straight, killed)
    return rows


def _compare(straight: Path, killed: Path) -> None:
    """Weights bit for bit, and every line of the log."""
    want, got = (restore_variables(f)["params"] for f in (straight, killed))
    flat = [flatten_dict(tree, sep="/") for tree in (want, got)]
    assert flat[0].keys() == flat[1].keys()
    for name, array in flat[0].items():
        np.testing.assert_array_equal(flat[1][name], array, name)
    assert records(killed) == records(straight)
    assert not (killed / "damaged").exists()


if __name__ == "__main__":
    results = kill_runs(Path(sys.argv[1]), int(sys.argv[2]), steps=400)
    writing = sum("while writing" in row["moment"] for row in results)
    worst = max(row["lost"] for row in results)
    print(f"{len(results)} kills, {writing} while writing; at most {worst} steps lost")
