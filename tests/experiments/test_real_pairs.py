"""Measures on real pairs during training, with a registration that is a known shift."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from experiments import real_pairs
from regnet_jax.errors import InputError
from regnet_jax.registration.result import Shown
from tests.helpers.networks import config

SHIFT = (6.0, -4.0)


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    """A disc and the same disc moved by ``SHIFT``; the registration knows it."""
    y, x = np.indices((40, 48))
    discs = [
        np.hypot(2 * x - 40 - dx, 2 * y - 40 - dy) < 15 for dx, dy in ((0, 0), SHIFT)
    ]
    for name, disc in zip(("fixed", "moving"), discs, strict=True):
        for kind, array in (("image", 300 * disc), ("labels", 2 * disc)):
            image = sitk.GetImageFromArray(array.astype(np.int16))
            image.SetSpacing((2.0, 2.0))
            sitk.WriteImage(image, str(tmp_path / f"{name}_{kind}.mha"))
    points = np.array([[30.0, 40.0], [44.0, 50.0]])
    # The second moving landmark is 5 mm off.
    moving = points + SHIFT + [[0.0, 0.0], [3.0, 4.0]]
    for name, values in (("fixed", points), ("moving", moving)):
        lines = [" ".join(map(str, point)) for point in values]
        text = "\n".join(["point", str(len(lines)), *lines]) + "\n"
        (tmp_path / f"{name}.pts").write_text(text)
    columns = "name,fixed,moving,fixed_points,moving_points,fixed_labels,moving_labels"
    row = "disc,fixed_image.mha,moving_image.mha,fixed.pts,moving.pts,"
    row += "fixed_labels.mha,moving_labels.mha"
    path = tmp_path / "pairs.csv"
    path.write_text(f"{columns}\n{row}\n")
    aligned = []

    def align(fixed, moving, *, kind, fixed_mask, moving_mask):
        assert fixed_mask is moving_mask is None
        aligned.append(kind)
        return np.eye(3)

    def register(fixed, moving, network, *, initial, voxel_size):
        assert voxel_size == network.spacing
        everywhere = np.ones(fixed.frame.shape, bool)
        np.testing.assert_array_equal(initial, np.eye(3))
        assert network.variables == {"params": 1}
        return SimpleNamespace(
            transform=sitk.TranslationTransform(2, SHIFT),
            warped=fixed,
            shown=Shown(*[everywhere] * 3),
        )

    monkeypatch.setattr(real_pairs, "align", align)
    monkeypatch.setattr(real_pairs, "register", register)
    return SimpleNamespace(path=path, aligned=aligned)


def test_measure_has_landmark_errors_dice_and_correlation(pairs):
    measure = real_pairs.make_measure(config(2, 2.0), str(pairs.path))
    for _ in range(2):
        (found,) = measure({"params": 1}).values()
        assert found["tre"] == pytest.approx(2.5, abs=1e-6)
        assert found["dice"] == pytest.approx(1.0)
        assert found["correlation"] == pytest.approx(1.0)
    assert pairs.aligned == ["affine"], "aligned once for all evaluations"


def test_make_measure_refuses_unusable_pairs(pairs):
    with pytest.raises(InputError, match=r"disc: .*is 2D where 3D is needed"):
        real_pairs.make_measure(config(3, 4.0), str(pairs.path))
    points = pairs.path.with_name("moving.pts")
    points.write_text("point\n1\n3 4\n")
    with pytest.raises(
        InputError, match=r"moving\.pts: its points are not those.*1 in 2D.*correspond"
    ):
        real_pairs.make_measure(config(2, 2.0), str(pairs.path))
    experiment = dataclasses.replace(config(2, 2.0), model="regnet")
    with pytest.raises(InputError, match="no such file"):
        real_pairs.make_measure(experiment, str(points.with_name("none.csv")))
