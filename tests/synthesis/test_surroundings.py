"""Table and arms: where they may lie, and what they leave alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.hounsfield import AIR
from regnet_jax.synthesis.pairs import ArtificialPair, two_scans
from regnet_jax.synthesis.surroundings import arms, table

SPACING = 4.0
MODELS = {"table": table, "arms": arms}


def _trunk(shape=(9, 40, 61)):
    """An elliptic cylinder of 40 HU along the first axis, with a lung of -850 HU."""
    _, y, x = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    image = np.where((y / 11) ** 2 + (x / 18) ** 2 < 1, 40.0, AIR)
    image[(y / 6) ** 2 + ((x - 8) / 5) ** 2 < 1] = -850.0
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
        # Nor is anything drawn in front of the table, or between the arms.
        elsewhere = changed[:, :14] if name == "table" else changed[..., 17:-17]
        assert not elsewhere.any()


def test_the_table_lies_behind_the_back_along_the_whole_body():
    for seed in range(6):
        changed = np.abs(_drawn("table", seed) - np.asarray(_trunk())[..., 0]) > 50
        y = np.flatnonzero(changed.any(axis=(0, 2)))
        back = 19.5 + 11
        assert SPACING * (y.min() - back) < 20
        assert (changed == changed[:1]).all()


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


def test_two_scans_are_independent():
    """Table, arms and noise of an image tell nothing of each other, or of the other."""
    trunk = _trunk()
    still = jnp.zeros((*trunk.shape[:-1], 3))
    pair = ArtificialPair(trunk, trunk, still, still[..., 0] == 0)
    scan = jax.jit(functools.partial(two_scans, spacing=SPACING))
    muscle = np.asarray(trunk)[..., 0] == 40
    muscle &= ~np.isin(np.indices(muscle.shape)[1], range(13, 27))
    seen, residues = [], []
    for seed in range(24):
        both = scan(jax.random.key(seed), pair)
        np.testing.assert_array_equal(both.displacement, still)
        added = [
            np.asarray(image - trunk)[..., 0] for image in (both.fixed, both.moving)
        ]
        residues.append(np.corrcoef(*(each[muscle] for each in added))[0, 1])
        has_arms = added[0][:, 12:28, [0, 1, 2, -3, -2, -1]].max() > 500
        has_table = added[0][:, 33:, 28:33].max() > 300
        seen.append((has_arms, has_table, added[0][muscle].std() > 12))
    assert {True, False} == {arm for arm, *_ in seen}
    assert len({(arm, slab) for arm, slab, _ in seen}) == 4
    assert len({(arm, noisy) for arm, _, noisy in seen}) == 4
    assert np.abs(np.mean(residues)) < 0.3


def test_both_arms_are_there_beyond_the_end_of_the_body():
    """Where a scan ends, rows without tissue are free on both sides."""
    trunk = _trunk().at[:4].set(AIR)
    for seed in range(3):
        drawn = arms(jax.random.key(seed), trunk, spacing=SPACING)
        beyond = np.asarray(drawn)[:4, ..., 0] > AIR + 100
        assert beyond[..., :12].any()
        assert beyond[..., -12:].any()
