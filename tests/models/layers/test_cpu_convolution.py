"""Moving steps over space to channels and the batch."""

import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.models.layers.cpu_convolution import (
    batch_to_space,
    space_to_batch,
    space_to_channel,
)


def image(*spatial, batch=2, channels=3):
    shape = (batch, *spatial, channels)
    return jnp.arange(1.0, 1.0 + np.prod(shape)).reshape(shape)


@pytest.mark.parametrize("spatial", [(5, 8), (6, 5, 7)])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_batch_to_space_undoes_space_to_batch(spatial, step):
    x = image(*spatial)
    split = space_to_batch(x, step)
    assert split.shape == (
        2 * step ** len(spatial),
        *(-(-n // step) for n in spatial),
        3,
    )
    np.testing.assert_array_equal(batch_to_space(split, step, spatial), x)


def test_phases_are_ordered_by_their_start_with_the_batch_fastest():
    x = image(5, 6)
    split = space_to_batch(x, 2)
    np.testing.assert_array_equal(split[2:4], x[:, ::2, 1::2])
    np.testing.assert_array_equal(split[4:6, :2], x[:, 1::2, ::2])
    np.testing.assert_array_equal(split[4:6, 2:], 0)


def test_blocks_are_channels_in_the_order_of_the_axes():
    x = image(5, 4)
    blocks = space_to_channel(x, 2)
    assert blocks.shape == (2, 3, 2, 12)
    expected = jnp.concatenate([x[:, i:4:2, j::2] for i in (0, 1) for j in (0, 1)], -1)
    np.testing.assert_array_equal(blocks[:, :2], expected)
    np.testing.assert_array_equal(blocks[:, 2, :, 6:], 0)
