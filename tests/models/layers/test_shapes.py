"""Shapes in the annotations of the layers hold when these run."""

import jax
import jax.numpy as jnp
import pytest

from regnet_jax.models.layers import blocks, convolution, correlation, cpu_convolution
from regnet_jax.models.multiview import decimate
from tests.helpers.shapes import checked

X = jnp.ones((2, 6, 8, 3))

EXAMPLES = [
    (blocks.max_pool, (X,)),
    (blocks.resize, (X, 2)),
    (blocks.upsample_nodes, (X,)),
    (blocks.upsample_centres, (X,)),
    (blocks.crop_centre, (X, (2, 4))),
    (blocks.pad_to_multiple, (X, 4)),
    (correlation.normalise, (X,)),
    (correlation.local_correlation, (X, X, 1)),
    (correlation.expected_offset, (jnp.ones((2, 6, 8, 9)), 1)),
    (convolution.convolve, (X, jnp.ones((3, 3, 3, 5)))),
    (cpu_convolution.space_to_channel, (X, 2)),
    (cpu_convolution.space_to_batch, (X, 2)),
    (cpu_convolution.batch_to_space, (jnp.ones((8, 3, 4, 3)), 2, (6, 8))),
    (decimate, (X, 1)),
]


@pytest.mark.parametrize(("function", "arguments"), EXAMPLES)
def test_function_keeps_the_shapes_of_its_annotations(function, arguments):
    run = checked(function)
    jax.eval_shape(lambda: run(*arguments))
