"""Pairs against volumes that are known everywhere, not only at voxels."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.synthesis.fields.families import FAMILIES, choose_family, sample_field
from regnet_jax.synthesis.generator import (
    VolumeSources,
    make_generator,
    sample_patches,
)
from regnet_jax.synthesis.pairs import add_noise, artificial_pair
from regnet_jax.synthesis.patches import TargetGrid

CONFIG = GeneratorConfig(
    shape=(48, 52),
    spacing=4.0,
    families=("low", "medium", "high"),
    class_limits=(1.5, 4.0, 8.0),
    noise_fixed=0.0,
    noise_moving=0.0,
    patches_per_pair=3,
    patch_size=21,
)
# Targets near the edges of the patches, where the high family has some left out.
WIDE = dataclasses.replace(CONFIG, families=("low", "high"))
WIDE_3D = dataclasses.replace(
    WIDE, shape=(24, 26, 28), patches_per_pair=2, patch_size=15
)
TARGETS, WIDE_TARGETS = TargetGrid(8, 2), TargetGrid(2, 2)
AMPLITUDE, FREQUENCY = 100.0, 0.25


def _waves(points):
    """A sum of one sine for each axis, at any points ``[..., d]``."""
    phase = 0.7 * np.arange(points.shape[-1])
    return AMPLITUDE * np.sin(FREQUENCY * points + phase).sum(-1, keepdims=True)


def _grid(shape):
    return np.moveaxis(np.indices(shape), 0, -1).astype(np.float64)


@pytest.mark.parametrize("shape", [(48, 52), (24, 26, 28)])
def test_fixed_is_moving_at_x_plus_u(shape):
    grid = _grid(shape)
    volume = jnp.asarray(_waves(grid), jnp.float32)
    pair = jax.jit(functools.partial(artificial_pair, spacing=4.0, noise=0.0))(
        jax.random.key(0), volume, FAMILIES["medium"]
    )
    np.testing.assert_array_equal(pair.moving, volume)
    points = grid + np.asarray(pair.displacement, np.float64)
    inside = ((points >= 0) & (points <= np.array(shape) - 1)).all(-1)
    assert inside.mean() > 0.7
    # Linear interpolation of each sine is off by at most f'' / 8.
    bound = len(shape) * AMPLITUDE * FREQUENCY**2 / 8
    error = np.abs(np.asarray(pair.fixed) - _waves(points))[inside]
    assert error.max() < bound + 1e-2
    backward = grid - np.asarray(pair.displacement, np.float64)
    assert np.abs(np.asarray(pair.fixed) - _waves(backward))[inside].max() > 10 * bound


def test_noise_has_the_given_deviation_and_none_costs_nothing():
    image = jnp.full((64, 64, 1), 40.0)
    noise = np.asarray(add_noise(jax.random.key(1), image, 5.0)) - 40
    assert abs(noise.mean()) < 0.3
    assert noise.std() == pytest.approx(5, rel=0.05)
    assert add_noise(jax.random.key(1), image, 0.0) is image


# A volume whose value tells where it was read: linear, so interpolation is exact.
_SLOPES = {2: (64.0, 1.0), 3: (4096.0, 64.0, 1.0)}


def _place(points):
    return (points * np.array(_SLOPES[points.shape[-1]])).sum(-1, keepdims=True)


def _place_volume(key, shape, *, spacing):
    return jnp.asarray(_place(_grid(shape)), jnp.float32)


@functools.cache
def _generate(config):
    """A generator of volumes of ``_place`` instead of chests."""
    sources = VolumeSources(chest=_place_volume)
    sample = functools.partial(sample_patches, sources=sources)
    return jax.jit(make_generator(config, WIDE_TARGETS, sample=sample))


def _start(value, dimensions):
    """The position of which ``_place`` gave the value."""
    digits, value = [], round(float(value))
    for slope in _SLOPES[dimensions]:
        digits.append(int(value // slope))
        value -= int(slope) * digits[-1]
    return np.array(digits)


def _full_field(key, config):
    """The field of a sample, from the same splits of its key."""
    own_key, key = jax.random.split(key)
    family_key = jax.random.split(own_key)[1]
    families = [FAMILIES[name] for name in config.families]
    family = choose_family(family_key, families, [1.0] * len(families))
    field_key = jax.random.split(key, 4)[1]
    volume = jnp.zeros((*config.shape, 1))
    return sample_field(field_key, volume, family, spacing=config.spacing)


@pytest.mark.parametrize("config", [WIDE, WIDE_3D], ids=["2d", "3d"])
def test_patches_line_up_with_the_whole_field(config):
    generate = _generate(config)
    full_field = jax.jit(functools.partial(_full_field, config=config))
    dimensions = len(config.shape)
    half = config.patch_size // 2
    centres = tuple(slice(half, n - config.patch_size + half + 1) for n in config.shape)
    weights, at_centres = [], []
    for seed in range(6):
        key = jax.random.key(seed)
        pairs = jax.tree.map(np.asarray, generate(key))
        field, area = (np.asarray(a) for a in full_field(key))
        for fixed, moving, displacement, weight in zip(*pairs, strict=True):
            start = _start(moving.flat[0], dimensions)
            inside = tuple(slice(s, s + config.patch_size) for s in start)
            here = _grid(config.shape)[inside]
            np.testing.assert_array_equal(moving, _place(here))
            points = np.clip(here + field[inside], 0, np.array(config.shape) - 1)
            np.testing.assert_allclose(fixed, _place(points), atol=0.1)
            lattice = WIDE_TARGETS.slices(config.patch_size, dimensions)
            np.testing.assert_allclose(displacement, field[inside][lattice], atol=1e-4)
            np.testing.assert_array_equal(weight[..., 0], area[inside][lattice])
            weights.append(weight)
            if area[centres].any():
                at_centres.append(area[tuple(start + half)])
    # The high family leaves targets out; a patch's centre is one wherever it can be.
    assert 0.3 < np.mean(weights) < 1
    assert len(at_centres) > len(weights) // 2
    assert all(at_centres)


@pytest.mark.parametrize("config", [WIDE, WIDE_3D], ids=["2D", "3D"])
def test_targets_of_other_classes_than_the_centre_can_be_left_out(config):
    """By the rules of 2017, spelled out; nothing else of the batch changes."""
    config = dataclasses.replace(config, class_limits=(3.0, 9.0, 15.0))
    strict = dataclasses.replace(config, balance_targets=True)
    targets, keys = TargetGrid(0, 1), jax.random.split(jax.random.key(3), 6)
    plain, some = (
        jax.jit(jax.vmap(make_generator(c, targets)))(keys) for c in (config, strict)
    )
    for name in ("fixed", "moving", "displacement"):
        np.testing.assert_array_equal(getattr(some, name), getattr(plain, name))
    size = np.abs(config.spacing * np.asarray(plain.displacement))
    combine = np.all if len(config.shape) == 3 else np.any
    classes = np.where(size.max(-1) < 3.0, 0, -1)
    for index, (low, high) in enumerate([(3.0, 9.0), (9.0, 15.0)], 1):
        member = combine(size >= low, -1) & (size.max(-1) < high)
        classes = np.where(member, index, classes)
    middle = (config.patch_size // 2,) * len(config.shape)
    centre = classes[(..., *middle)].reshape(*classes.shape[:2], *(1,) * len(middle))
    want = np.asarray(plain.weight)[..., 0] * ((classes == centre) & (centre >= 0))
    np.testing.assert_array_equal(np.asarray(some.weight)[..., 0], want)
    assert 0 < want.sum() < np.asarray(plain.weight).sum()


def test_same_key_same_batch():
    generate = jax.jit(make_generator(CONFIG, TARGETS))
    first, again, other = (generate(jax.random.key(seed)) for seed in (0, 0, 1))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(first.moving - other.moving).max() > 1
    assert np.abs(first.displacement - other.displacement).max() > 0.1
    assert first.fixed.shape == first.moving.shape == (3, 21, 21, 1)
    assert first.displacement.shape == (3, 3, 3, 2)
    assert first.weight.shape == (3, 3, 3, 1)


def test_noise_is_on_the_fixed_image_alone():
    without = _generate(WIDE)(jax.random.key(3))
    config = dataclasses.replace(WIDE, noise_fixed=5.0)
    got = _generate(config)(jax.random.key(3))
    np.testing.assert_array_equal(got.moving, without.moving)
    np.testing.assert_array_equal(got.weight, without.weight)
    np.testing.assert_allclose(got.displacement, without.displacement, atol=1e-4)
    noise = np.asarray(got.fixed - without.fixed)
    assert abs(noise.mean()) < 1
    assert noise.std() == pytest.approx(5, rel=0.1)
    # Each patch has noise of its own.
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.2


def test_a_patch_larger_than_the_volume_is_refused():
    with pytest.raises(ValueError, match=r"49\) voxels does not fit"):
        make_generator(dataclasses.replace(CONFIG, patch_size=49))
    make_generator(dataclasses.replace(CONFIG, patch_size=48))
