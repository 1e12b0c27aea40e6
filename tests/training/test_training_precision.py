"""Networks that compute in bfloat16: weights, answers and losses stay float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.models import make_model


@pytest.mark.parametrize("name", ["corrnet", "unet"])
def test_half_precision_answers_nearly_the_same(name):
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.uniform(0.1, 0.4, size=(2, 1, 32, 32, 1)), jnp.float32)
    model = make_model(name, dimensions=2)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *images, train=False))

    def draw(leaf):
        spread = np.sqrt(1 / max(np.prod(leaf.shape[:-1]), 1))
        return (spread * rng.normal(size=leaf.shape)).astype(np.float32)

    variables = {"params": jax.tree.map(draw, shapes["params"])}
    if "batch_stats" in shapes:
        ones = jax.tree.map(lambda a: np.ones(a.shape, np.float32), shapes)
        variables["batch_stats"] = ones["batch_stats"]

    def loss(variables, dtype):
        half = make_model(name, dimensions=2, dtype=dtype)
        answer = half.apply(variables, *images, train=False)
        return jnp.sum(answer**2), answer

    gradient = jax.jit(jax.grad(loss, has_aux=True), static_argnames="dtype")
    want, exact = gradient(variables, dtype=jnp.float32)
    got, answer = gradient(variables, dtype=jnp.bfloat16)
    assert answer.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(got["params"])} == {jnp.float32}
    error = np.linalg.norm(answer - exact) / np.linalg.norm(exact)
    assert 1e-5 < error < 0.05
    flat = [
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree["params"])])
        for tree in (got, want)
    ]
    cosine = flat[0] @ flat[1] / (np.linalg.norm(flat[0]) * np.linalg.norm(flat[1]))
    assert cosine > 0.98
