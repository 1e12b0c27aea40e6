"""Properties that hold for any image and field, drawn by hypothesis."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regnet_jax.geometry import compose, invert, jacobian_determinant, warp

few = settings(max_examples=8, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
jit_warp = jax.jit(warp, static_argnames=("order", "fill"))
jit_compose = jax.jit(compose)
jit_invert = jax.jit(functools.partial(invert, tolerance=1e-7))
jit_determinant = jax.jit(jacobian_determinant)

CUBE = (6, 6, 6)
PLANE = (14, 17)


def _random(seed, shape, channels, scale=1.0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-scale, scale, (*shape, channels)).astype(np.float32)


def _grid(shape):
    return np.moveaxis(np.indices(shape), 0, -1).astype(np.float32)


def _wave(rng, shape, amplitude):
    """A smooth field as a function of the position, and of slope below 0.3."""
    waves = rng.uniform(-1, 1, (len(shape), len(shape))) * 0.25
    phase = rng.uniform(0, 2 * np.pi, len(shape))
    scale = rng.uniform(-amplitude, amplitude, len(shape))
    return lambda x: scale * np.sin(x @ waves + phase)


def _permuted(array, axes):
    """Image with its axes permuted: ``result[x[axes]] = array[x]``."""
    return np.transpose(array, (*axes, len(axes)))


def _flipped(array, axes):
    return np.flip(np.asarray(array), axes)


@few
@given(seed=seeds, shift=st.tuples(*[st.integers(-4, 4)] * 3))
def test_warp_by_whole_voxels_shifts_the_image_against_the_field(seed, shift):
    image = _random(seed, CUBE, 2)
    field = np.broadcast_to(np.float32(shift), (*CUBE, 3))
    padded = np.pad(image, [(4, 4)] * 3 + [(0, 0)], mode="edge")
    start = np.add(shift, 4)
    want = padded[tuple(slice(s, s + n) for s, n in zip(start, CUBE, strict=True))]
    np.testing.assert_allclose(jit_warp(image, field), want, atol=1e-6)
    outside = (_grid(CUBE) + shift < 0) | (_grid(CUBE) + shift > np.array(CUBE) - 1)
    want = np.where(outside.any(-1, keepdims=True), 9.0, want)
    np.testing.assert_allclose(jit_warp(image, field, fill=9.0), want, atol=1e-6)


@few
@given(seed=seeds, axes=st.permutations(range(3)))
def test_warp_is_equivariant_to_permuted_axes(seed, axes):
    image, field = _random(seed, CUBE, 1), _random(seed + 1, CUBE, 3, scale=1.4)
    turned = _permuted(field, axes)[..., list(axes)]
    for order in (0, 1):
        want = _permuted(jit_warp(image, field, order=order), axes)
        got = jit_warp(_permuted(image, axes), turned, order=order)
        np.testing.assert_allclose(got, want, atol=1e-5)
    want = _permuted(jit_compose(field, field), axes)[..., list(axes)]
    np.testing.assert_allclose(jit_compose(turned, turned), want, atol=1e-5)
    want = np.transpose(jit_determinant(field), axes)
    np.testing.assert_allclose(jit_determinant(turned), want, atol=1e-4)


@few
@given(seed=seeds, axes=st.sets(st.integers(0, 1), min_size=1))
def test_warp_is_equivariant_to_flips(seed, axes):
    axes = tuple(axes)
    image, field = _random(seed, PLANE, 1), _random(seed + 1, PLANE, 2, scale=1.4)
    sign = np.where(np.isin(np.arange(2), axes), -1, 1).astype(np.float32)
    turned = _flipped(field, axes) * sign
    for order in (1, 3):
        want = _flipped(jit_warp(image, field, order=order, fill=0.0), axes)
        got = jit_warp(_flipped(image, axes), turned, order=order, fill=0.0)
        np.testing.assert_allclose(got, want, atol=2e-5)
    want = _flipped(jit_compose(field, field), axes) * sign
    np.testing.assert_allclose(jit_compose(turned, turned), want, atol=1e-5)
    want = _flipped(jit_determinant(field), axes)
    np.testing.assert_allclose(jit_determinant(turned), want, atol=1e-4)
    want = _flipped(jit_invert(0.3 * field), axes) * sign
    np.testing.assert_allclose(jit_invert(0.3 * turned), want, atol=1e-4)


@few
@given(seed=seeds)
def test_warp_by_composed_field_is_two_warps(seed):
    """Against the analytic image at the analytic positions, and in two steps."""
    rng = np.random.default_rng(seed)
    u, v = _wave(rng, PLANE, 1.5), _wave(rng, PLANE, 1.5)
    phase = rng.uniform(0, 6, 2)
    image = lambda x: np.sum(np.sin(0.35 * x + phase), -1, keepdims=True)  # noqa: E731
    x = _grid(PLANE).astype(np.float64)
    once = image(x + u(x) + v(x + u(x)))
    first, second, moving = (f(x).astype(np.float32) for f in (u, v, image))
    composed = jit_warp(moving, jit_compose(first, second), order=3)
    in_steps = jit_warp(jit_warp(moving, second, order=3), first, order=3)
    inner = (slice(5, -5), slice(5, -5))
    np.testing.assert_allclose(composed[inner], once[inner], atol=0.02)
    np.testing.assert_allclose(in_steps[inner], once[inner], atol=0.02)


@few
@given(seed=seeds)
def test_inverse_undoes_the_field_on_both_sides(seed):
    rng = np.random.default_rng(seed)
    field = _wave(rng, PLANE, 1.2)(_grid(PLANE)).astype(np.float32)
    inverse = jit_invert(field)
    inner = (slice(3, -3), slice(3, -3))
    there_and_back = jit_compose(inverse, field)[inner]
    np.testing.assert_allclose(there_and_back, 0, atol=1e-4)
    # The other order reads the inverse between its voxels.
    back_and_there = jit_compose(field, inverse)[inner]
    np.testing.assert_allclose(back_and_there, 0, atol=0.03)


@few
@given(seed=seeds)
def test_jacobians_multiply_under_composition(seed):
    """``det(second after first) = det(first) * det(second) at x + first``."""
    rng = np.random.default_rng(seed)
    first, second = (
        _wave(rng, PLANE, 0.8)(_grid(PLANE)).astype(np.float32) for _ in range(2)
    )
    whole = jit_determinant(jit_compose(first, second))
    parts = jit_determinant(first)[..., None] * jit_warp(
        jit_determinant(second)[..., None], first
    )
    inner = (slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(whole[inner], parts[inner][..., 0], atol=0.03)


@pytest.mark.parametrize("amplitude", [0.0, 0.5])
def test_constant_field_is_inverted_by_its_negative(amplitude):
    field = jnp.full((*PLANE, 2), amplitude)
    np.testing.assert_allclose(jit_invert(field), -field, atol=1e-6)
    zero = jnp.zeros_like(field)
    np.testing.assert_allclose(jit_compose(zero, field), field, atol=1e-6)
    np.testing.assert_allclose(jit_compose(field, zero), field, atol=1e-6)
