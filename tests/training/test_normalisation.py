"""Statistics of batch normalisation, estimated for the weights that are used."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate

from regnet_jax.hounsfield import scale_hounsfield
from regnet_jax.models import make_model
from regnet_jax.models.regnet import RegNet
from regnet_jax.synthesis.generator import make_generator
from regnet_jax.training.normalisation import _STREAM, reestimate_statistics
from regnet_jax.training.step import predict, sample_batch
from tests.helpers import networks


def batches(config, count):
    """The batches that the statistics are estimated from."""
    generate = make_generator(config.data, config.targets)
    sample = jax.jit(functools.partial(sample_batch, lambda key: generate(key, ())))
    stream = jax.random.fold_in(jax.random.key(config.seed), _STREAM)
    indices = jnp.arange(config.batch_size)
    for number in range(count):
        yield sample(stream, number, indices)


@pytest.mark.parametrize("microbatches", [1, 2])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_statistics_are_the_moments_of_all_voxels_by_scipy(dimensions, microbatches):
    """Of the first layer, which sees the images alone."""
    config = networks.config(dimensions, 2.0)
    config = dataclasses.replace(config, batch_size=2, microbatches=microbatches)
    variables = networks.untrained(config).variables
    found = reestimate_statistics(variables, config, batches=3)["batch_stats"]
    kernel = np.asarray(variables["params"]["Conv_0"]["kernel"], np.float64)
    outputs = []
    support = RegNet.support
    for batch in batches(config, 3):
        images = np.asarray(scale_hounsfield(batch.fixed), np.float64)[..., 0]
        # The middle of the patch, which the part at full resolution sees.
        targets = (images.shape[1] - 2 * support.margin - 1) // support.stride + 1
        start = support.margin - 14
        middle = slice(start, start + 29 + support.stride * (targets - 1))
        images = images[(slice(None), *(middle,) * dimensions)]
        for image in images:
            outputs += [
                [correlate(image, kernel[..., 0, f], "valid") for f in range(16)]
            ]
    outputs = np.moveaxis(np.array(outputs), 1, 0).reshape(16, -1)
    layer = found["BatchNorm_0"]
    np.testing.assert_allclose(layer["mean"], outputs.mean(1), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(layer["var"], outputs.var(1), rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("model", ["regnet", "unet"])
def test_a_batch_is_predicted_as_it_was_normalised(model):
    """In all layers: with the statistics of one batch, as the training predicts it."""
    config = dataclasses.replace(networks.config(2, 2.0), model=model, batch_size=8)
    variables = networks.untrained(config).variables
    found = reestimate_statistics(variables, config, batches=1)
    (batch,) = batches(config, 1)
    network = make_model(model, dimensions=2)

    @jax.jit
    def both(found, variables, batch):
        got = predict(network, found, batch, train=False)
        options = {"train": True, "mutable": ["batch_stats"]}
        return got, predict(network, variables, batch, **options)[0]

    got, want = both(found, variables, batch)
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


def test_statistics_of_before_have_no_effect():
    config = networks.config(2, 2.0)
    variables = networks.untrained(config).variables
    other = jax.tree.map(lambda x: 3.0 * x + 1.0, variables["batch_stats"])
    one, two = (
        reestimate_statistics({**variables, "batch_stats": stats}, config, batches=2)
        for stats in (variables["batch_stats"], other)
    )
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert one["params"] is variables["params"]


def test_networks_without_statistics_stay_as_they_are():
    config = dataclasses.replace(networks.config(2, 2.0), model="corrnet")
    variables = {"params": {"kernel": np.ones(3)}}
    assert reestimate_statistics(variables, config) is variables
