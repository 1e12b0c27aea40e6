"""Any network in any experiment: the windows fit what it answers for."""

import pytest

from experiments import configs
from experiments.heldout.ablation import experiment, suited
from regnet_jax.models import MODELS
from regnet_jax.training.config import check


@pytest.mark.parametrize("name", MODELS)
def test_the_windows_of_a_network_can_be_trained_on(name):
    config = suited(configs.load("demo2d"), name, 32)
    assert config.model == name
    check(config, devices=1)
    targets = range(
        config.data.margin, config.data.window - config.data.margin, config.data.stride
    )
    assert len(targets) == 32 // config.data.stride


@pytest.mark.parametrize("dimensions", [2, 3])
def test_experiments_of_an_ablation_can_be_run(dimensions):
    check(experiment("cropped_unet", dimensions, 0), devices=1)
