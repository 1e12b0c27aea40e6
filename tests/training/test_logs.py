"""The log of a run: lines, pages for TensorBoard, and a bar."""

import json

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from regnet_jax.synthesis.patches import PatchBatch
from regnet_jax.training.logs import METRICS, Journal, draw_panel, trim
from tests.helpers.tiny import TARGETS

RECORD = {"loss": 0.5, "error_mm": 2.0, "zero_mm": 4.0, "ratio": 0.5}
RESULT = {"n": 2, "error_mm": 2.0, "error_sd_mm": 1.0, "zero_mm": 4.0}
RESULT |= {"zero_sd_mm": 0.5, "ratio": 0.5}


def events(folder):
    """``{tag: [steps]}`` of all that TensorBoard would show."""
    found = {}
    for path in sorted((folder / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(event.step)
            data = data[16 + size :]
    return found


@pytest.fixture
def journal(tmp_path):
    def build(first, end=9, **options):
        return Journal(tmp_path, "tiny", first, end, batch_size=4, **options)

    return build


def test_a_journal_writes_lines_pages_and_a_bar(journal, tmp_path, capsys):
    picture = np.zeros((6, 8, 3), np.uint8)
    with journal(0) as written:
        written.log_generation(0.1)
        written.log_step(1, RECORD, 0.5)
        written.log_generation(0.3)
        written.log_step(2, RECORD, 0.5, waited=0.1)
        written.log_evaluation(2, {"low": RESULT}, {"low": picture})
        written.log_real_pairs(2, {"chest": {"tre": 1.5}})
    lines = [
        json.loads(x) for x in (tmp_path / METRICS).read_text("utf-8").splitlines()
    ]
    speed = {"seconds": 0.5, "pairs_per_second": 8.0}
    elapsed = [line.pop("elapsed") for line in lines[:2]]
    assert 0 <= elapsed[0] <= elapsed[1] < 60
    assert lines[0] == {"step": 1, **RECORD, **speed, "generating": 0.2, "waiting": 0.0}
    assert lines[1]["generating"] == pytest.approx(0.4)
    assert lines[1]["waiting"] == pytest.approx(0.2)
    assert lines[2] == {"step": 2, "evaluation": {"low": RESULT}}
    assert lines[3] == {"step": 2, "real_pairs": {"chest": {"tre": 1.5}}}
    found = events(tmp_path)
    assert found["training/loss"] == [1, 2]
    assert found["training/pairs_per_second"] == [1, 2]
    assert found["ratio/low"] == found["pairs/low"] == found["real_tre/chest"] == [2]
    shown = capsys.readouterr()
    for text in ("tiny", "loss=0.500", "0.50 of zero's", "pairs/s=8", "generating=40%"):
        assert text in shown.err
    assert "<" in shown.err.split("\r")[-1], "the time left"
    assert "chest" in shown.out


def test_bar_of_a_limited_time_shows_the_limit_and_no_last_step(journal, capsys):
    with journal(0, end=123456, minutes=12.0) as written:
        written.log_step(1, RECORD, 0.5)
    shown = capsys.readouterr().err
    assert "tiny, 12 min" in shown
    assert "123456" not in shown


def test_lines_after_the_last_checkpoint_are_removed_on_resume(journal, tmp_path):
    with journal(0) as written:
        for step in range(1, 6):
            written.log_step(step, RECORD, 0.5)
    log = tmp_path / METRICS
    with log.open("a") as file:
        file.write('{"step": 3, "lo')
    with journal(3) as written:
        written.log_step(4, RECORD, 0.5)
    assert [json.loads(x)["step"] for x in log.read_text("utf-8").splitlines()] == [
        1,
        2,
        3,
        4,
    ]
    trim(tmp_path / "missing", 3)
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("shape", [(21, 21), (21, 21, 21)])
def test_a_panel_shows_images_fields_and_error(shape):
    d = len(shape)
    targets = (3,) * d
    truth = np.full((*targets, d), 8.0 / np.sqrt(d))
    fixed, moving = (np.full((*shape, 1), hu) for hu in (400.0, -1000.0))
    patch = PatchBatch(fixed, moving, truth, np.ones((*targets, 1)))
    row = draw_panel(patch, 0.0 * truth, TARGETS)
    assert row.dtype == np.uint8
    # From the first target to beyond the last: 5 voxels, and gaps of 2.
    assert row.shape == (5, 5 * 5 + 4 * 2, 3)
    tiles = [row[:, start : start + 5] for start in range(0, 35, 7)]
    levels = [float(tile.mean()) for tile in tiles]
    assert levels[0] == 255
    assert levels[1] == 0
    # The prediction is zero, so the error is the truth, at its brightest.
    np.testing.assert_array_equal(tiles[2], tiles[4])
    assert levels[2] > 180
    assert levels[3] < 5
