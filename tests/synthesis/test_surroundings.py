"""Table and arms: where they may lie, and what they leave alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.hounsfield import AIR
from regnet_jax.synthesis.surroundings import arms, table

SPACING = 4.0
MODELS = {"table": table, "arms": arms}


def _trunk(shape=(9, 40, 61)):
    """An elliptic cylinder of 40 HU along the first axis, with a lung of -850 HU."""
    z, y, x = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    image = np.where((y / 11) ** 2 + (x / 18) ** 2 < 1, 40.0, AIR)
    image[((y / 6) ** 2 + ((x - 8) / 5) ** 2 < 1) & (abs(z) < 99)] = -850.0
    return jnp.asarray(image[..., None], jnp.float32)


@functools.cache
def _drawn(name, seed):
    model = jax.jit(functools.partial(MODELS[name], spacing=SPACING))
    return np.asarray(model(jax.random.key(seed), _trunk()))[..., 0]


@pytest.mark.parametrize("name", MODELS)
def test_the_trunk_is_left_alone(name):
    trunk = np.asarray(_trunk())[..., 0]
    for seed in range(6):
        changed = np.abs(_drawn(name, seed) - trunk) > 1
        assert changed.any()
        assert not changed[trunk > AIR].any()
        # Nor is anything drawn above or below it.
        assert not changed[:, : 14 if name == "table" else 0].any()
        assert name == "table" or not changed[..., 17:-17].any()


def test_the_table_lies_behind_the_back_along_the_whole_body():
    for seed in range(6):
        changed = np.abs(_drawn("table", seed) - np.asarray(_trunk())[..., 0]) > 50
        y = np.flatnonzero(changed.any(axis=(0, 2)))
        back = 19.5 + 11
        assert SPACING * (y.min() - back) < 20
        assert (changed == changed[:1]).all()
        # At least two shells of the slab, if it fits.
        assert changed[0, :, 30].sum() >= 1


def test_arms_are_cylinders_of_muscle_around_bone_at_both_sides():
    for seed in range(6):
        drawn = _drawn("arms", seed)
        changed = np.abs(drawn - np.asarray(_trunk())[..., 0]) > 50
        for side in (changed[..., :12], changed[..., -12:]):
            assert side.any()
        assert drawn[..., 12:-12].max() <= 41
        assert drawn.max() > 300


@pytest.mark.parametrize("name", MODELS)
def test_keys_decide_and_slices_stay(name):
    assert np.abs(_drawn(name, 0) - _drawn(name, 1)).max() > 50
    plane = _trunk()[0]
    got = MODELS[name](jax.random.key(0), plane, spacing=SPACING)
    np.testing.assert_array_equal(got, plane)
    empty = jnp.full((8, 9, 10, 1), AIR)
    assert np.isfinite(MODELS[name](jax.random.key(0), empty, spacing=SPACING)).all()
