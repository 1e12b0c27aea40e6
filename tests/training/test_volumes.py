"""Scans that change while training goes on: which, when, from where."""

import shutil
import threading

import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.hounsfield import AIR
from regnet_jax.io import ListedScan, checksum, write_scans
from regnet_jax.training import checkpoint, data
from regnet_jax.training.config import override
from regnet_jax.training.data import ScanPrefetcher, choose_scans


def test_choose_scans_uses_every_scan_once_an_epoch():
    turns = [choose_scans(3, 5, 2, turn) for turn in range(10)]
    flat = np.ravel(turns)
    for epoch in flat.reshape(-1, 5):
        assert sorted(epoch) == [0, 1, 2, 3, 4]
    assert turns == [choose_scans(3, 5, 2, turn) for turn in range(10)]
    assert turns != [choose_scans(4, 5, 2, turn) for turn in range(10)]
    assert len({tuple(epoch) for epoch in flat.reshape(-1, 5)}) > 1


@pytest.fixture
def experiment(tiny, tmp_path):
    """Five slices of one value under air, two of them on the device at a time."""
    for value in range(5):
        array = np.full((24, 20 + value), 10 * value, np.int16)
        array[-2:] = AIR
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((4.0, 4.0))
        sitk.WriteImage(image, str(tmp_path / f"{value}.mha"))
    (tmp_path / "scans.txt").write_text("".join(f"{v}.mha\n" for v in range(5)))
    changes = [
        "data.shape=24,24",
        "data.scan_probability=1",
        f"scans.file={tmp_path / 'scans.txt'}",
        "scans.resident=2",
        "scans.rotate_every=3",
    ]
    return override(tiny, changes)


def values(given):
    (stage,) = given
    assert stage.images.shape == (2, 24, 24, 1)
    return [int(image[0, 0, 0]) // 10 for image in np.asarray(stage.images)]


def test_scans_change_at_their_steps_and_are_placed_ahead(experiment):
    placed = []

    def place(tree):
        placed.append(threading.current_thread().name)
        return tree

    with ScanPrefetcher(experiment, place) as given:
        for step in range(12):
            assert values(given.scans_at(step)) == choose_scans(
                experiment.seed, 5, 2, step // 3
            )
            assert given.next_change(step) == 3 * (step // 3 + 1)
    assert all(name.startswith("maker") for name in placed)
    # What is ahead of use is bounded.
    assert len(placed) <= 4 + data._AHEAD
    # A run that goes on later meets the same data.
    with ScanPrefetcher(experiment) as given:
        assert values(given.scans_at(7)) == choose_scans(experiment.seed, 5, 2, 2)


def test_all_scans_stay_where_there_is_room(experiment):
    with ScanPrefetcher(override(experiment, ["scans.resident=0"])) as given:
        (stage,) = given.scans_at(0)
        assert given.next_change(0) is None
        assert given.scans_at(1000) is given.scans_at(0)
    assert stage.images.shape == (5, 24, 24, 1)
    np.testing.assert_array_equal(stage.sizes[:, 1], [20, 21, 22, 23, 24])


def test_resampled_scans_are_kept_by_content(experiment, tmp_path, monkeypatch):
    cache, path = tmp_path / "cache", tmp_path / "1.mha"
    first = data.read_anatomy(path, (4.0, 8.0), cache)
    assert len(list(cache.iterdir())) == 2
    shutil.copy(path, tmp_path / "copy.mha")

    def refuse(path):
        raise AssertionError(f"{path} was read again")

    with monkeypatch.context() as patch:
        patch.setattr(data, "read_ct", refuse)
        for again in (path, tmp_path / "copy.mha"):
            for a, b in zip(
                first, data.read_anatomy(again, (4.0, 8.0), cache), strict=True
            ):
                np.testing.assert_array_equal(a, b)
        with pytest.raises(AssertionError, match="read again"):
            data.read_anatomy(path, (5.0,), cache)
    # What is damaged there is made anew, and other content is other content.
    for stored in cache.iterdir():
        stored.write_bytes(stored.read_bytes()[:50])
    np.testing.assert_array_equal(data.read_anatomy(path, (4.0,), cache)[0], first[0])
    shutil.copy(tmp_path / "2.mha", path)
    assert data.read_anatomy(path, (4.0,), cache)[0][0, 0] == 20


def test_a_damaged_scan_fails_the_run_or_is_left_out(experiment, tmp_path, caplog):
    path = tmp_path / "3.mha"
    path.write_bytes(path.read_bytes()[:-400])
    turn = next(t for t in range(3) if 3 in choose_scans(experiment.seed, 5, 2, t))
    with ScanPrefetcher(experiment) as given:
        said = r"3\.mha.*skip_unreadable=true"
        with pytest.raises(InputError, match=said):
            given.scans_at(3 * turn)
    with ScanPrefetcher(override(experiment, ["scans.skip_unreadable=true"])) as given:
        seen = [values(given.scans_at(step)) for step in range(0, 12, 3)]
    assert 3 not in np.ravel(seen)
    for turn, numbers in enumerate(seen):
        wanted = choose_scans(experiment.seed, 5, 2, turn)
        assert set(numbers) == set(wanted) - {3}


def test_a_bad_header_is_seen_at_once(experiment, tmp_path):
    (tmp_path / "0.mha").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"0\.mha"):
        ScanPrefetcher(experiment)
    skipping = override(experiment, ["scans.skip_unreadable=true", "scans.resident=0"])
    with ScanPrefetcher(skipping) as given:
        assert given.scans_at(0)[0].images.shape[0] == 4
    for value in range(5):
        (tmp_path / f"{value}.mha").write_bytes(b"nothing")
    with pytest.raises(InputError, match="none of its images"):
        ScanPrefetcher(skipping)


def test_of_a_manifest_the_scans_for_training_are_taken(experiment, tmp_path):
    scans = [
        ListedScan(path, checksum(path), path.name, role)
        for path, role in zip(
            sorted(tmp_path.glob("*.mha")),
            ("training", "test", "training", "validation", "test"),
            strict=True,
        )
    ]
    write_scans(tmp_path / "scans.csv", scans)
    frozen = override(experiment, [f"scans.file={tmp_path / 'scans.csv'}"])
    listed = data.list_scans(frozen)
    assert [scan.path.name for scan in listed] == ["0.mha", "2.mha"]
    shutil.copy(tmp_path / "1.mha", tmp_path / "2.mha")
    with pytest.raises(InputError, match=r"2\.mha: is not the file that was frozen"):
        data.list_scans(frozen)


def test_a_run_goes_on_with_the_scans_that_it_began_with(experiment, tmp_path):
    listed = tmp_path / "scans.txt"
    lines = listed.read_text().splitlines()
    run = tmp_path / "run"
    run.mkdir()
    for text in ("\n".join(lines), "# the same\n" + "\n".join(lines) + "\n"):
        listed.write_text(text)
        with ScanPrefetcher(experiment) as given:
            checkpoint.check_scans(run, given.describe())
    for other, name in ((lines[:-1], lines[-1]), (lines[::-1], lines[0])):
        listed.write_text("\n".join(other))
        with (
            ScanPrefetcher(experiment) as given,
            pytest.raises(InputError, match="holds a run on other scans") as caught,
        ):
            checkpoint.check_scans(run, given.describe())
        assert f", {name} 24x" in str(caught.value)
