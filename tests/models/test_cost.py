"""Costs of programs against what can be counted by hand."""

import flax.linen as nn
import jax.numpy as jnp
import pytest

from regnet_jax.models import make_model
from regnet_jax.models.cost import cost, parameters, table
from regnet_jax.models.layers.convolution import Conv
from regnet_jax.models.support import Support


class Two(nn.Module):
    """Two convolutions, of which everything is known."""

    support = Support(reach=2, period=1, margin=2)
    dimensions: int = 2

    @nn.compact
    def __call__(self, fixed, moving, *, train):
        x = jnp.concatenate([fixed, moving], -1)
        x = Conv(7, (3, 3))(x)
        return Conv(2, (3, 3), use_bias=False)(nn.relu(x))


def test_cost_of_two_convolutions_is_the_count_by_hand():
    spent = cost(Two(), (20, 13))
    first, second = 18 * 11, 16 * 9
    assert spent.predictions == second
    products = 2 * (first * 9 * 2 * 7 + second * 9 * 7 * 2)
    assert spent.operations == products + 2 * first * 7  # and a bias and a ReLU
    assert spent.kept == 4 * (20 * 13 * 2 + first * 7)
    # The map and what it becomes by a bias, which is an array too, or a ReLU.
    assert spent.live == 4 * (2 * first * 7 + 7)
    assert parameters(Two()) == 9 * 2 * 7 + 7 + 9 * 7 * 2


@pytest.mark.parametrize(("predictions", "patch"), [(1, 53), (9, 69)])
def test_patch_has_room_for_the_number_of_predictions(predictions, patch):
    support = make_model("regnet", dimensions=3).support
    assert support.patch_size(predictions) == patch


def test_operations_of_regnet_are_those_of_its_layers():
    """A patch of 53^3: the convolutions of the paper, written out."""
    spent = cost(make_model("regnet", dimensions=3), (53,) * 3)
    layers = 2 * 2 * _chain(29, 1, (16, 16, 16))[0]
    for start, c_in, features in (
        (23, 32, (25, 30)),
        (21, 32, (25, 25, 25, 30, 30, 30)),
        (9, 60, (60, 70, 75, 150)),
    ):
        layers += 2 * _chain(start, c_in, features)[0]
    early_low = 2 * 2 * _chain(27, 1, (16, 16, 16))[0]
    layers += early_low + 2 * (150 * 150 + 150 * 3)
    # Normalisation, activation and pooling are a few operations a feature.
    assert layers < spent.operations < 1.05 * layers


def _chain(size, c_in, features):
    """Products of 3^3 convolutions without padding, and the remaining size."""
    total = 0
    for count in features:
        size -= 2
        total += size**3 * 27 * c_in * count
        c_in = count
    return total, size


def test_table_has_a_line_for_every_network():
    text = table(2, 32)
    assert len({line.count("|") for line in text.splitlines()}) == 1
    assert "| `corrnet` | 238,239 | 149 |" in text
