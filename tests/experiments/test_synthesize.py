"""Artificial pairs from the command line: the written field relates the images."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax.io import read_pairs
from regnet_jax.synthesis import FAMILIES
from tests.helpers.networks import smooth_image

NOISE = 5.0


def check_pair(folder, name, spacing):
    fixed, moving = (
        sitk.ReadImage(str(folder / f"{name}_{part}.nii.gz"), sitk.sitkFloat64)
        for part in ("fixed", "moving")
    )
    field = sitk.ReadImage(
        str(folder / f"{name}_displacement.nii.gz"), sitk.sitkVectorFloat64
    )
    np.testing.assert_allclose(field.GetSpacing(), spacing, rtol=1e-6)
    vectors = sitk.GetArrayFromImage(field)
    assert np.abs(vectors).max() > 3.0
    transform = sitk.DisplacementFieldTransform(field)
    outside = 1e6
    warped = sitk.GetArrayFromImage(
        sitk.Resample(moving, fixed, transform, sitk.sitkLinear, outside)
    )
    # Beyond the moving image the pair continues its edge.
    seen = warped < 3e3
    assert seen.mean() > 0.25
    difference = (sitk.GetArrayFromImage(fixed) - warped)[seen]
    assert abs(difference.mean()) < 0.5
    assert difference.std() == pytest.approx(NOISE, rel=0.1)
    assert np.abs(difference).max() < 7 * NOISE


def test_pairs_in_the_plane(command, tmp_path):
    out = tmp_path / "new" / "pairs"
    arguments = [
        "--family=low,medium",
        "--shape=72,96",
        "--count=2",
        "--spacing=1.5",
        "--noscanners",
        f"--out={out}",
    ]
    result = command("synthesize", *arguments)
    assert result.status == 0, result.err
    assert not result.errors
    names = [f"{family}_{i:03d}" for family in ("low", "medium") for i in (0, 1)]
    parts = ("fixed", "moving", "displacement")
    expected = {f"{name}_{part}.nii.gz" for name in names for part in parts}
    others = {"families.png", "statistics.png", "statistics.json", "pairs.csv"}
    assert {path.name for path in out.iterdir()} == expected | others
    pairs = read_pairs(out / "pairs.csv")
    assert {
        path.name for p in pairs for path in (p.fixed, p.moving, p.displacement)
    } == expected
    assert [p.patient for p in pairs] == ["chest_0", "chest_1"] * 2
    assert str(out) in result.out
    for name in names:
        check_pair(out, name, (1.5, 1.5))
    shape = sitk.ReadImage(str(out / "low_000_fixed.nii.gz")).GetSize()
    assert shape == (96, 72)
    assert sitk.ReadImage(str(out / "families.png")).GetSize()[0] > 200
    first = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "low_000_moving.nii.gz")))
    other = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "low_001_moving.nii.gz")))
    assert np.abs(first - other).max() > 100


def test_the_seed_decides(command, tmp_path):
    def moving(name, seed):
        out = tmp_path / name
        result = command(
            "synthesize",
            "--family=affine",
            "--shape=40,44",
            f"--seed={seed}",
            f"--out={out}",
        )
        assert result.status == 0, result.err
        return sitk.GetArrayFromImage(
            sitk.ReadImage(str(out / "affine_000_displacement.nii.gz"))
        )

    first, second = moving("a", 1), moving("b", 2)
    np.testing.assert_array_equal(first, moving("c", 1))
    assert np.abs(first - second).max() > 1


@pytest.mark.slow
def test_every_family_writes_its_pair(command, tmp_path):
    names, out = list(FAMILIES), tmp_path / "out"
    arguments = ["--shape=40,44", "--spacing=5", "--least_jacobian=0.4"]
    result = command("synthesize", "--family=all", *arguments, f"--out={out}")
    assert result.status == 0, result.err
    statistics = json.loads((out / "statistics.json").read_text("utf-8"))
    assert list(statistics) == names
    for name, numbers in statistics.items():
        assert name in result.out
        assert numbers["folding"] == [0.0]
        assert numbers["least_jacobian"][0] >= 0.4 - 1e-4
    moved = {}
    for name in names:
        path = out / f"{name}_000_displacement.nii.gz"
        moved[name] = np.abs(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))).max()
        assert moved[name] == pytest.approx(statistics[name]["largest"][0], abs=1e-3)
    assert moved.pop("zero") == 0
    assert min(moved.values()) > 0.1
    assert max(moved.values()) <= 20.01


def test_a_family_is_named_once(command, tmp_path):
    """Its pairs would be listed and counted twice."""
    out = tmp_path / "out"
    result = command("synthesize", "--family=low,low", f"--out={out}")
    assert result.status == 2
    assert result.errors == ["error: --family low,low: name each once"]
    assert not out.exists()


def test_no_room_for_a_third_peak_is_said(command, tmp_path):
    """The first two peaks are zero, so the field would be."""
    out = tmp_path / "out"
    result = command("synthesize", "--family=high", "--shape=40,44", f"--out={out}")
    assert result.status == 2
    assert len(result.errors) == 1
    assert "--shape" in result.err
    assert not out.exists()


def test_an_oblique_volume_of_the_user(command, tmp_path):
    """The pair lies where the middle of the volume lies."""
    image = sitk.GetImageFromArray(smooth_image((60, 70)).astype(np.int16))
    image.SetSpacing((1.2, 2.0))
    image.SetOrigin((-30.0, 80.0))
    image.SetDirection((0.8, -0.6, 0.6, 0.8))
    sitk.WriteImage(image, str(tmp_path / "volume.nii.gz"))
    result = command(
        "synthesize",
        "--family=low",
        "--shape=48,40",
        f"--volume={tmp_path / 'volume.nii.gz'}",
        "--noscanners",
        f"--out={tmp_path / 'out'}",
    )
    assert result.status == 0, result.err
    check_pair(tmp_path / "out", "low_000", (1.0, 1.0))
    moving = sitk.ReadImage(str(tmp_path / "out/low_000_moving.nii.gz"))
    expected = sitk.Resample(
        sitk.Cast(image, sitk.sitkFloat32), sitk.Cast(moving, sitk.sitkFloat32)
    )
    difference = sitk.GetArrayFromImage(moving) - sitk.GetArrayFromImage(expected)
    # No axis is smoothed for a finer grid.
    assert np.abs(difference).max() < 1.0


def test_two_scans_have_two_fields_of_one_seed(command, tmp_path):
    fields = []
    for number in (1, 2):
        image = sitk.GetImageFromArray(smooth_image((40, 44)) + number)
        sitk.WriteImage(image, str(tmp_path / f"{number}.nii.gz"))
        flags = (f"--volume={tmp_path / f'{number}.nii.gz'}", "--shape=40,44")
        out = tmp_path / f"out{number}"
        result = command("synthesize", "--family=affine", *flags, f"--out={out}")
        assert result.status == 0, result.err
        path = out / "affine_000_displacement.nii.gz"
        fields.append(sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
    assert np.abs(fields[0] - fields[1]).max() > 0.1
