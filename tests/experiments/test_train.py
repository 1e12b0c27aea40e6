"""Training from the command line: what it leaves, and the same command again."""

import json

import numpy as np
import pytest

from regnet_jax.registration import load_network
from tests.helpers.shared import build_once

TINY = [
    "--config=demo2d",
    "--override=data.shape=64,64",
    "--override=data.patch_size=32",
    "--override=data.patches_per_pair=1",
    "--override=data.families=low",
    "--override=batch_size=1",
    "--override=steps=3",
    "--override=checkpoint_every=1",
    "--override=evaluation.every=2",
    "--override=evaluation.pairs=1",
]


def records(run):
    return [
        json.loads(x) for x in (run / "metrics.jsonl").read_text("utf-8").splitlines()
    ]


def steps(run):
    return [r["step"] for r in records(run) if "loss" in r]


@pytest.fixture(scope="module")
def trained(command, tmp_path_factory):
    """A run to step 2, then to its end."""

    def build(folder):
        run = folder / "runs" / "tiny"
        results, seen = [], []
        for extra in (["--steps=2"], []):
            results.append(command("train", *TINY, f"--workdir={run}", *extra))
            assert results[-1].status == 0, results[-1].err
            seen.append(steps(run))
        return results, seen

    folder, (results, seen) = build_once(tmp_path_factory, "trained", build)
    return folder / "runs" / "tiny", results, seen


@pytest.mark.slow
def test_a_run_leaves_config_checkpoints_and_metrics(trained):
    run, results, _ = trained
    assert {p.name for p in run.iterdir()} == {
        "config.json",
        "inference.json",
        "checkpoints",
        "curves.png",
        "tensorboard",
        "metrics.jsonl",
    }
    config = json.loads((run / "config.json").read_text("utf-8"))
    assert config["steps"] == 3
    assert config["data"]["shape"] == [64, 64]
    assert {p.name for p in (run / "checkpoints").iterdir()} >= {"3"}
    for record in records(run):
        if "loss" in record:
            assert np.isfinite([record["loss"], record["error_mm"]]).all()
        else:
            assert record["evaluation"]["low"]["n"] == 1
    for result in results:
        assert str(run) in result.out
        assert "low" in result.out
        assert "Traceback" not in result.err


@pytest.mark.slow
def test_the_same_command_again_resumes(trained):
    _, _, seen = trained
    assert seen == [[1, 2], [1, 2, 3]]


@pytest.mark.slow
def test_registration_takes_the_run(trained):
    run, _, _ = trained
    network = load_network(run)
    assert network.dimensions == 2
    assert network.config.voxel_sizes == (2.0,)


@pytest.mark.slow
def test_another_config_is_refused_and_the_run_stays(trained, command):
    run, _, _ = trained
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    changed = [*TINY, "--override=optimizer.learning_rate=0.5", f"--workdir={run}"]
    result = command("train", *changed)
    assert result.status == 2
    assert len(result.errors) == 1
    assert str(run) in result.errors[0]
    assert "learning_rate" in result.errors[0]
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    "flags",
    [
        ["--processes=2"],
        ["--coordinator=localhost:1", "--processes=2"],
        ["--coordinator=localhost:1", "--processes=2", "--process_id=2"],
        ["--coordinator=auto", "--processes=2", "--process_id=1"],
    ],
)
def test_half_a_group_of_processes_is_refused(command, tmp_path, flags):
    result = command("train", *TINY, f"--workdir={tmp_path / 'run'}", *flags)
    assert result.status == 2
    assert "--coordinator, --processes and --process_id" in result.errors[0]
    assert not (tmp_path / "run").exists()
