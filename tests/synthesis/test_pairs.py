"""Pairs against volumes that are known everywhere, not only at voxels."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.synthesis import generator
from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.synthesis.fields.families import FAMILIES, choose_family, draw_field
from regnet_jax.synthesis.generator import make_generator
from regnet_jax.synthesis.pairs import add_noise, artificial_pair
from regnet_jax.synthesis.volumes.shapes import gaussian_noise

CONFIG = GeneratorConfig(
    shape=(48, 52),
    spacing=4.0,
    families=("low", "medium", "high"),
    limits=(1.5, 4.0, 8.0),
    noise_fixed=0.0,
    noise_moving=0.0,
    windows=3,
    window=21,
    margin=8,
    stride=2,
)
# Targets near the edges of the windows, where the high family has some left out.
WIDE = dataclasses.replace(CONFIG, families=("low", "high"), margin=2)
WIDE_3D = dataclasses.replace(WIDE, shape=(24, 26, 28), windows=2, window=15)
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


@pytest.fixture
def places(monkeypatch):
    """Volumes of ``_place`` instead of chests."""
    monkeypatch.setattr(generator, "chest", _place_volume)


@functools.cache
def _generate(config):
    return jax.jit(make_generator(config))


def _start(value, dimensions):
    """The position of which ``_place`` gave the value."""
    digits, value = [], round(float(value))
    for slope in _SLOPES[dimensions]:
        digits.append(int(value // slope))
        value -= int(slope) * digits[-1]
    return np.array(digits)


def _full_field(key, config):
    """The field of a sample, from the same splits of its key."""
    family_key, key = jax.random.split(key)
    families = [FAMILIES[name] for name in config.families]
    family = choose_family(family_key, families, [1.0] * len(families))
    field_key = jax.random.split(key, 4)[1]
    volume = jnp.zeros((*config.shape, 1))
    return draw_field(field_key, volume, family, spacing=config.spacing)


@pytest.mark.usefixtures("places")
@pytest.mark.parametrize("config", [WIDE, WIDE_3D], ids=["2d", "3d"])
def test_windows_line_up_with_the_whole_field(config):
    generate = _generate(config)
    full_field = jax.jit(functools.partial(_full_field, config=config))
    dimensions = len(config.shape)
    weights = []
    for seed in range(6):
        key = jax.random.key(seed)
        pairs = jax.tree.map(np.asarray, generate(key))
        field, area = (np.asarray(a) for a in full_field(key))
        for fixed, moving, displacement, weight in zip(*pairs, strict=True):
            start = _start(moving.flat[0], dimensions)
            inside = tuple(slice(s, s + config.window) for s in start)
            here = _grid(config.shape)[inside]
            np.testing.assert_array_equal(moving, _place(here))
            points = np.clip(here + field[inside], 0, np.array(config.shape) - 1)
            np.testing.assert_allclose(fixed, _place(points), atol=0.1)
            lattice = (slice(config.margin, config.window - config.margin, 2),)
            lattice *= dimensions
            np.testing.assert_allclose(displacement, field[inside][lattice], atol=1e-4)
            np.testing.assert_array_equal(weight[..., 0], area[inside][lattice])
            weights.append(weight)
    # The high family leaves targets out; a window's centre is always one.
    assert 0.3 < np.mean(weights) < 1
    middle = (slice(None), *(weights[0].shape[0] // 2,) * dimensions)
    np.testing.assert_array_equal(np.array(weights)[middle], 1)


def test_same_key_same_batch():
    generate = jax.jit(make_generator(CONFIG))
    first, again, other = (generate(jax.random.key(seed)) for seed in (0, 0, 1))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(first.moving - other.moving).max() > 1
    assert np.abs(first.displacement - other.displacement).max() > 0.1
    assert first.fixed.shape == first.moving.shape == (3, 21, 21, 1)
    assert first.displacement.shape == (3, 3, 3, 2)
    assert first.weight.shape == (3, 3, 3, 1)


def test_noise_in_rounds_is_that_of_jax():
    for shape in ((1, 3), (9, 4, 2)):
        got = gaussian_noise(jax.random.key(4), shape)
        np.testing.assert_array_equal(got, jax.random.normal(jax.random.key(4), shape))


@pytest.mark.usefixtures("places")
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
    # Each window has noise of its own.
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.2


def test_a_window_larger_than_the_volume_is_refused():
    with pytest.raises(ValueError, match="49 voxels does not fit"):
        make_generator(dataclasses.replace(CONFIG, window=49))
    make_generator(dataclasses.replace(CONFIG, window=48))
