"""Both directions joined: swapping the images inverts the result."""

import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.geometry import (
    compose,
    gaussian_smooth,
    invert,
    jacobian_determinant,
)
from regnet_jax.registration.inference.inverse_consistency import square_root, symmetric

SHAPES = {2: (41, 36), 3: (17, 20, 15)}
SIGMA = {2: 7.0, 3: 4.0}


def smooth_field(d, size, seed):
    """A field that vanishes at the border, of a largest component."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(*SHAPES[d], d)).astype(np.float32)
    for axis, n in enumerate(SHAPES[d]):
        window = np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2
        noise *= window.reshape([-1 if a == axis else 1 for a in range(d + 1)])
    smooth = gaussian_smooth(jnp.asarray(noise), [SIGMA[d]] * d)
    return size * smooth / jnp.abs(smooth).max()


def largest(field):
    return float(jnp.linalg.norm(field, axis=-1).max())


@pytest.mark.parametrize("d", [2, 3])
def test_the_root_gone_twice_is_the_field(d):
    field = smooth_field(d, 4.0, 0)
    root = square_root(field)
    assert largest(compose(root, root) - field) < 0.01
    # Half of it is another field.
    assert largest(compose(field / 2, field / 2) - field) > 0.3


@pytest.mark.parametrize("d", [2, 3])
def test_with_the_images_swapped_the_result_is_the_inverse(d):
    forward = smooth_field(d, 3.0 if d == 2 else 1.5, 1)
    backward = compose(invert(forward), smooth_field(d, 1.0, 2))
    one, cycle = symmetric(forward, backward)
    other, _ = symmetric(backward, forward)
    assert float(cycle.max()) == pytest.approx(
        largest(compose(forward, backward)), rel=1e-5
    )
    before, after = largest(compose(forward, backward)), largest(compose(one, other))
    assert before > 0.7
    # The remaining error comes from linear interpolation.
    assert after < 0.1


@pytest.mark.parametrize(("size", "seed"), [(8.0, 4), (8.0, 8), (10.0, 5), (10.0, 9)])
def test_steep_cycles_do_not_fold_the_result(size, seed):
    """Directions that disagree by 8 voxels and more, and nearly fold."""
    forward = smooth_field(2, size, seed)
    backward = compose(smooth_field(2, size, seed + 10), invert(forward))
    least = [
        float(jacobian_determinant(field).min())
        for field in (forward, backward, compose(forward, backward))
    ]
    assert 0 < min(least) < 0.3
    found, cycle = symmetric(forward, backward)
    assert float(cycle.max()) > 7
    assert float(jacobian_determinant(found).min()) > min(least)


def test_directions_that_agree_are_kept():
    forward = smooth_field(2, 3.0, 3)
    found, cycle = symmetric(forward, invert(forward))
    assert largest(found - forward) < 0.03
    assert float(cycle.max()) < 0.1
