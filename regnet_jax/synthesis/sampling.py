"""Class-balanced choice of training positions by size of displacement.

Source: the reading code of RegNet 2017, which draws voxels of small, middle and
large displacement in equal numbers.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

# Positions looked at for each draw. A class rarer than this is not found.
_CANDIDATES = 2048


def displacement_class(displacement, limits: Sequence[float], combine: Callable):
    """The class of each displacement by the magnitudes of its components.

    Class 0 has all components below the first limit. Class i has its components
    from limit i - 1 up to limit i: all of them with ``combine=jnp.all`` as in 3D,
    at least one, and none beyond, with ``combine=jnp.any`` as in 2D.

    Args:
        displacement: ``[..., d]``, in the unit of the limits.
        limits: increasing upper limits of the classes.
        combine: ``jnp.all`` or ``jnp.any``.

    Returns:
        ``[...]`` int32, -1 for displacements of no class.
    """
    size = jnp.abs(displacement)
    largest = jnp.max(size, axis=-1)
    result = jnp.where(largest < limits[0], 0, -1)
    for index in range(1, len(limits)):
        member = combine(size >= limits[index - 1], axis=-1) & (largest < limits[index])
        result = jnp.where(member, index, result)
    return result.astype(jnp.int32)


def draw_positions(key, classes, allowed, count: int, *, number_of_classes: int):
    """Draws positions so that each class is met equally often.

    Among random candidates the first of the wanted class is taken. Where the class
    does not occur, any allowed candidate is.

    Args:
        key: random key.
        classes: ``[*spatial]`` int32, the class of each position.
        allowed: ``[*spatial]`` bool.
        count: how many to draw.
        number_of_classes: classes to balance; 1 draws from all that is allowed.

    Returns:
        ``[count, d]`` int32 positions.
    """
    class_key, candidate_key = jax.random.split(key)
    wanted = jnp.arange(count) + jax.random.randint(class_key, (), 0, number_of_classes)
    wanted %= number_of_classes
    shape = jnp.asarray(classes.shape).reshape(1, 1, -1)
    candidates = jax.random.randint(
        candidate_key, (count, _CANDIDATES, classes.ndim), 0, shape
    )
    index = tuple(candidates[..., axis] for axis in range(classes.ndim))
    fits = (classes[index] == wanted[:, None]) | (number_of_classes == 1)
    score = allowed[index] * (1 + fits.astype(jnp.int32))
    best = jnp.argmax(score, axis=1)
    return candidates[jnp.arange(count), best]
