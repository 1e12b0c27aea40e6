"""Shapes in the annotations of the public functions hold when these run."""

import jax
import jax.numpy as jnp
import pytest

from regnet_jax.synthesis.patches import PatchBatch
from regnet_jax.training import losses, step
from tests.helpers.shapes import annotated, checked

FIELDS = jnp.zeros((2, 5, 6, 2))
FIELD, WEIGHTS = FIELDS[0], jnp.ones((2, 5, 6, 1))
KEY = jax.random.key(0)
BATCH = PatchBatch(WEIGHTS, WEIGHTS, FIELDS, WEIGHTS)

EXAMPLES = [
    (losses.huber_loss, (FIELDS, FIELDS, WEIGHTS), {}),
    (losses.error_loss, (FIELDS, WEIGHTS, WEIGHTS), {}),
    (losses.bending_energy, (FIELD,), {}),
    (losses.folding_penalty, (FIELD,), {}),
    (losses.balance_weights, (WEIGHTS[0], FIELD), {"edges": (1.0, 2.0)}),
    (step.residual_field, (FIELD, FIELD), {}),
    (step.sample_batch, (lambda _: BATCH, KEY, 0, jnp.arange(3)), {}),
]


def test_every_annotated_function_has_an_example():
    want = {function for module in (losses, step) for function in annotated(module)}
    assert want == {function for function, *_ in EXAMPLES}


@pytest.mark.parametrize(("function", "arguments", "options"), EXAMPLES)
def test_function_keeps_the_shapes_of_its_annotations(function, arguments, options):
    run = checked(function)
    # Under ``jit`` tracers are checked as arrays are.
    jax.eval_shape(lambda: run(*arguments, **options))


def test_wrong_shape_is_found():
    with pytest.raises(Exception, match="weight"):
        checked(losses.huber_loss)(FIELDS, FIELDS, WEIGHTS[..., 0])
