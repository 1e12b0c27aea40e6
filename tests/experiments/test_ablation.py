"""Any network in any experiment: the patches fit what it predicts."""

import pytest

from experiments import configs
from experiments.heldout.ablation import experiment, with_model
from regnet_jax.models import MODELS
from regnet_jax.training.checks import check


@pytest.mark.parametrize("name", MODELS)
def test_with_model_gives_patches_that_can_be_trained_on(name):
    config = with_model(configs.load("demo2d"), name, 32)
    assert config.model == name
    check(config, devices=1)
    size = config.data.patch_size
    (targets, *_) = config.targets.slices(size, 2)
    assert len(range(size)[targets]) == 32 // config.targets.stride


@pytest.mark.parametrize("dimensions", [2, 3])
def test_experiments_of_an_ablation_can_be_run(dimensions):
    check(experiment("cropped_unet", dimensions, 0), devices=1)
