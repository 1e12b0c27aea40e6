"""Class-balanced choice of training positions by size of displacement.

Source: the reading code of RegNet 2017, which draws voxels of small, middle and
large displacement in equal numbers.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from regnet_jax.geometry import gaussian_smooth, identity_grid, sample
from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.synthesis.pairs import add_noise
from regnet_jax.synthesis.random import by_chance
from regnet_jax.synthesis.scanners import INTENSITY_MODELS, random_chain, sponge

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


# Darker than this, HU, after smoothing with so many voxels, an image shows nothing.
_EMPTY = -960.0
_EMPTY_SIGMA = 1.5


class Pairs(NamedTuple):
    """Windows of artificial pairs.

    Attributes:
        fixed: ``[..., *window, 1]``, HU; the moving image deformed.
        moving: ``[..., *window, 1]``, HU.
        displacement: ``[..., *targets, d]``, voxels, fixed to moving.
        weight: ``[..., *targets, 1]``, 1 where the target is to be learned.
    """

    fixed: jax.Array
    moving: jax.Array
    displacement: jax.Array
    weight: jax.Array


def _window(array, start, size):
    """Cuts ``[size, ..., channel]`` from ``[*spatial, channel]``."""
    dimensions = array.ndim - 1
    starts = (*(start[axis] for axis in range(dimensions)), 0)
    return jax.lax.dynamic_slice(array, starts, (size,) * dimensions + array.shape[-1:])


def _scan(key, image, sigma: float, config: GeneratorConfig):
    """What a scanner makes of it: another intensity by chance, then noise."""
    chain = random_chain([INTENSITY_MODELS[name] for name in config.intensity])
    image = chain(jax.random.fold_in(key, 1), image, spacing=config.spacing)
    return add_noise(key, image, sigma)


def _squeeze(key, image, displacement, chance: float):
    """The deformed image as mass is conserved, by chance."""
    return by_chance(
        key, chance, lambda key: sponge(key, image, displacement), lambda: image
    )


def _seen(image, points, shape):
    """Where an image shows something that lies in the moving volume."""
    dimensions = len(shape)
    smooth = gaussian_smooth(image, [_EMPTY_SIGMA] * dimensions)
    end = jnp.asarray(shape, jnp.float32).reshape((1,) * dimensions + (-1,)) - 1.0
    inside = jnp.all((points >= 0.0) & (points <= end), axis=-1, keepdims=True)
    return (smooth > _EMPTY) & inside


def cut_window(key, volume, deformation, start, config: GeneratorConfig) -> Pairs:
    """One window: only what it shows is warped.

    Args:
        key: random key.
        volume: ``[*spatial, 1]``, HU, of which both images are made.
        deformation: of the whole volume.
        start: ``[d]`` int32, first voxel of the window.
        config: of a single scale.

    Returns:
        ``Pairs`` without leading axes.
    """
    fixed_key, moving_key = jax.random.split(key)
    dimensions = volume.ndim - 1
    displacement = _window(deformation.displacement, start, config.window)
    weight = _window(
        deformation.area[..., None].astype(jnp.float32), start, config.window
    )
    corner = start.astype(jnp.float32).reshape((1,) * dimensions + (-1,))
    grid = identity_grid(displacement.shape[:-1]) + corner
    fixed = sample(volume, grid + displacement)
    if config.unseen < 1.0:
        seen = _seen(fixed, grid + displacement, config.shape)
        weight *= jnp.where(seen, 1.0, config.unseen)
    fixed = _squeeze(
        jax.random.fold_in(fixed_key, 2), fixed, displacement, config.sponge
    )
    moving = _window(volume, start, config.window)
    fixed = _scan(fixed_key, fixed, config.noise_fixed, config)
    moving = _scan(moving_key, moving, config.noise_moving, config)
    targets = slice(config.margin, config.window - config.margin, config.stride)
    at_targets = (targets,) * dimensions
    return Pairs(fixed, moving, displacement[at_targets], weight[at_targets])


def draw_starts(key, deformation, config: GeneratorConfig):
    """Corners of the windows, balanced by the class at the windows' centres.

    Args:
        key: random key.
        deformation: of the whole volume.
        config: of a single scale.

    Returns:
        ``[config.windows, d]`` int32.
    """
    dimensions = len(config.shape)
    half = config.window // 2
    centres = tuple(slice(half, half + n - config.window + 1) for n in config.shape)
    classes = displacement_class(
        deformation.displacement[centres] * config.spacing,
        config.limits,
        jnp.all if dimensions == 3 else jnp.any,
    )
    return draw_positions(
        key,
        classes,
        deformation.area[centres],
        config.windows,
        number_of_classes=len(config.limits),
    )
