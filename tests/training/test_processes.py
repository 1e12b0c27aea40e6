"""Runs that are killed, told to stop, or spread over processes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from regnet_jax.training import loop, parallel
from regnet_jax.training.checkpoint import open_checkpoints, restore_variables
from regnet_jax.training.logs import METRICS, Journal
from tests.helpers import kills
from tests.helpers.tiny import train

ROOT = Path(__file__).parents[2]
KILL_WHILE_WRITING = 0


def losses(folder):
    lines = (folder / METRICS).read_text("utf-8").splitlines()
    return [record["loss"] for record in map(json.loads, lines) if "loss" in record]


def close(got, want):
    for a, b in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def two_processes(folder, steps, **environment):
    """Runs the worker twice, each with two of four devices; what both print."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    environment |= {"PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-m", "tests.helpers.training_process"]
    arguments += [str(folder), str(steps), f"localhost:{port}", "2"]
    workers = [
        subprocess.Popen(
            [*arguments, number],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        for number in ("0", "1")
    ]
    texts = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], texts
    return texts


def test_only_the_main_process_draws_and_measures_real_pairs(monkeypatch):
    asked = []

    def evaluate(variables, show=None):
        asked.append("drawn" if show else "not drawn")
        return {"low": {"ratio": 0.5}}

    def measure(variables):
        asked.append("measured")
        return {}

    journal = SimpleNamespace(
        log_evaluation=lambda *_: asked.append("logged"),
        log_real_pairs=lambda *_: asked.append("logged"),
    )
    program = SimpleNamespace(evaluate=evaluate)
    state = SimpleNamespace(inference_variables={})
    monkeypatch.setattr(parallel, "local_values", lambda tree: tree)
    for main in (True, False):
        monkeypatch.setattr(parallel, "is_main", lambda main=main: main)
        found = loop._evaluate(program, measure, journal, state, 2)
        assert found == {"low": {"ratio": 0.5}}
    assert asked == ["drawn", "logged", "measured", "logged", "not drawn"]


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_two_processes_do_what_one_does(tiny, tmp_path):
    """A checkpoint of two processes is gone on with by one, and the reverse."""
    want = tmp_path / "one"
    train(tiny, want, until=2)
    mixed = tmp_path / "two"
    texts = two_processes(mixed, 2)
    assert all("evaluated 4" in text for text in texts)
    close(restore_variables(mixed), restore_variables(want))
    np.testing.assert_allclose(losses(mixed), losses(want), rtol=1e-5)
    # Here and there change places.
    other = tmp_path / "reverse"
    shutil.copytree(want, other)
    two_processes(other, 4)
    train(tiny, mixed)
    train(tiny, want)
    for folder in (mixed, other):
        close(restore_variables(folder), restore_variables(want))
        np.testing.assert_allclose(losses(folder), losses(want), rtol=1e-5)


@pytest.mark.slow
def test_sigterm_to_one_process_stops_both_and_loses_nothing(tmp_path):
    texts = two_processes(tmp_path, 100_000, SIGTERM_TO="1")
    assert all("stopped 4" in text for text in texts)
    with open_checkpoints(tmp_path) as manager:
        assert manager.latest_step() == len(losses(tmp_path)) < 100_000


@pytest.mark.usefixtures("compiled_once")
def test_sigterm_saves_and_ends(changed, tmp_path, monkeypatch):
    """At a step at which no interval ends; going on, the run is as if uninterrupted."""
    config = changed("steps=6", "checkpoint_every=5", "evaluation.every=6")
    write = Journal.log_step

    def step(journal, number, *rest, **options):
        write(journal, number, *rest, **options)
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "log_step", step)
        assert train(config, tmp_path / "halted") == {}
    assert signal.getsignal(signal.SIGTERM) is before
    with open_checkpoints(tmp_path / "halted") as manager:
        assert 2 <= manager.latest_step() < 5
        assert manager.latest_step() == len(losses(tmp_path / "halted"))
    want = train(config, tmp_path / "straight")
    assert train(config, tmp_path / "halted") == want
    folders = [tmp_path / name for name in ("halted", "straight")]
    jax.tree.map(np.testing.assert_array_equal, *map(restore_variables, folders))
    assert losses(folders[0]) == losses(folders[1])


@pytest.mark.usefixtures("compiled_once")
def test_time_limit_saves_and_ends(changed, tmp_path, monkeypatch):
    """The run that was stopped by the time goes on as if uninterrupted."""
    config = changed("steps=6", "checkpoint_every=5", "evaluation.every=6")
    now, write = [0.0], Journal.log_step

    def step(journal, number, *rest, **options):
        write(journal, number, *rest, **options)
        now[0] = 30.0 * number

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "log_step", step)
        clock = {"monotonic": lambda: now[0], "perf_counter": time.perf_counter}
        patch.setattr(loop, "time", SimpleNamespace(**clock))
        assert train(config, tmp_path / "halted", minutes=1.0) == {}
    assert 2 <= len(losses(tmp_path / "halted")) < 5
    want = train(config, tmp_path / "straight", minutes=1e9)
    assert train(config, tmp_path / "halted") == want
    assert losses(tmp_path / "halted") == losses(tmp_path / "straight")


@pytest.mark.slow
def test_a_kill_loses_no_more_than_an_interval(tmp_path, monkeypatch):
    """While a checkpoint is being written; ``kills.py`` itself kills more often."""
    # The first of three processes compiles for all.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    seed = KILL_WHILE_WRITING
    (row,) = kills.kill_runs(tmp_path, 1, steps=60, victim=kills.TINY, seed=seed)
    assert row["moment"].startswith("write")


@pytest.mark.parametrize(
    ("environment", "want"),
    [
        ({}, False),
        ({"SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_STEP_NUM_TASKS": "4"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
    ],
)
def test_launched_with_others_knows_the_launchers(environment, want):
    assert parallel.launched_with_others(environment) is want
