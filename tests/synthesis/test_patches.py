"""Classes and balance against the rules written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.synthesis.patches import displacement_class, sample_positions

LIMITS = (1.5, 4.0, 8.0)


def _class_by_hand(u, combine):
    size = [abs(float(c)) for c in u]
    if all(s < 1.5 for s in size):
        return 0
    for index, (low, high) in enumerate([(1.5, 4.0), (4.0, 8.0)], 1):
        if combine(s >= low for s in size) and all(s < high for s in size):
            return index
    return -1


@pytest.mark.parametrize(("ours", "by_hand"), [(jnp.all, all), (jnp.any, any)])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_classes_are_those_of_the_rules(dimensions, ours, by_hand):
    rng = np.random.default_rng(dimensions)
    field = rng.uniform(-9, 9, (400, dimensions)).astype(np.float32)
    field[:200] /= 3
    # Every combination of the limits themselves, and of both signs.
    edges = np.array([0, 1.5, -1.5, 4, -4, 8, -8], np.float32)
    corners = np.stack(np.meshgrid(*[edges] * dimensions), -1).reshape(-1, dimensions)
    field = np.concatenate([field, corners])
    want = [_class_by_hand(u, by_hand) for u in field]
    got = displacement_class(jnp.asarray(field), LIMITS, ours)
    assert got.dtype == jnp.int32
    np.testing.assert_array_equal(got, want)
    assert set(want) == {-1, 0, 1, 2}


def test_classes_in_3d_and_2d_differ_where_components_do():
    field = jnp.array([[0.0, 0.0, 5.0], [5.0, -5.0, 5.0], [2.0, 2.0, 5.0]])
    np.testing.assert_array_equal(
        displacement_class(field, LIMITS, jnp.all), [-1, 2, -1]
    )
    np.testing.assert_array_equal(displacement_class(field, LIMITS, jnp.any), [2, 2, 2])


def _unequal_classes():
    """Class 0 fills 97 %, class 1 2 % and class 2 1 % of the positions."""
    classes = np.zeros((50, 40), np.int32)
    classes[10:15, 20:28] = 1
    classes[40:44, 2:7] = 2
    return jnp.asarray(classes)


_jit_sample = jax.jit(sample_positions, static_argnames=("count", "number_of_classes"))


def _draw(key, classes, allowed, count, number=3):
    return np.asarray(
        _jit_sample(key, classes, allowed, count, number_of_classes=number)
    )


def test_classes_are_drawn_equally_often():
    classes = _unequal_classes()
    position = _draw(jax.random.key(0), classes, classes >= 0, 300)
    assert position.shape == (300, 2)
    assert position.dtype == np.int32
    drawn = np.asarray(classes)[tuple(position.T)]
    np.testing.assert_array_equal(np.bincount(drawn), [100, 100, 100])
    # Within a class every position is equally likely.
    places = position[drawn == 1]
    assert len(np.unique(places, axis=0)) > 30
    np.testing.assert_allclose(places.mean(0), [12, 23.5], atol=1)
    np.testing.assert_allclose(position[drawn == 0].mean(0), [24.5, 19.5], atol=5)


def test_classes_are_balanced_over_pairs_of_few_windows():
    classes = _unequal_classes()
    keys = jax.random.split(jax.random.key(1), 150)
    position = np.concatenate([_draw(key, classes, classes >= 0, 2) for key in keys])
    counts = np.bincount(np.asarray(classes)[tuple(position.T)])
    assert counts.sum() == 300
    assert counts.min() > 75


def test_only_allowed_positions_are_drawn():
    classes = _unequal_classes()
    allowed = np.zeros((50, 40), bool)
    allowed[12:, 5:25] = True
    position = _draw(jax.random.key(2), classes, jnp.asarray(allowed), 300)
    assert allowed[tuple(position.T)].all()
    drawn = np.asarray(classes)[tuple(position.T)]
    np.testing.assert_array_equal(np.bincount(drawn), [100, 100, 100])


def test_a_missing_class_is_replaced_by_what_is_allowed():
    classes = jnp.zeros((50, 40), jnp.int32)
    allowed = np.zeros((50, 40), bool)
    allowed[5:9, 7:30] = True
    position = _draw(jax.random.key(3), classes, jnp.asarray(allowed), 300)
    assert allowed[tuple(position.T)].all()
    assert len(np.unique(position, axis=0)) > 80


def test_without_classes_all_that_is_allowed_is_equally_likely():
    classes = jnp.zeros((50, 40), jnp.int32)
    position = _draw(jax.random.key(4), classes, classes == 0, 400, number=1)
    np.testing.assert_allclose(position.mean(0), [24.5, 19.5], atol=2.5)
    assert position.min() == 0
    np.testing.assert_array_equal(position.max(0), [49, 39])


def test_a_single_class_is_sampled_alone():
    classes = _unequal_classes() - 1
    position = _draw(jax.random.key(5), classes, classes > -2, 300, number=1)
    drawn = np.asarray(classes)[tuple(position.T)]
    assert (drawn == 0).all()


def test_positions_in_3d_stay_in_the_volume():
    classes = jnp.zeros((3, 4, 5), jnp.int32).at[2, 3, 4].set(1)
    position = _draw(jax.random.key(5), classes, classes >= 0, 8, number=2)
    same = (position == np.array([2, 3, 4])).all(-1)
    assert same.sum() == 4
    assert (position < np.array([3, 4, 5])).all()
