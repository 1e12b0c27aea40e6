"""Real scans on the way into training."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.hounsfield import AIR
from regnet_jax.spatial import Frame, Image, to_sitk, to_world
from regnet_jax.training.config import override
from regnet_jax.training.data import ScanPrefetcher, read_anatomy
from regnet_jax.training.loop import train
from tests.helpers.tiny import noise_patches


def load_scans(config):
    """All scans of an experiment at once."""
    with ScanPrefetcher(config) as scans:
        return scans.scans_at(0)


SLOPE = np.array([3.0, -2.0, 5.0])  # HU a mm, along x, y and z


def ramp(shape, spacing, origin=(0.0, 0.0, 0.0)):
    """A scan whose HU tell where in the world they are."""
    d = len(shape)
    frame = Frame(shape, spacing[:d], origin[:d], np.eye(d))
    points = to_world(frame, np.moveaxis(np.indices(shape), 0, -1))
    array = np.rint(points @ SLOPE[:d] - 100.0).astype(np.int16)
    array[(0,) * d] = AIR  # by which HU are known
    return Image(array, frame, "ramp")


@pytest.fixture
def experiment(tiny, tmp_path):
    """``experiment(dimensions, **images)``: a config with a list of these."""

    def build(dimensions, scales=(1.0,), **images):
        for name, image in images.items():
            stored = image
            if isinstance(image, Image):
                stored = to_sitk(image.array, image.frame)
            sitk.WriteImage(stored, str(tmp_path / f"{name}.nii.gz"))
        scans = tmp_path / "scans.txt"
        scans.write_text("".join(f"{name}.nii.gz\n" for name in images))
        shape = (24,) * dimensions
        data = dataclasses.replace(
            tiny.data, shape=shape, scales=scales, scan_probability=1.0
        )
        changed = dataclasses.replace(tiny, data=data)
        return override(changed, [f"scans.file={scans}"])

    return build


@pytest.mark.parametrize("dimensions", [2, 3])
def test_scans_have_the_voxels_of_each_stage(experiment, dimensions):
    # Extents of (64,) 72 x 96 mm and (40,) 60 x 50 mm.
    large = ramp((16, 24, 16)[-dimensions:], (6.0, 3.0, 4.0))
    small = ramp((8, 20, 25)[-dimensions:], (2.0, 3.0, 5.0), (9.0, -20.0, 40.0))
    config = experiment(dimensions, scales=(1.0, 2.0), large=large, small=small)
    stages = load_scans(config)
    assert len(stages) == 2
    for scans, spacing in zip(stages, (4.0, 8.0), strict=True):
        extents = [(64, 72, 96), (40, 60, 50)]
        sizes = np.ceil(np.array(extents)[:, -dimensions:] / spacing).astype(int)
        np.testing.assert_array_equal(scans.sizes, sizes)
        assert scans.images.shape == (2, *sizes.max(0), 1)
        assert scans.images.dtype == np.int16
        assert scans.sizes.dtype == np.int32
        for volume, size, image in zip(
            np.asarray(scans.images)[..., 0], sizes, (large, small), strict=True
        ):
            inside = tuple(slice(n) for n in size)
            behind = volume.copy()
            behind[inside] = AIR
            assert (behind == AIR).all()
            # Away from the border the ramp is there at the right place and scale.
            steps = np.moveaxis(np.indices(size), 0, -1) - (size - 1) / 2
            places = image.frame.centre + spacing * steps[..., ::-1]
            want = places @ SLOPE[:dimensions] - 100.0
            away = (slice(2, -2),) * dimensions
            np.testing.assert_allclose(volume[inside][away], want[away], atol=2.0)


def test_scans_are_read_in_canonical_orientation(experiment):
    image = ramp((10, 14, 12), (4.0, 3.0, 5.0), (-80.0, 12.0, 30.0))
    plain = to_sitk(image.array, image.frame)
    turned = sitk.Flip(sitk.PermuteAxes(plain, [2, 0, 1]), [True, False, True])
    (scans,) = load_scans(experiment(3, plain=image, turned=turned))
    one, other = np.asarray(scans.images)
    np.testing.assert_array_equal(*np.asarray(scans.sizes))
    np.testing.assert_allclose(one, other, atol=1)


def test_values_beyond_the_scanner_are_cut(experiment):
    array = np.repeat(np.float32([-5000, 20000, 40, 20000]), 6 * 24).reshape(24, 24)
    frame = Frame((24, 24), (4.0, 4.0), (0.0, 0.0), np.eye(2))
    (scans,) = load_scans(experiment(2, wide=Image(array, frame, "wide")))
    got = np.asarray(scans.images)[0, ..., 0]
    assert got.min() == AIR
    assert got.max() == 3095


def test_scans_of_another_dimension_are_refused(experiment):
    plane = ramp((20, 24), (3.0, 3.0))
    config = experiment(3, plane=plane)
    with pytest.raises(InputError, match=r"plane\.nii\.gz: is 2D.*3D") as caught:
        load_scans(config)
    assert config.scans.file in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_scan_that_cannot_be_read_is_named(experiment, tmp_path):
    config = experiment(2, first=ramp((20, 24), (3.0, 3.0)))
    (tmp_path / "first.nii.gz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"first\.nii\.gz"):
        load_scans(config)


def test_training_hands_each_stage_its_scans(experiment, tmp_path):
    seen = {}

    def sample(key, family, config, targets, scans=None):
        patches = noise_patches(key, family, config, targets)
        if scans is None:  # held-out pairs
            return patches
        seen[config.spacing] = scans.images.shape, scans.sizes.shape
        # The loss depends on the scans: all of them are of 40 HU.
        there = scans.images[0, 9, 9, 0] == 40
        return patches._replace(weight=patches.weight * there)

    frame = Frame((30, 25), (8.0, 8.0), (0.0, 0.0), np.eye(2))
    array = np.full((30, 25), 40, np.int16)
    array[0] = AIR
    image = Image(array, frame, "level")
    config = experiment(2, scales=(1.0, 2.0), level=image)
    config = override(config, ["steps=1", "evaluation.pairs=1"])
    evaluation = train(config, tmp_path / "run", sample=sample)
    assert seen == {4.0: ((1, 60, 50, 1), (1, 2)), 8.0: ((1, 30, 25, 1), (1, 2))}
    assert list(evaluation) == ["medium 4 mm", "high 4 mm", "medium 8 mm", "high 8 mm"]
    log = (tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()
    assert '"loss": 0.0' not in log[0]


def test_series_of_one_folder_are_kept_apart(tmp_path):
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    folder = tmp_path / "patient"
    folder.mkdir()
    for series, value in (("1.2.3.1", 10), ("1.2.3.2", 20)):
        for z in range(4):
            slice_ = np.full((1, 5, 6), value, np.int16)
            slice_[..., :2] = -1000
            image = sitk.GetImageFromArray(slice_)
            for tag, text in {
                "0008|0060": "CT",
                "0020|000e": series,
                "0020|0032": f"0\\0\\{z}",
                "0020|0037": "1\\0\\0\\0\\1\\0",
            }.items():
                image.SetMetaData(tag, text)
            writer.SetFileName(str(folder / f"{series}-{z}.dcm"))
            writer.Execute(image)
    for _ in range(2):
        for series, value in (("1.2.3.1", 10), ("1.2.3.2", 20)):
            path = Path(f"{folder}::{series}")
            (volume,) = read_anatomy(path, [1.0], tmp_path / "cache")
            assert volume.shape == (4, 5, 6)
            # Smoothed a little, where it borders on air.
            np.testing.assert_allclose(volume[..., 2:], value, atol=3)
            assert (volume[..., :2] == -1000).all()
    assert len(list((tmp_path / "cache").iterdir())) == 2
