"""Any network in any experiment: the patches fit what it predicts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.heldout import ablation
from experiments.heldout.ablation import experiment
from experiments.heldout.artificial import Found
from experiments.heldout.volumes import make_volume
from regnet_jax.errors import InputError
from regnet_jax.training.checks import check
from tests.helpers import networks


@pytest.mark.parametrize("dimensions", [2, 3])
def test_experiments_of_an_ablation_can_be_run(dimensions):
    check(experiment("cropped_unet", dimensions, 0), devices=1)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_held_out_chests_are_whole_and_no_smaller_than_those_of_the_training(
    dimensions, monkeypatch
):
    def chest(key, shape, *, spacing):
        assert all(size * spacing == 384.0 for size in shape)
        return jnp.full((*shape, 1), 40.0)

    monkeypatch.setattr(ablation, "chest", chest)
    (volume,) = ablation.sample_volumes(1, dimensions)
    trained = experiment("corrnet", dimensions, 0).data.shape
    assert volume.image.ndim == dimensions
    assert all(a >= b for a, b in zip(volume.image.shape, trained, strict=True))


def test_registrations_that_fail_are_counted(network2d, monkeypatch):
    monkeypatch.setattr(ablation, "FAMILIES", ("zero", "translation"))

    def register(case, *_):
        if case.planned.family == "zero":
            raise InputError("the field is not finite")
        return Found(np.zeros_like(case.pair.displacement))

    monkeypatch.setattr(ablation, "register_case", register)
    image = np.full((40, 44), -1000.0, np.float32)
    image[5:35, 5:39] = 50.0
    volumes = [make_volume("a", image, 2.0, patient="a", identity="a")]
    found = ablation.measure(network2d, {"drawn": volumes}, 4)["sets"]["drawn"]
    assert found["failed"] == 2
    assert np.isfinite(found["seconds"])


def test_networks_are_measured_on_the_same_slices(network2d, monkeypatch):
    """Two families, two networks, by a registration that finds nothing."""
    monkeypatch.setattr(ablation, "FAMILIES", ("zero", "translation"))
    given = []

    def register(case, network, *_):
        given.append((network.config.model, case.pair))
        return Found(np.zeros_like(case.pair.displacement))

    monkeypatch.setattr(ablation, "register_case", register)
    image = np.full((40, 44), -1000.0, np.float32)
    image[5:35, 5:39] = 50.0
    volumes = [
        make_volume(name, image, 2.0, patient=name, identity=name) for name in "ab"
    ]
    found, other = (
        ablation.measure(network, {"drawn": volumes}, 4)["sets"]["drawn"]
        for network in (network2d, networks.dense(2, 2.0))
    )
    assert found["network"] == found["before"] == other["before"]
    assert (found["before"]["pairs"], found["before"]["patients"]) == (4, 2)
    assert found["before"]["ratio"] == 1
    assert [model for model, _ in given] == ["regnet"] * 4 + ["corrnet"] * 4
    pairs = [pair for _, pair in given]
    for ours, others in zip(pairs[:4], pairs[4:], strict=True):
        jax.tree.map(np.testing.assert_array_equal, ours, others)
    assert len({pair.fixed.tobytes() for pair in pairs}) == 4
