"""Shapes in the annotations of the public functions hold when these run."""

import jax.numpy as jnp
import pytest

from regnet_jax import geometry
from regnet_jax.geometry.fields import determinant
from regnet_jax.geometry.interpolation import sample_at
from regnet_jax.geometry.smoothing import apply_separable, gaussian_matrix
from tests.helpers.shapes import checked

IMAGE, FIELD = jnp.ones((4, 5, 1)), jnp.zeros((4, 5, 2))
KNOWN = jnp.ones((4, 5, 1), bool)

EXAMPLES = {
    "along_axis": (jnp.ones(5), 1, 2),
    "ceil_div": (7, 2),
    "bspline_field": (jnp.ones((5, 5, 3)), (4, 5), (2.0, 3.0)),
    "compose": (FIELD, FIELD),
    "continue_smoothly": (FIELD, KNOWN),
    "downsample": (IMAGE, 2),
    "exponentiate": (FIELD,),
    "gaussian_smooth": (IMAGE, (1.0, 2.0)),
    "identity_grid": ((4, 5),),
    "invert": (FIELD,),
    "jacobian_determinant": (FIELD,),
    "jacobian_matrix": (FIELD,),
    "prefilter": (IMAGE,),
    "sample": (IMAGE, jnp.ones((7, 2))),
    "upsample": (IMAGE, 2.0, (8, 10)),
    "upsample_field": (FIELD, 2, (8, 10)),
    "warp": (jnp.ones((6, 7, 1)), FIELD),
}


def test_every_public_function_has_an_example():
    assert set(EXAMPLES) == set(geometry.__all__)


@pytest.mark.parametrize("name", EXAMPLES)
def test_public_function_keeps_the_shapes_of_its_annotations(name):
    checked(getattr(geometry, name))(*EXAMPLES[name])


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (determinant, (jnp.ones((4, 3, 3)),)),
        (sample_at, (IMAGE, [jnp.ones(7), jnp.ones(7)])),
        (apply_separable, (IMAGE, [jnp.ones((3, 4))])),
        (gaussian_matrix, (5, 1.0)),
    ],
)
def test_helper_keeps_the_shapes_of_its_annotations(function, arguments):
    checked(function)(*arguments)


def test_wrong_shape_is_found():
    with pytest.raises(Exception, match="second"):
        checked(geometry.compose)(FIELD, FIELD[:-1])
