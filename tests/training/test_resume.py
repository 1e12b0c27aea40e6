"""A run that was interrupted ends with the bits of one that was not."""

import errno
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.errors import InputError
from regnet_jax.training import checkpoint, heldout, loop, parallel
from regnet_jax.training.config import override
from regnet_jax.training.logs import METRICS, describe
from regnet_jax.training.state import TrainState, init_state
from tests.helpers.tiny import noise_evaluation, optimizer_of, train


def _state(config, model, seed=0):
    return init_state(jax.random.key(seed), model, optimizer_of(config), config)


def _saved(folder, step, template) -> TrainState:
    with checkpoint.open_checkpoints(folder) as manager:
        assert step in manager.all_steps()
        content = {k: v for k, v in template._asdict().items() if k != "average"}
        args = checkpoint.ocp.args.StandardRestore(content)
        return TrainState(**manager.restore(step, args=args))


def _equal(got, want):
    jax.tree.map(np.testing.assert_array_equal, got, want)


def _records(folder):
    lines = (folder / METRICS).read_text("utf-8").splitlines()
    return [json.loads(line, parse_constant=pytest.fail) for line in lines]


@pytest.mark.usefixtures("compiled_once")
def test_resumed_is_uninterrupted_bit_for_bit(tiny, tiny_model, tmp_path):
    template = _state(tiny, tiny_model())
    straight, halted = tmp_path / "straight", tmp_path / "halted"
    want = train(tiny, straight)
    train(tiny, halted, until=2)
    assert checkpoint.restore_variables(halted).keys() == {"params", "batch_stats"}
    with checkpoint.open_checkpoints(halted) as manager:
        assert manager.latest_step() == 2
    got = train(tiny, halted)
    # What is saved while training goes on is the state of that step, not a later one.
    for step in (2, 4):
        a, b = (_saved(folder, step, template) for folder in (straight, halted))
        assert int(a.step) == step
        _equal(b, a)
    _equal(got, want)
    _equal(checkpoint.restore_variables(halted), dict(a.variables))
    moved = jax.tree.map(
        lambda x, y: np.abs(x - y).max(),
        a.variables["params"],
        _saved(straight, 2, template).variables["params"],
    )
    assert min(jax.tree.leaves(moved)) > 0

    # The log has each step once, and the same numbers but for the time they took.
    logs = [_records(folder) for folder in (straight, halted)]
    for log in logs:
        steps = [r["step"] for r in log if "evaluation" not in r]
        assert steps == [1, 2, 3, 4]
        evaluations = [r for r in log if "evaluation" in r]
        assert [r["step"] for r in evaluations] == [2, 4]
        assert evaluations[-1]["evaluation"] == want
        for record in log:
            for name in (
                *("seconds", "pairs_per_second", "generating", "waiting"),
                "elapsed",
            ):
                record.pop(name, None)
    assert logs[0] == logs[1]
    assert set(logs[0][0]) == {"step", "loss", "error_mm", "zero_mm", "ratio"}
    assert checkpoint.read_config(straight) == tiny

    # A finished run is evaluated again and otherwise left alone.
    log = (straight / METRICS).read_text("utf-8")
    assert train(tiny, straight) == want
    assert (straight / METRICS).read_text("utf-8") == log


@pytest.mark.usefixtures("compiled_once")
def test_a_run_in_3d_starts_from_one_in_2d(changed, tiny, tmp_path):
    flat, straight, halted = (tmp_path / name for name in ("2d", "straight", "halted"))
    train(override(tiny, ["steps=2"]), flat)
    config = changed(
        "data.shape=24,26,28", "steps=2", f"init_from={flat}", "inflate=true"
    )
    want = train(config, straight)
    # Halted on its way, the run ends as the one that was not.
    train(config, halted, until=1)
    _equal(train(config, halted), want)
    _equal(*(checkpoint.restore_variables(folder) for folder in (halted, straight)))


def test_start_from_inflates_the_kernels_of_a_2d_run(
    changed, tiny, tiny_model, tmp_path
):
    train(tiny, tmp_path, until=2)
    plane = checkpoint.restore_variables(tmp_path)["params"]["Conv_0"]["kernel"]
    config = changed("data.shape=24,26,28", f"init_from={tmp_path}", "inflate=true")
    state = loop.start_from(config, _state(config, tiny_model(dimensions=3)))
    kernel = state.variables["params"]["Conv_0"]["kernel"]
    assert kernel.shape == (3, 3, 3, 2, 4)
    np.testing.assert_array_equal(kernel[1], plane)
    assert np.abs(kernel[0]).max() > 0


def test_a_run_starts_from_the_weights_of_another(changed, tiny, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    train(tiny, first, until=2)
    # Nothing is learned at this rate: the weights stay what they were given.
    further = changed(f"init_from={first}", "optimizer.learning_rate=1e-12", "steps=2")
    train(further, second)
    weights = [checkpoint.restore_variables(f)["params"] for f in (first, second)]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), weights[1], weights[0]
    )


def test_weights_of_another_network_are_refused(changed, tmp_path):
    with pytest.raises(InputError, match="init_from=lung: holds other layers"):
        train(changed("init_from=lung"), tmp_path / "run")


def test_a_restored_state_is_the_saved_one(tiny, tiny_model, tmp_path):
    state, other = (_state(tiny, tiny_model(), seed) for seed in (0, 1))
    state = state._replace(step=state.step + 7)
    with checkpoint.open_checkpoints(tmp_path) as manager:
        assert checkpoint.restore_latest(manager, other) is other
        checkpoint.save(manager, state)
        manager.wait_until_finished()
        checkpoint.save(manager, other._replace(step=state.step))  # is there already
    with checkpoint.open_checkpoints(tmp_path) as manager:
        restored = checkpoint.restore_latest(manager, other)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    _equal(restored, state)
    _equal(checkpoint.restore_variables(tmp_path), dict(state.variables))


_READ = """
import sys, pathlib, jax
from regnet_jax.training import checkpoint
assert jax.local_device_count() == 1
print(checkpoint.restore_variables(pathlib.Path(sys.argv[1]))["w"].tolist())
"""


def test_a_run_on_four_devices_is_read_on_one(tmp_path):
    state = TrainState(jnp.int32(1), {"w": jnp.arange(3.0)}, {"m": jnp.ones(2)})
    with checkpoint.open_checkpoints(tmp_path) as manager:
        checkpoint.save(manager, parallel.replicate(state))
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[0.0, 1.0, 2.0]"


def test_only_the_newest_checkpoints_stay(tmp_path):
    with checkpoint.open_checkpoints(tmp_path, keep=2) as manager:
        for step in range(4):
            checkpoint.save(manager, TrainState(np.int32(step), {"w": step}, {}))
        manager.wait_until_finished()
        assert list(manager.all_steps()) == [2, 3]


def test_variables_of_no_run(tmp_path):
    with pytest.raises(InputError, match="no checkpoints here; name the --workdir"):
        checkpoint.restore_variables(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match="no finished checkpoint"):
        checkpoint.restore_variables(tmp_path)
    with pytest.raises(InputError, match=r"no config\.json here"):
        checkpoint.read_config(tmp_path)


def test_a_folder_keeps_its_config(tiny, changed, tmp_path):
    folder = tmp_path / "new" / "run"
    checkpoint.write_config(folder, tiny)
    checkpoint.write_config(folder, tiny)
    kept = {"config.json", "inference.json"}
    assert {path.name for path in folder.iterdir()} == kept
    with pytest.raises(InputError, match="take another --workdir") as caught:
        train(changed("optimizer.learning_rate=0.5", "seed=3"), folder)
    said = str(caught.value)
    assert str(folder) in said
    assert "optimizer.learning_rate: 0.02 -> 0.5" in said
    assert "seed: 0 -> 3" in said
    assert "\n" not in said
    assert checkpoint.read_config(folder) == tiny
    assert {path.name for path in folder.iterdir()} == kept


def test_a_difference_in_length_names_its_key_alone(tiny, changed, tmp_path):
    checkpoint.write_config(tmp_path, tiny)
    longer = changed("data.families=low,medium,high")
    with pytest.raises(InputError, match=r"data\.families") as caught:
        checkpoint.check_config(tmp_path, longer)
    assert "noise" not in str(caught.value)


def test_an_interrupted_write_leaves_no_config(tiny, tmp_path, monkeypatch):
    def write_half(path, text, encoding):
        with path.open("w", encoding=encoding) as file:
            file.write(text[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Path, "write_text", write_half)
        with pytest.raises(InputError, match="free some space"):
            checkpoint.write_config(tmp_path, tiny)
    assert not list(tmp_path.iterdir())
    checkpoint.write_config(tmp_path, tiny)
    assert checkpoint.read_config(tmp_path) == tiny


def test_a_damaged_config_is_named(tiny, tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="not the config of an experiment"):
        checkpoint.check_config(tmp_path, tiny)


def test_a_start_that_is_refused_leaves_the_folder_to_another_config(
    tiny, changed, tmp_path
):
    with pytest.raises(InputError, match="gone"):
        train(changed("init_from=gone"), tmp_path)
    assert not (tmp_path / "config.json").exists()
    checkpoint.check_config(tmp_path, tiny)


def test_a_run_of_no_time_is_refused(tiny, tmp_path):
    with pytest.raises(InputError, match="minutes=0: give a positive number"):
        train(tiny, tmp_path / "run", minutes=0.0)
    assert not (tmp_path / "run").exists()


def test_heldout_pairs_are_fixed(tiny, tiny_model):
    model = tiny_model()
    variables = _state(tiny, model).variables
    evaluate = noise_evaluation(model, tiny)
    first = evaluate(variables)
    assert evaluate(variables) == first
    assert list(first) == list(tiny.data.families)
    for result in first.values():
        assert result["n"] == tiny.evaluation.pairs
        assert result["zero_mm"] > 0.5
        assert result["ratio"] == pytest.approx(result["error_mm"] / result["zero_mm"])
        assert f"{result['error_mm']:.2f}" in describe(result)
    # A network that predicts nothing is as good as the zero field.
    silent = jax.tree.map(lambda a: 0 * a, variables)
    for name, result in evaluate(silent).items():
        assert result["ratio"] == pytest.approx(1)
        assert result["zero_mm"] == first[name]["zero_mm"]
        assert result["error_sd_mm"] == pytest.approx(result["zero_sd_mm"])


def test_heldout_pairs_of_several_scales_are_named_after_them(changed, tiny_model):
    config = changed("evaluation.pairs=1", "data.scales=1,2.5")
    model = tiny_model()
    results = noise_evaluation(model, config)(_state(config, model).variables)
    names = ["medium 4 mm", "high 4 mm", "medium 10 mm", "high 10 mm"]
    assert list(results) == names
    # The same pairs in voxels, so errors are larger as the voxels are.
    for family in config.data.families:
        fine, coarse = (results[f"{family} {size} mm"] for size in (4, 10))
        assert coarse["zero_mm"] == pytest.approx(2.5 * fine["zero_mm"], rel=1e-5)
        assert coarse["ratio"] == pytest.approx(fine["ratio"], rel=1e-5)
    assert results["high 4 mm"]["zero_mm"] != results["medium 4 mm"]["zero_mm"]


def test_the_heldout_stream_is_not_that_of_training(tiny):
    training = jax.random.split(jax.random.key(tiny.seed))
    data = jax.random.key_data(heldout.heldout_stream(tiny.seed))
    assert (np.asarray(jax.random.key_data(training)) != np.asarray(data)).any(-1).all()
