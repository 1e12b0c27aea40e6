"""The mean of two networks, as it ships."""

import jax
import numpy as np
import pytest

from experiments.export import mean_weights
from regnet_jax.errors import InputError
from tests.helpers.networks import config, untrained


def test_the_mean_of_two_networks_lies_half_way(run2d):
    experiment = config(2, 2.0)
    weights = untrained(experiment).variables
    triple = jax.tree.map(lambda leaf: 3.0 * leaf, weights)
    got = mean_weights(triple, experiment, str(run2d))
    assert jax.tree.structure(got) == jax.tree.structure(weights)
    for leaf, want in zip(jax.tree.leaves(got), jax.tree.leaves(weights), strict=True):
        np.testing.assert_allclose(leaf, 2.0 * want, rtol=1e-6)


def test_networks_of_other_kinds_have_no_mean(run2d):
    experiment = config(3, 4.0)
    with pytest.raises(InputError, match="not the network"):
        mean_weights(untrained(experiment).variables, experiment, str(run2d))
