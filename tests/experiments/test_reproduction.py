"""The parts of ``experiments.reproduce``: patients, recipe, errors, tables."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import SimpleITK as sitk

from experiments.reproduction import errors, page, pairs, recipe, requests, scans
from regnet_jax.errors import InputError
from regnet_jax.io import read_pairs
from regnet_jax.models import MODELS
from regnet_jax.models.support import Support
from regnet_jax.registration import Network
from regnet_jax.synthesis.volumes.scans import ScanBank
from regnet_jax.training.checks import check
from tests.helpers import networks


def write_ct(path, shape=(12, 40, 44), seed=0):
    """Air around a body of water with some texture."""
    values = np.full(shape, -1000.0)
    inside = tuple(slice(n // 6, n - n // 6) for n in shape)
    texture = 40.0 * np.random.default_rng(seed).normal(size=values[inside].shape)
    values[inside] = texture
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(values.astype(np.int16))
    image.SetSpacing((3.0,) * len(shape))
    sitk.WriteImage(image, str(path))
    return path


def find(folder, **options):
    options = {"dimensions": 3, "seed": 0, "cache": None} | options
    return scans.find_patients(folder, 4.0, **options)


def test_patients_are_held_out_with_all_their_scans(tmp_path):
    for seed, patient in enumerate("abc"):
        for phase in ("inhale", "exhale"):
            write_ct(tmp_path / patient / phase / "ct.nii.gz", seed=seed)
    write_ct(tmp_path / "d.mha", seed=3)
    found = find(tmp_path)
    assert len(found.training) + len(found.held_out) == 7
    names = [
        {path.relative_to(tmp_path).parts[0] for path in paths}
        for paths in (found.training, found.held_out)
    ]
    assert not names[0] & names[1]
    assert len(names[1]) == 1
    assert found == find(tmp_path), "the choice depends on the seed alone"
    assert len({find(tmp_path, seed=s).held_out for s in range(6)}) > 1


def test_files_that_cannot_be_used_are_left_out_with_a_reason(tmp_path, caplog):
    good = write_ct(tmp_path / "good.nii.gz")
    (tmp_path / "broken.mha").write_text("no image")
    mask = sitk.GetImageFromArray(np.ones((5, 6, 7), np.uint8))
    sitk.WriteImage(mask, str(tmp_path / "mask.nii.gz"))
    (tmp_path / "notes.txt").write_text("nothing to read")
    found = find(tmp_path)
    assert found.training == (good,)
    assert found.held_out == ()
    reasons = {path.name: reason for path, reason in found.left_out}
    assert set(reasons) == {"broken.mha", "mask.nii.gz"}
    assert "Hounsfield" in reasons["mask.nii.gz"]
    assert "broken.mha" in caplog.text


def test_2d_networks_take_scans_of_one_dimension(tmp_path):
    write_ct(tmp_path / "plane.mha", (40, 44))
    write_ct(tmp_path / "volume.mha")
    found = find(tmp_path, dimensions=2)
    assert [path.name for path in found.training] == ["volume.mha"]
    assert found.left_out == ((tmp_path / "plane.mha", "is 2D among 3D scans"),)
    (tmp_path / "volume.mha").unlink()
    with pytest.raises(InputError, match="holds no CT that can be read"):
        find(tmp_path, dimensions=3)
    with pytest.raises(InputError, match="is no folder"):
        find(tmp_path / "nowhere")


def test_a_scan_of_two_patients_is_refused(tmp_path):
    """A copy in the folder of the same patient is as good as another scan of it."""
    for name in ("a/1.mha", "a/copy.mha", "b/1.mha"):
        write_ct(tmp_path / name, seed=int(name == "b/1.mha"))
    assert len(find(tmp_path).training) in (1, 2)
    write_ct(tmp_path / "c.mha", seed=1)
    with pytest.raises(InputError, match=r"c\.mha: is the same scan as .*1\.mha"):
        find(tmp_path)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("axis", ["axial", "coronal"])
def test_recipe_can_be_trained(tmp_path, dimensions, axis):
    listed = write_ct(tmp_path / "ct.mha")
    for paths in ((), (listed,)):
        config = recipe.recipe(
            dimensions,
            axis,
            scans.Patients(training=paths),
            flat=False,
            out=tmp_path,
            seed=1,
        )
        check(config, devices=1)
        assert config.model == "regnet"
        assert config.dimensions == dimensions
        assert config.data.slice_axis == (axis if dimensions == 2 else "")
        assert (config.data.scan_probability > 0) == bool(paths)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_both_networks_take_as_many_steps(tmp_path, monkeypatch, dimensions):
    """The second call finds all done and trains nothing."""
    asked, clock = [], [0.0]

    def train(config, folder, **limits):
        check(config, devices=1)
        asked.append((folder.name, config.model, limits))
        folder.mkdir(parents=True, exist_ok=True)
        steps = limits["until"] or 5 + len(asked)
        lines = '{"step": 1, "seconds": 10.0}\n' * steps
        (folder / "metrics.jsonl").write_text(lines)
        clock[0] += 60.0 * limits["minutes"]
        return {"low": {}} if limits["until"] else {}

    monkeypatch.setattr(recipe, "train", train)
    monkeypatch.setattr(recipe.time, "monotonic", lambda: clock[0])
    config = recipe.recipe(
        dimensions, "axial", scans.Patients(), flat=False, out=tmp_path, seed=1
    )
    found = recipe.train_both(config, tmp_path, minutes=10.0, cache=None)
    planes = ["_axial", "_coronal"] if dimensions == 3 else []
    parts = [*planes, ""]
    names = [f"{name}{part}" for name in found for part in parts]
    assert [name for name, _, _ in asked] == names
    models = [model for _, model, _ in asked]
    halves = ["_half"] * len(planes)
    assert models == [
        f"regnet{kind}{h}" for kind in ("", "_single") for h in (*halves, "")
    ]
    steps = [6 + index for index in range(len(parts))]
    assert [limits["until"] for *_, limits in asked[len(parts) :]] == steps
    assert [run.steps for run in found.values()] == [steps[-1]] * 2
    assert found["multi_scale"].seconds == 10.0 * sum(steps)
    again = recipe.train_both(config, tmp_path, minutes=10.0, cache=None)
    assert again == found
    assert all(limits["until"] for *_, limits in asked[2 * len(parts) :])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_second_network_takes_no_more_time_on_a_slower_machine(
    tmp_path, monkeypatch, dimensions
):
    """Its steps take five times as long as those of the first."""
    clock = [0.0]

    def train(config, folder, *, minutes, until, cache):
        step = 50.0 if "single" in folder.name else 10.0
        steps = int(min(60.0 * minutes / step, until or np.inf))
        folder.mkdir(parents=True)
        line = f'{{"step": 1, "seconds": {step}}}\n'
        (folder / "metrics.jsonl").write_text(line * steps)
        clock[0] += step * steps
        if steps == until:
            return {"low": {}}
        clock[0] += 60.0 * minutes - step * steps + 1.0
        return {}

    monkeypatch.setattr(recipe, "train", train)
    monkeypatch.setattr(recipe.time, "monotonic", lambda: clock[0])
    config = recipe.recipe(
        dimensions, "axial", scans.Patients(), flat=False, out=tmp_path, seed=1
    )
    found = recipe.train_both(config, tmp_path, minutes=60.0, cache=None)
    assert clock[0] <= 1.12 * 60.0 * 60.0
    assert 0 < found["single_scale"].steps < found["multi_scale"].steps


@pytest.mark.parametrize("dimensions", [2, 3])
def test_both_networks_have_as_many_targets_in_a_step(
    tmp_path, monkeypatch, dimensions
):
    targets = []

    def train(config, folder, **limits):
        support = MODELS[config.model].support
        room = config.data.patch_size - 2 * support.margin - 1
        outputs = (room // support.stride + 1) ** config.dimensions
        targets.append(outputs * config.data.patches_per_pair * config.batch_size)
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text('{"step": 1, "seconds": 10.0}\n')
        return {"low": {}}

    monkeypatch.setattr(recipe, "train", train)
    config = recipe.recipe(
        dimensions, "axial", scans.Patients(), flat=False, out=tmp_path, seed=1
    )
    recipe.train_both(config, tmp_path, minutes=60.0, cache=None)
    half = len(targets) // 2
    assert half == (3 if dimensions == 3 else 1)
    assert targets[:half] == targets[half:]


def test_sigterm_ends_the_recipe(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "train", lambda *_, **__: {})
    config = recipe.recipe(
        2, "axial", scans.Patients(), flat=False, out=tmp_path, seed=1
    )
    assert recipe.train_both(config, tmp_path, minutes=10.0, cache=None) is None


def measured(family, truth, **predictions):
    return errors.Measured(family, np.asarray(truth), predictions)


def test_tables_hold_the_errors_counted_by_hand():
    truth = np.array([[0.0, 3.0, 4.0], [1.0, 0.0, 0.0]])
    other = np.array([[0.0, 0.0, 10.0]])
    found = [
        measured("low", truth, net=0.5 * truth),
        measured("high", other, net=other + np.array([0.0, 0.0, 2.0])),
        measured("high", np.zeros((0, 3)), net=np.zeros((0, 3))),
    ]
    assert errors.ratio(found, "net") == pytest.approx((1.5 + 2.0) / (3.0 + 10.0))
    by_family, by_size, by_component = errors.tables(found)
    assert by_family[1] == ["", "pairs", "displacement, mm", "net, mm", "ratio"]
    assert by_family[2][0] == ["low", 1, "3.00", "1.50", "0.50"]
    assert by_family[2][1][:2] == ["high", 1]
    assert by_family[2][2][-1] == "0.27"
    assert by_size[2] == [
        ["0 to 1.5 mm", 1, "1.00", "0.50"],
        ["4 to 8 mm", 1, "5.00", "2.50"],
        ["8 mm and more", 1, "10.00", "2.00"],
    ]
    # Means of sizes: z 1/3, y 1, x 14/3; of errors: z 1/6, y 1/2, x 4/3.
    assert [row[0] for row in by_component[2]] == ["z", "y", "x"]
    assert [row[2] for row in by_component[2]] == ["0.50", "0.50", "0.29"]


@pytest.mark.parametrize("axis", ["", "coronal"])
def test_gallery_shows_the_fields_on_scans_read_from_files(axis):
    config = networks.config(2, 2.0)
    shape, size = ((64, 64), 70) if not axis else ((64, 56, 64), 66)
    data = dataclasses.replace(
        config.data, shape=shape, slice_axis=axis, scan_probability=1.0
    )
    config = dataclasses.replace(config, data=data)
    noise = np.random.default_rng(0).normal(scale=200.0, size=(1, *[size] * len(shape)))
    bank = ScanBank(noise[..., None], np.full((1, len(shape)), size))
    figure = page.field_gallery(config, bank)
    assert len(figure.axes) > 2 * len(config.data.families)


class Constant:
    """A model that predicts one vector at every target of its margin."""

    def __init__(self, margin, vector):
        self.support = Support(reach=margin, period=1, margin=margin)
        self.vector = vector

    def apply(self, variables, fixed, moving, *, train):
        inner = fixed.shape[1] - 2 * self.support.margin
        shape = (fixed.shape[0], inner, inner, 2)
        return jax.numpy.broadcast_to(
            variables["gain"] * jax.numpy.asarray(self.vector), shape
        )


def test_networks_of_different_margins_are_measured_at_the_same_targets(tmp_path):
    config = networks.config(2, 2.0)
    data = dataclasses.replace(
        config.data, families=("translation", "zero"), shape=(64, 64), unseen_weight=1.0
    )
    config = dataclasses.replace(
        config, data=dataclasses.replace(data, scan_probability=1.0)
    )
    margin = config.targets.margin
    made = {
        "zero": Network(None, Constant(margin, (0.0, 0.0)), {"gain": 1.0}),
        "one": Network(None, Constant(margin - 12, (1.0, 0.0)), {"gain": 1.0}),
    }
    noise = np.random.default_rng(0).normal(scale=200.0, size=(1, 70, 70, 1))
    bank = ScanBank(jax.numpy.asarray(noise), jax.numpy.asarray([[70, 70]]))
    found = errors.measure(made, config, bank, count=2)
    assert [pair.family for pair in found] == ["translation"] * 2 + ["zero"] * 2
    for pair in found:
        assert len(pair.truth)
        np.testing.assert_array_equal(pair.predictions["zero"], 0.0)
        np.testing.assert_allclose(
            pair.predictions["one"], [[2.0, 0.0]] * len(pair.truth)
        )
        np.testing.assert_allclose(
            pair.truth, pair.truth[:1] * np.ones_like(pair.truth)
        )
    assert np.abs(found[0].truth).max() > 0.1
    assert not np.abs(found[2].truth).any()


def begin(folder, **changes):
    request = requests.Request(3, str(folder / "scans"), None, "axial", 2017)
    return requests.begin(folder / "out", request._replace(**changes), folder / "cache")


def test_the_same_request_keeps_its_patients(tmp_path):
    """Though scans are added, and one cannot be read for a while."""
    for seed, patient in enumerate("abcd"):
        write_ct(tmp_path / "scans" / patient / "ct.nii.gz", seed=seed)
    (tmp_path / "scans" / "broken.mha").write_text("no image")
    first = begin(tmp_path)
    assert (len(first.training), len(first.held_out), len(first.left_out)) == (3, 1, 1)
    for number in range(9):
        write_ct(tmp_path / "scans" / f"0{number}.nii.gz", seed=9 + number)
    assert set(find(tmp_path / "scans", seed=2017).held_out) != set(first.held_out)
    assert begin(tmp_path) == first
    scan, content = first.training[0], first.training[0].read_bytes()
    scan.unlink()
    with pytest.raises(InputError, match=f"{scan}: "):
        begin(tmp_path)
    write_ct(scan, seed=30)
    with pytest.raises(InputError, match=f"{scan}: has changed since .*request.json"):
        begin(tmp_path)
    scan.write_bytes(content)
    assert begin(tmp_path) == first


def test_requests_that_cannot_go_on_are_refused(tmp_path):
    assert begin(tmp_path, scans=None) == scans.Patients()
    with pytest.raises(InputError, match=r"with other flags \(seed\); take another"):
        begin(tmp_path, scans=None, seed=1)
    path = tmp_path / "out" / "request.json"
    request = json.loads(path.read_text())
    del request["patients"]
    path.write_text(json.dumps(request))
    with pytest.raises(InputError, match="does not say which patients are held out"):
        begin(tmp_path, scans=None)
    path.rename(path.with_name("other.json"))
    with pytest.raises(InputError, match="is not empty; take another --out"):
        begin(tmp_path, scans=None)


def test_pairs_are_made_once_from_the_same_scans(tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "_FAMILIES", ("zero",))
    scan = write_ct(tmp_path / "ct.mha", (40, 44))

    def make(**changes):
        options = {"spacing": 3.0, "axis": "", "seed": 0, "cache": None} | changes
        path = pairs.make_pairs(tmp_path / "pairs", [scan], 2, **options)
        assert [pair.name for pair in read_pairs(path)] == ["zero"]
        return {file.name: file.stat().st_mtime_ns for file in path.parent.iterdir()}

    first = make()
    assert make() == first
    (tmp_path / "pairs" / "zero_moving.nii.gz").unlink()
    second = make()
    assert second["zero_moving.nii.gz"] > first["zero_moving.nii.gz"]
    third = make(seed=1)
    assert third["zero_fixed.nii.gz"] > second["zero_fixed.nii.gz"]
    write_ct(scan, (40, 44), seed=1)
    assert make(seed=1)["zero_fixed.nii.gz"] > third["zero_fixed.nii.gz"]
