"""Shapes in the annotations of the public functions hold when these run."""

import jax
import jax.numpy as jnp
import pytest

from regnet_jax.synthesis import chest, field_statistics, limit_folding, random_regions
from regnet_jax.synthesis.fields import deformation, respiratory, splines
from regnet_jax.synthesis.fields.families import FAMILIES, sample_field
from regnet_jax.synthesis.scanners import INTENSITY_MODELS, sponge
from regnet_jax.synthesis.volumes.scans import ScanBank, crop
from tests.helpers.shapes import checked

SHAPE, MM = (12, 14), {"spacing": 8.0}
KEY = jax.random.key(0)
IMAGE, FIELD = jnp.zeros((*SHAPE, 1)), jnp.zeros((*SHAPE, 2))
MASK, ONE = jnp.ones(SHAPE, bool), jnp.ones(2)
SCANS = ScanBank(jnp.zeros((1, 20, 20, 1), jnp.int16), jnp.full((1, 2), 20))

EXAMPLES = [
    (chest, (KEY, SHAPE), MM),
    (random_regions, (KEY, SHAPE), MM),
    (crop, (KEY, SCANS, SHAPE), {}),
    (sample_field, (KEY, IMAGE, FAMILIES["single"]), MM),
    (field_statistics, (FIELD,), MM),
    (limit_folding, (FIELD, 0.3), {}),
    (deformation.everywhere, (FIELD,), {}),
    (deformation.rescale, (FIELD, 2.0), {}),
    (deformation.over_voxels, (jnp.max, FIELD), {}),
    (deformation.rescale_lobes, (FIELD, ONE, -ONE), {}),
    (respiratory.mask_extent, (MASK, 0), {}),
    (respiratory.descent_profile, (jnp.arange(5.0), 1.0, 3.0), {}),
    (splines.edges, (IMAGE,), MM),
    (splines.dilate, (MASK, 3), {}),
    (splines.sample_fraction, (KEY, 0.2), {}),
    (splines.spline_field, (KEY, SHAPE, 40.0, 1.0), MM),
    (sponge, (KEY, IMAGE, FIELD), {}),
    *((model, (KEY, IMAGE), MM) for model in INTENSITY_MODELS.values()),
]


@pytest.mark.parametrize(
    ("function", "arguments", "options"),
    EXAMPLES,
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_function_keeps_the_shapes_of_its_annotations(function, arguments, options):
    run = checked(function)
    # Under ``jit`` the examples compile once and tracers are checked as arrays are.
    jax.eval_shape(lambda: run(*arguments, **options))
