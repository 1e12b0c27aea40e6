"""The platform computes what it is asked to: known faults of the CPU backend.

A version of jaxlib that fails here must not be used, however new it is.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.parametrize("rows", [33_000, 40_000])
def test_batched_small_matrix_products_are_right(rows):
    """jaxlib 0.10.2 returns wrong numbers from about 33,000 rows of three on.

    At 40,000 rows 18 % of them are off, by up to 89 % of the largest value; at
    33,000 rows 0.7 %, by up to 31 %. Version 0.10.1 is right to seven digits.
    """
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(3, 3)).astype(np.float32)
    points = rng.normal(size=(rows, 3)).astype(np.float32)
    got = jax.jit(jax.vmap(lambda r: jnp.sum((matrix @ r) ** 2)))(points)
    want = np.sum((points.astype(np.float64) @ matrix.astype(np.float64).T) ** 2, 1)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
