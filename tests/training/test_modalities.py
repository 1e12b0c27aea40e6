"""Training on images that are not CT: what it sees is what a registration sees."""

import dataclasses
import functools
import json
import logging
import sys

import jax
import numpy as np
import pytest
import SimpleITK as sitk

from experiments.configs import load
from regnet_jax import register
from regnet_jax.errors import InputError
from regnet_jax.hounsfield import AIR
from regnet_jax.pretrained.inference import read_inference
from regnet_jax.spatial import Frame, Image, to_sitk
from regnet_jax.synthesis.generator import (
    VolumeSources,
    make_generator,
    sample_patches,
)
from regnet_jax.synthesis.volumes.scans import ScanBank, crop
from regnet_jax.synthesis.volumes.shapes import smooth_noise
from regnet_jax.training import data
from regnet_jax.training.checks import check
from regnet_jax.training.config import override
from regnet_jax.training.inference import inference_config
from tests.helpers import networks

TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
FRAMES = {
    2: Frame((41, 37), (1.3, 0.9), (-12.0, 30.0), np.diag([-1.0, 1.0])),
    3: Frame((17, 24, 21), (1.1, 0.8, 1.7), (10.0, -5.0, 3.0), TURN),
}
MR = ["data.intensity_preset=mr", "data.unseen_weight=0.1"]


def scan(d, low=40.0, high=900.0):
    """A smooth picture on an anisotropic, flipped or oblique grid."""
    frame = FRAMES[d]
    values = networks.smooth_image(frame.shape, d)
    values = (values - values.min()) / np.ptp(values)
    return Image(np.float32(low + (high - low) * values), frame, f"mr{d}")


def stored(tmp_path, image):
    path = tmp_path / f"{image.name}.nii.gz"
    sitk.WriteImage(to_sitk(image.array, image.frame), str(path))
    return path


@pytest.mark.parametrize(("preset", "ends"), [("mr", (1, 99)), ("5,90.5", (5, 90.5))])
@pytest.mark.parametrize("shape", [(24, 31), (11, 13, 12)])
def test_percentiles_of_a_scan_become_air_and_bone(
    tmp_path, monkeypatch, shape, preset, ends
):
    monkeypatch.setattr(data, "remove_noise", lambda image: image)
    frame = Frame(shape, (2.0,) * len(shape), (0.0,) * len(shape), np.eye(len(shape)))
    values = np.random.default_rng(0).gamma(3.0, 50.0, shape).astype(np.float32)
    path = stored(tmp_path, Image(values, frame, "a"))
    (volume,) = data.read_anatomy(path, [2.0], None, preset)
    dark, bright = np.percentile(values, ends)
    expected = np.clip((values - dark) / (bright - dark), 0.0, 1.0) * 1400.0 - 1000.0
    np.testing.assert_allclose(volume, expected, atol=0.51)
    assert volume.dtype == np.int16


@pytest.mark.parametrize("d", [2, 3])
def test_training_sees_the_values_that_a_registration_sees(tmp_path, monkeypatch, d):
    monkeypatch.setattr(data, "remove_noise", lambda image: image)
    seen = []

    def predict(network, fixed, moving, **options):
        seen.append(fixed)
        return np.zeros((*fixed.shape, d), np.float32)

    module = sys.modules[register.__module__]
    monkeypatch.setattr(module, "predict", predict)
    monkeypatch.setattr(module, "compile_ahead", lambda *_, **__: None)
    path = stored(tmp_path, scan(d))
    network = networks.fake(d, 1.5, None)
    options = {"initial": "none", "intensity": "2,98", "voxel_size": 1.5}
    register(path, path, network, **options)
    (volume,) = data.read_anatomy(path, [1.5], None, "2,98")
    np.testing.assert_allclose(volume, seen[0], atol=0.51)


def test_the_noise_of_a_scan_is_removed(tmp_path):
    frame = FRAMES[3]
    noisy = scan(3).array + np.random.default_rng(0).normal(0, 5, frame.shape)
    path = stored(tmp_path, Image(np.float32(noisy), frame, "noisy"))
    clean = stored(tmp_path, scan(3))
    kept = [data.read_anatomy(p, [1.0], None, "mr")[0] for p in (path, clean)]
    raw = np.float32(noisy - scan(3).array).std() / 860.0 * 1400.0
    assert (kept[0] - np.float32(kept[1])).std() < 0.7 * raw


def test_label_maps_are_refused_and_ct_is_named(tmp_path, caplog):
    labels = (scan(3).array > 300).astype(np.uint8)
    path = stored(tmp_path, Image(labels, FRAMES[3], "labels"))
    with pytest.raises(InputError, match=r"labels\.nii\.gz: has 2 different values"):
        data.read_anatomy(path, [1.0], None, "mr")
    path = stored(tmp_path, dataclasses.replace(scan(3, -1000.0, 200.0), name="ct"))
    with caplog.at_level(logging.WARNING):
        data.read_anatomy(path, [1.0], None, "mr")
    assert "ct.nii.gz: looks like CT" in caplog.text
    caplog.clear()
    data.read_anatomy(path, [1.0], None)
    assert not caplog.records


def test_presets_do_not_share_the_cache(tmp_path):
    path = stored(tmp_path, scan(3, -1000.0, 300.0))
    volumes = [
        data.read_anatomy(path, [1.5], tmp_path / "cache", preset)[0]
        for preset in ("ct", "mr", "10,90", "mr")
    ]
    assert len(list((tmp_path / "cache").iterdir())) == 3
    np.testing.assert_array_equal(volumes[1], volumes[3])
    assert (volumes[1] != volumes[2]).any()


@pytest.mark.parametrize("d", [2, 3])
def test_a_field_of_view_goes_on_beyond_its_border(d):
    image = np.full((1, *(6, 7, 5)[:d], 1), 120, np.int16)
    scans = ScanBank(image, np.array([image.shape[1:-1]], np.int32))
    shape, key = (16,) * d, jax.random.key(0)
    np.testing.assert_allclose(crop(key, scans, shape, continued=True), 120.0, 1e-6)
    assert (crop(key, scans, shape) == AIR).any()


REFUSED = {
    "preset": (["data.intensity_preset=auto"], "data.intensity_preset=auto: give ct"),
    "ends": (["data.intensity_preset=99,1"], "data.intensity_preset=99,1: give ct"),
    "respiratory": ([*MR, "data.families=low,respiratory"], "families=respiratory"),
    "sliding": ([*MR, "data.families=sliding"], "families=sliding: needs Hounsfield"),
    "table": ([*MR, "data.intensity_models=table"], "intensity_models=table: needs"),
    "quantum": ([*MR, "data.intensity_models=blur,quantum_noise"], "=quantum_noise"),
    "sponge": ([*MR, "data.sponge_probability=0.5"], "give data.sponge_probability=0"),
    "lung": ([*MR, "data.lung_weight=2"], "give data.lung_weight=1"),
    "vessel": ([*MR, "data.vessel_weight=3"], "data.vessel_weight=3: needs Hounsfield"),
    "rician": (["data.intensity_models=rician_noise"], "rician_noise: is of MR"),
    "scale": (["data.anatomy_scale=0"], "data.anatomy_scale=0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_needs_another_kind_of_image_is_refused(tiny, case):
    changes, said = REFUSED[case]
    with pytest.raises(InputError) as caught:
        check(override(tiny, changes), devices=1)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_percentiles_are_taken_with_all_that_suits_them(tiny):
    check(override(tiny, ["data.intensity_preset=0.5,99.5"]), devices=1)
    models = "tissue_contrast,coil_field,rician_noise,blur,occlusions,contrast"
    check(override(tiny, [*MR, f"data.intensity_models={models}"]), devices=1)


def regions(key, shape, *, spacing, brightest):
    """Stands for random regions, which take longer to compile."""
    assert brightest == 400.0
    volume = smooth_noise(key, shape, {"volume": (20.0 / spacing, 1)})["volume"]
    return 300.0 * volume - 300.0


def batch(config):
    sample = functools.partial(sample_patches, sources=VolumeSources(regions=regions))
    return jax.jit(make_generator(config.data, sample=sample))(jax.random.key(3))


def test_images_stay_in_the_range_that_percentiles_are_mapped_to(tiny):
    changes = [*MR, "data.families=affine", "data.noise_moving=400"]
    pair = batch(override(tiny, changes))
    for image in (pair.fixed, pair.moving):
        assert image.min() >= -1000.0
        assert image.max() <= 400.0
    # So much noise reaches both ends.
    assert pair.moving.min() == -1000.0
    assert pair.moving.max() == 400.0


def test_a_smaller_anatomy_has_the_same_pairs_with_smaller_voxels(tiny):
    """In voxels all is alike; class limits are in mm and follow by themselves."""
    changes = [*MR, "data.families=single", "data.class_limits="]
    config = override(tiny, [*changes, "data.intensity_models=coil_field"])
    small = override(config, ["data.spacing=0.5", "data.anatomy_scale=0.125"])
    for a, b in zip(*map(batch, (config, small)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_use_of_a_network_follows_from_its_training(tiny):
    assert inference_config(tiny).intensity_preset == "auto"
    assert inference_config(tiny).adapt_voxel_size
    use = inference_config(override(tiny, ["data.intensity_preset=2,98"]))
    assert use.intensity_preset == "2,98"
    assert not use.adapt_voxel_size


@pytest.mark.parametrize(
    ("changes", "fineness"),
    [
        ([], 4 / 3),
        (["residual_probability=0"], 1.0),
        (["model=unet"], 1.0),
        (["data.scales=1"], 1.0),
        (["data.intensity_preset=2,98"], 1.0),
    ],
)
def test_networks_that_knew_several_voxel_sizes_get_finer_ones(tiny, changes, fineness):
    base = ["model=corrnet", "data.scales=1,2", "residual_probability=0.5"]
    use = inference_config(override(tiny, [*base, *changes]))
    assert use.extra_pass == (use.shrinkage > 0)
    assert use.fineness == pytest.approx(fineness)


def test_a_wrong_preset_beside_the_weights_is_refused(tmp_path):
    use = dataclasses.asdict(networks.inference(2, 2.0))
    for key, value in (("intensity_preset", "pet"), ("adapt_voxel_size", 1)):
        (tmp_path / "inference.json").write_text(json.dumps(use | {key: value}))
        with pytest.raises(InputError, match=f"{key}: {value}"):
            read_inference(tmp_path)


def test_register_maps_images_as_the_training_did(command, tmp_path):
    """Planes of 41 mm, which a network of chests would take for something small."""
    config = override(networks.config(2, 2.0), ["data.intensity_preset=2,98"])
    run = networks.write_run(tmp_path / "run", config)
    path = stored(tmp_path, scan(2))
    result = command(
        "register", f"--fixed={path}", f"--moving={path}", f"--model={run}",
        f"--out={tmp_path / 'out'}", "--initial=none",
    )  # fmt: skip
    assert result.status == 0, result.err
    report = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    presets = {"fixed": "2,98", "moving": "2,98", "network": "2,98", "given": False}
    assert report["parameters"]["intensity"] == presets
    assert report["parameters"]["voxel_size"]["mm"] == 2.0
    assert not any("CT" in line or "voxels of" in line for line in report["warnings"])


def test_other_images_than_those_of_the_training_get_a_warning():
    config = override(networks.config(2, 2.0), ["data.intensity_preset=mr"])
    network = networks.fake(2, 2.0, None)
    use = dataclasses.replace(inference_config(config), tile=network.config.tile)
    network = dataclasses.replace(network, config=use, function=shift_nothing)
    ct, mr = scan(2, -1000.0, 300.0), scan(2)
    said = {
        "looks like CT in Hounsfield units, and": (ct, {}),
        "under --intensity mr, and these were mapped by 5,95": (
            mr,
            {"intensity": "5,95"},
        ),
    }
    for text, (image, options) in said.items():
        found = register(image, image, network, initial="none", **options).report()
        assert any(text in line for line in found.warnings)
    # The same image twice would get a warning of its own.
    brighter = dataclasses.replace(mr, array=mr.array + 1)
    assert register(mr, brighter, network, initial="none").report().warnings == ()


def shift_nothing(fixed, moving):
    """The field of a network with a margin of 26 voxels that finds no motion."""
    places = tuple(n - 52 for n in fixed.shape[1:3])
    return np.zeros((1, *places, 2), np.float32)


@pytest.mark.slow
def test_a_training_on_mr_says_how_its_network_is_used(command, tmp_path):
    """Of slices of 3D scans, by the command line of the docs."""
    for name in "ab":
        stored(tmp_path, dataclasses.replace(scan(3), name=name))
    (tmp_path / "scans.txt").write_text("a.nii.gz\nb.nii.gz\n")
    run = tmp_path / "run"
    changes = [
        *("data.intensity_preset=mr", "data.spacing=1", "data.anatomy_scale=0.2"),
        *("data.shape=32,32", "data.patch_size=32", "data.families=affine"),
        *("data.intensity_models=rician_noise", "data.scan_probability=1"),
        *(f"scans.file={tmp_path / 'scans.txt'}", "batch_size=1", "steps=1"),
        *("evaluation.pairs=1", "checkpoint_every=1"),
    ]
    flags = [f"--override={change}" for change in changes]
    result = command("train", "--config=demo2d", f"--workdir={run}", *flags)
    assert result.status == 0, result.err
    use = json.loads((run / "inference.json").read_text("utf-8"))
    assert use["intensity_preset"] == "mr"
    assert use["voxel_sizes"] == [1.0]
    assert not use["adapt_voxel_size"]
    assert "Traceback" not in result.err


def test_the_config_for_mr_says_where_its_scans_belong():
    config = load("mr3d")
    assert not config.data.is_ct
    with pytest.raises(InputError, match="needs scans"):
        check(config, devices=1)
