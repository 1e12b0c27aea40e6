"""Refinement: the gradient of its objective, and fields that get better."""

import functools
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import ndimage

from regnet_jax.geometry import jacobian_determinant, warp
from regnet_jax.registration import refinement
from regnet_jax.registration.inference.boxes import BlendBox, cover_grid
from regnet_jax.registration.inference.programs import KeptProgram
from regnet_jax.registration.refinement import (
    RefinementWeights,
    compile_refinement_ahead,
    find_refined_region,
    objective,
    refine,
    refine_on_body,
)


@pytest.mark.parametrize("shape", [(11, 13), (7, 9, 8)], ids=str)
def test_the_gradient_of_the_objective_equals_finite_differences(shape):
    with jax.enable_x64(True):
        rng = np.random.default_rng(2)
        fixed, moving = (
            jnp.asarray(ndimage.gaussian_filter(rng.uniform(size=shape), 1.0))
            for _ in range(2)
        )
        field = jnp.asarray(0.3 * rng.normal(size=(*shape, len(shape))))
        counts = [(n - 1) // 3 + 4 for n in shape]
        start = jnp.asarray(0.1 * rng.normal(size=(*counts, len(shape))))
        weight = jnp.ones(shape)
        mobility = jnp.asarray(rng.uniform(size=(*shape, 1)))
        function = functools.partial(
            objective,
            fixed=fixed,
            moving=moving,
            field=field,
            mobility=mobility,
            weight=weight,
            box=cover_grid(shape),
            weights=RefinementWeights(),
        )
        check_grads(
            jax.jit(function), (start,), order=1, modes=["rev"], eps=1e-6, rtol=1e-4
        )


def _pair(shape, seed=0):
    """A smooth pair of images with texture, and the field between them."""
    rng = np.random.default_rng(seed)
    texture = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    moving = jnp.asarray(200.0 * texture / texture.std() - 350.0, jnp.float32)
    grid = np.indices(shape) / np.reshape(shape, (-1,) + (1,) * len(shape))
    bump = np.prod(np.sin(np.pi * grid), axis=0)
    size = np.linspace(1.0, 2.0, len(shape))
    truth = jnp.asarray(bump[..., None] * size, jnp.float32)
    return warp(moving[..., None], truth)[..., 0], moving, truth


@pytest.mark.parametrize("shape", [(47, 52), (33, 28, 31)], ids=str)
def test_refinement_finds_a_smooth_field_without_folding(shape):
    fixed, moving, truth = _pair(shape)
    inside = (slice(3, -3),) * len(shape)

    def error(field):
        return float(jnp.linalg.norm(field - truth, axis=-1)[inside].mean())

    zero = jnp.zeros_like(truth)
    better = refine(fixed, moving, zero, (30, 15))
    assert error(better) < 0.3 * error(zero)
    assert float(jacobian_determinant(better).min()) > 0
    # From near the truth it stays near.
    near = 0.9 * truth
    assert error(refine(fixed, moving, near, (20, 10))) < error(near) + 0.05


@pytest.mark.parametrize("shape", [(47, 52), (33, 28, 31)], ids=str)
def test_noise_moves_little_beside_structure(shape):
    """Both images have noise of their own; one half has nothing else."""
    fixed, moving, truth = _pair(shape)
    half = np.arange(shape[-1]) < shape[-1] // 2
    rng = np.random.default_rng(7)
    noisy = [
        jnp.where(half, image, -350.0) + 30.0 * rng.normal(size=shape)
        for image in (fixed, moving)
    ]
    change = refine(*noisy, truth, (30, 15)) - truth
    length = np.linalg.norm(change, axis=-1)
    assert length[..., : shape[-1] // 2 - 4].mean() < 0.17


def test_only_the_box_changes_and_samples_beyond_it_count():
    """All of the motion is a shift out of the window, which only a look beyond
    its faces can find.
    """
    shape, box = (47, 64), BlendBox(jnp.array([0, 16], jnp.int32), (47, 32))
    rng = np.random.default_rng(5)
    texture = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    moving = jnp.asarray(200.0 * texture / texture.std() - 350.0, jnp.float32)
    shift = jnp.broadcast_to(jnp.array([0.0, 12.0]), (*shape, 2))
    fixed = warp(moving[..., None], shift)[..., 0]
    got = refine(fixed, moving, 0.9 * shift, (30, 15), box=box)
    outside = np.ones(shape, bool)
    outside[:, 16:48] = False
    np.testing.assert_allclose(got[outside], 0.9 * shift[outside], rtol=1e-6)
    error = np.abs(np.asarray(got - shift))[4:-4, 24:36].mean()
    assert error < 0.3 * float(np.abs(0.1 * shift).mean())


@pytest.mark.parametrize("shape", [(47, 52), (33, 28, 31)], ids=str)
def test_hidden_parts_are_not_compared(shape):
    """A band of each image holds something else: hidden it does no harm."""
    fixed, moving, truth = _pair(shape)
    here, there = np.ones(shape, bool), np.ones(shape, bool)
    here[:6], there[..., -8:] = False, False
    spoilt = [
        jnp.where(where, image, 900.0)
        for where, image in ((here, fixed), (there, moving))
    ]
    away = (slice(9, -3),) * (len(shape) - 1) + (slice(3, -12),)

    def error(field):
        return float(jnp.linalg.norm(field - truth, axis=-1)[away].mean())

    near = 0.8 * truth
    clean = refine(fixed, moving, near, (30, 15), shown=(here, there))
    hidden = refine(*spoilt, near, (30, 15), shown=(here, there))
    assert error(hidden) < 0.7 * error(near)
    # What is spoilt has no say, but for what half a voxel of motion brings near.
    assert float(jnp.abs(hidden - clean)[away].max()) < 0.1
    seen = refine(*spoilt, near, (30, 15))
    worst, without = (float(jnp.abs(f - clean).max()) for f in (hidden, seen))
    assert worst < 0.5 * without
    assert without > 0.5


@pytest.mark.parametrize("side", [0, 1], ids=["fixed", "moving"])
@pytest.mark.parametrize("shape", [(47, 52), (33, 28, 31)], ids=str)
def test_intensities_of_ignored_voxels_change_nothing(shape, side):
    """Not a bit, also where the field moves them; and what is immobile stays."""
    *images, truth = _pair(shape)
    d = len(shape)
    where = np.zeros(shape, bool)
    where[(slice(8, 15),) * d] = True
    ignored = [np.zeros(shape, bool), np.zeros(shape, bool)]
    ignored[side] = where
    mobility = np.ones(shape, np.float32)
    mobility[-12:] = 0.0
    start, fields = 0.3 * truth, []
    for value in (-600.0, 900.0):
        given = list(images)
        given[side] = jnp.where(where, value, images[side])
        limits = {"ignored": tuple(ignored), "mobility": mobility}
        fields.append(refine(*given, start, (30, 15), **limits))
    np.testing.assert_array_equal(*fields)
    np.testing.assert_array_equal(fields[0][-12:], start[-12:])
    inside = (slice(3, -15),) * d

    def error(field):
        return float(jnp.linalg.norm(field - truth, axis=-1)[inside].mean())

    assert error(fields[0]) < 0.7 * error(start)


def test_no_steps_keep_the_field():
    fixed, moving, truth = _pair((24, 27))
    np.testing.assert_allclose(refine(fixed, moving, truth, (0, 0)), truth, atol=1e-6)


def test_the_folding_penalty_prevents_folds():
    # A field that is steep enough to fold would match these images best.
    fixed, moving, _ = _pair((40, 40))
    fixed = fixed.at[:20].set(jnp.roll(fixed, 5, 1)[:20])
    fixed = fixed.at[20:].set(jnp.roll(fixed, -5, 1)[20:])
    zero = jnp.zeros((40, 40, 2))
    free = RefinementWeights(smoothness=0.0, folding=0.0, learning_rate=0.5)
    folded = refine(fixed, moving, zero, (60, 60), weights=free)
    kept = refine(fixed, moving, zero, (60, 60), weights=free._replace(folding=100.0))
    assert float(jacobian_determinant(folded).min()) < 0
    part = float((jacobian_determinant(kept) <= 0).mean())
    assert part < 0.1 * float((jacobian_determinant(folded) <= 0).mean())


def test_refinement_on_the_body_keeps_the_grid():
    shape = (30, 37)
    fixed, moving, truth = (np.array(a) for a in _pair(shape))
    fixed[:5] = moving[:5] = -1000.0
    field = refine_on_body(fixed, moving, np.zeros_like(truth), steps=30, spacing=2.0)
    assert field.shape == truth.shape
    assert np.isfinite(field).all()
    inside = (slice(8, -3), slice(3, -3))
    before, after = (
        np.linalg.norm(f - truth, axis=-1)[inside].mean() for f in (0 * truth, field)
    )
    assert after < 0.5 * before


@pytest.mark.parametrize("shape", [(30, 37), (23, 20, 27)], ids=str)
@pytest.mark.parametrize("immobile", [False, True])
def test_a_refinement_compiles_nothing_that_was_not_prepared(
    monkeypatch, shape, immobile
):
    traced = []

    def counted(fixed, moving, displacement, iterations, limits, box):
        traced.append(fixed.shape)
        return refine(fixed, moving, displacement, iterations, **limits, box=box)

    program = KeptProgram(counted, static_argnames=())
    monkeypatch.setattr(refinement, "_refine_in_box", program)
    fixed, moving, truth = (np.array(a) for a in _pair(shape))
    fixed[:5] = moving[:5] = -1000.0
    region = find_refined_region(fixed, spacing=2.0, whole=immobile)
    with ThreadPoolExecutor(1) as pool:
        compile_refinement_ahead(region, pool)
    assert len(traced) == 1
    options = {"steps": 6, "spacing": 2.0}
    if immobile:
        options["mobility"] = np.ones(shape, np.float32)
    zero = np.zeros_like(truth)
    field = refine_on_body(fixed, moving, zero, region=region, **options)
    again = refine_on_body(fixed, moving, zero, **options)
    np.testing.assert_array_equal(field, again)
    masks = np.ones(shape, bool), np.zeros(shape, bool)
    refine_on_body(
        fixed, moving, zero, shown=masks[:1] * 2, ignored=(None, masks[1]), **options
    )
    assert len(traced) == 1
