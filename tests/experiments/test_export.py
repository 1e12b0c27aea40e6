"""The mean of two networks, as it ships."""

import jax
import numpy as np
import pytest

from experiments.export import mean_weights
from regnet_jax.errors import InputError
from tests.helpers.networks import config, inference, untrained


def test_the_mean_of_two_networks_is_half_their_sum(run2d):
    weights = untrained(config(2, 2.0)).variables
    triple = jax.tree.map(lambda leaf: 3.0 * leaf, weights)
    got = mean_weights(triple, inference(2, 2.0), str(run2d))
    assert jax.tree.structure(got) == jax.tree.structure(weights)
    for leaf, want in zip(jax.tree.leaves(got), jax.tree.leaves(weights), strict=True):
        np.testing.assert_allclose(leaf, 2.0 * want, rtol=1e-6)


def test_networks_of_different_kinds_are_refused(run2d):
    variables = untrained(config(3, 4.0)).variables
    with pytest.raises(InputError, match="not the network"):
        mean_weights(variables, inference(3, 4.0), str(run2d))
