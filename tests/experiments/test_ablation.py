"""Any network in any experiment: the patches fit what it predicts."""

import numpy as np
import pytest

from experiments.heldout import ablation
from experiments.heldout.ablation import experiment
from experiments.heldout.artificial import Found
from experiments.heldout.volumes import make_volume
from regnet_jax.training.checks import check


@pytest.mark.parametrize("dimensions", [2, 3])
def test_experiments_of_an_ablation_can_be_run(dimensions):
    check(experiment("cropped_unet", dimensions, 0), devices=1)


def test_networks_are_measured_on_the_same_slices(network2d, monkeypatch):
    """Two families, by a registration that finds nothing."""
    monkeypatch.setattr(ablation, "FAMILIES", ("zero", "translation"))
    monkeypatch.setattr(
        ablation,
        "register_case",
        lambda case, *_: Found(np.zeros_like(case.pair.displacement)),
    )
    image = np.full((40, 44), -1000.0, np.float32)
    image[5:35, 5:39] = 50.0
    volumes = [
        make_volume(name, image, 2.0, patient=name, identity=name) for name in "ab"
    ]
    found = ablation.measure(network2d, {"drawn": volumes}, 4)["sets"]["drawn"]
    assert found["network"] == found["before"]
    assert (found["before"]["pairs"], found["before"]["patients"]) == (4, 2)
    assert found["before"]["ratio"] == 1
