"""Checkpoints that are damaged, best or in the way."""

import gc
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.errors import InputError
from regnet_jax.training import checkpoint, parallel
from regnet_jax.training.state import TrainState

# Orbax reads in coroutines, and those that fail complain when they are forgotten.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:coroutine.*:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:unclosed.*:ResourceWarning"),
]


@pytest.fixture(autouse=True)
def _collected():
    """What orbax forgets is collected here, where its complaints are expected."""
    yield
    gc.collect()


def state(step, average=False):
    """Distinct values at each step, too many to be stored among the metadata."""
    weights = {"w": jax.random.normal(jax.random.key(step), (3000,))}
    kept = jax.tree.map(lambda w: w + 1.0, weights) if average else ()
    return TrainState(jnp.int32(step), {"params": weights}, {"m": jnp.ones(2)}, kept)


@pytest.fixture
def run(tmp_path):
    """Three checkpoints."""
    with checkpoint.open_checkpoints(tmp_path) as manager:
        for step in (1, 2, 3):
            checkpoint.save(manager, state(step))
    return tmp_path


def restored(folder):
    with checkpoint.open_checkpoints(folder) as manager:
        return checkpoint.restore_latest(manager, state(0))


def damage(folder, step, how):
    """Harms the file with the values."""
    files = [p for p in (folder / "checkpoints" / str(step)).rglob("*") if p.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    if how == "gone":
        largest.unlink()
        return
    if how == "half":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 1
    largest.write_bytes(content)


@pytest.mark.parametrize("how", ["flip", "half", "gone"])
def test_a_damaged_checkpoint_is_passed_over(run, how, caplog):
    """Also where a single bit of the weights has changed, which no reader notices."""
    damage(run, 3, how)
    got = restored(run)
    jax.tree.map(np.testing.assert_array_equal, got, state(2))
    assert "checkpoint 3 cannot be read" in caplog.text
    assert sorted(os.listdir(run / "damaged")) == ["3"]
    # The run can write the step again.
    with checkpoint.open_checkpoints(run) as manager:
        checkpoint.save(manager, state(3))
    jax.tree.map(np.testing.assert_array_equal, restored(run), state(3))


def test_nothing_is_moved_if_none_can_be_read(run):
    for step in (1, 2, 3):
        damage(run, step, "half")
    with pytest.raises(InputError, match=r"none of its checkpoints.*remove the folder"):
        restored(run)
    assert sorted(os.listdir(run / "checkpoints")) == ["1", "2", "3"]


def test_the_best_checkpoint_stays(tmp_path):
    with checkpoint.open_checkpoints(tmp_path, keep=2) as manager:
        for step, ratio in enumerate((0.9, 0.4, 0.5, None, 0.6, None)):
            metrics = None if ratio is None else {checkpoint.RATIO: ratio}
            checkpoint.save(manager, state(step), metrics)
    # Also when the run goes on.
    with checkpoint.open_checkpoints(tmp_path, keep=2) as manager:
        checkpoint.save(manager, state(6))
        manager.wait_until_finished()
        assert list(manager.all_steps()) == [1, 5, 6]
    for best, step in ((True, 1), (False, 6)):
        got = checkpoint.restore_variables(tmp_path, best=best)["params"]["w"]
        np.testing.assert_array_equal(got, state(step).variables["params"]["w"])
    damage(tmp_path, 6, "half")
    with pytest.raises(InputError, match="checkpoint 6 cannot be read; train further"):
        checkpoint.restore_variables(tmp_path)


@pytest.mark.parametrize("average", [False, True])
def test_damaged_weights_are_not_used(tmp_path, average):
    """Of which no reader notices that a single bit has changed."""
    with checkpoint.open_checkpoints(tmp_path) as manager:
        checkpoint.save(manager, state(4, average=average))
    checkpoint.restore_variables(tmp_path)
    damage(tmp_path, 4, "flip")
    with pytest.raises(InputError, match="weights of checkpoint 4 are not those that"):
        checkpoint.restore_variables(tmp_path)


def test_the_average_is_what_is_used(tmp_path):
    with checkpoint.open_checkpoints(tmp_path) as manager:
        checkpoint.save(manager, parallel.replicate(state(1, average=True)))
    got = checkpoint.restore_variables(tmp_path)["params"]["w"]
    np.testing.assert_array_equal(got, state(1).variables["params"]["w"] + 1.0)
    with checkpoint.open_checkpoints(tmp_path) as manager:
        whole = checkpoint.restore_latest(manager, state(0, average=True))
    jax.tree.map(np.testing.assert_array_equal, whole, state(1, average=True))
