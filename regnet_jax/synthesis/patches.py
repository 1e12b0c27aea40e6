"""Patches of artificial pairs: their positions and their content.

Positions are balanced by the size of the displacement. Source: the reading code of
RegNet 2017, which samples voxels of small, middle and large displacement in equal
numbers.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from regnet_jax.geometry import identity_grid, sample
from regnet_jax.geometry.slices import SLICE_AXES, drop_across
from regnet_jax.intensity import MAPPED_RANGE
from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.synthesis.pairs import add_noise
from regnet_jax.synthesis.random import with_probability
from regnet_jax.synthesis.scanners import INTENSITY_MODELS, random_chain, sponge

# Candidates for each position. A class that is rarer than one of these is missed.
_CANDIDATES = 2048


def displacement_class(displacement, limits: Sequence[float], combine: Callable):
    """Return the class of each displacement by the magnitudes of its components.

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


def sample_positions(key, classes, allowed, count: int, *, number_of_classes: int):
    """Sample positions so that every class occurs equally often.

    Of random candidates, the first of the wanted class is taken; where that class does
    not occur, any allowed one; and any at all where none is allowed.

    Args:
        key: random key.
        classes: ``[*spatial]`` int32, the class of each position.
        allowed: ``[*spatial]`` bool.
        count: number of positions.
        number_of_classes: classes to balance; 1 samples all allowed positions equally.

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
    fits = classes[index] == wanted[:, None]
    score = allowed[index] * (1 + fits.astype(jnp.int32))
    best = jnp.argmax(score, axis=1)
    return candidates[jnp.arange(count), best]


class PatchBatch(NamedTuple):
    """Patches of artificial pairs.

    Attributes:
        fixed: ``[..., *patch, 1]``, HU; the moving image deformed.
        moving: ``[..., *patch, 1]``, HU.
        displacement: ``[..., *targets, d]``, voxels, fixed to moving.
        weight: ``[..., *targets, 1]``, not negative; 0 where nothing is learned.
    """

    fixed: jax.Array
    moving: jax.Array
    displacement: jax.Array
    weight: jax.Array


class TargetGrid(NamedTuple):
    """The voxels of a patch that have a target: those that the network predicts.

    ``models.support.Support`` has these numbers for every network.

    Attributes:
        margin: voxels from the edge of a patch to the first target.
        stride: voxels from one target to the next.
    """

    margin: int = 0
    stride: int = 1

    def slices(self, patch_size: int, dimensions: int) -> tuple[slice, ...]:
        """Return the slices that crop a patch to its targets.

        Args:
            patch_size: voxels of a patch along each axis.
            dimensions: 2 or 3.

        Returns:
            A slice for each axis.
        """
        targets = slice(self.margin, patch_size - self.margin, self.stride)
        return (targets,) * dimensions


def _cut(array, start, box):
    """Cut ``[*box, channel]`` from ``[*spatial, channel]``."""
    starts = (*(start[axis] for axis in range(len(box))), 0)
    return jax.lax.dynamic_slice(array, starts, (*box, array.shape[-1]))


def _scan(key, image, sigma: float, config: GeneratorConfig):
    """Return the image with the intensities and the noise of another scanner."""
    chain_key, noise_key = jax.random.split(key)
    chain = random_chain([INTENSITY_MODELS[name] for name in config.intensity_models])
    image = chain(chain_key, image, spacing=config.chest_spacing)
    image = add_noise(noise_key, image, sigma)
    # Registration clips images that are mapped by percentiles there, too.
    return image if config.is_ct else jnp.clip(image, *MAPPED_RANGE)


def _squeeze(key, image, displacement, probability: float):
    """Conserve the mass of the deformed image, with some probability."""
    return with_probability(
        key, probability, lambda key: sponge(key, image, displacement), lambda: image
    )


def _inside(points, shape):
    """Return where points lie in a volume of a shape, ``[..., 1]`` bool."""
    end = jnp.asarray(shape, jnp.float32) - 1.0
    end = end.reshape((1,) * (points.ndim - 1) + (-1,))
    return jnp.all((points >= 0.0) & (points <= end), axis=-1, keepdims=True)


def cut_patch(
    key,
    volume,
    importance,
    deformation,
    start,
    config: GeneratorConfig,
    targets: TargetGrid,
) -> PatchBatch:
    """Cut one patch; only its own voxels are warped.

    Args:
        key: random key.
        volume: ``[*spatial, 1]``, HU, from which both images are made.
        importance: ``[*spatial, 1]``, weight of the targets that point to each voxel;
            see ``importance.py``. None for equal weights.
        deformation: of the whole volume.
        start: ``[d]`` int32, first voxel of the patch.
        config: of a single scale.
        targets: of the network.

    Returns:
        A ``PatchBatch`` without leading axes.
    """
    fixed_key, moving_key, squeeze_key = jax.random.split(key, 3)
    box = config.patch_box
    displacement = _cut(deformation.displacement, start, box)
    weight = _cut(deformation.area[..., None].astype(jnp.float32), start, box)
    corner = start.astype(jnp.float32).reshape((1,) * len(box) + (-1,))
    points = identity_grid(box) + corner + displacement
    moving = _cut(volume, start, box)
    if importance is None:
        fixed = sample(volume, points)
    else:
        both = sample(jnp.concatenate([volume, importance], -1), points)
        fixed, important = both[..., :1], both[..., 1:]
        unseen = config.unseen_weight
        weight *= jnp.where(_inside(points, config.shape), important, unseen)
    if config.slice_axis:
        axis = SLICE_AXES[config.slice_axis]
        fixed, moving, displacement, weight = (
            jnp.squeeze(a, axis) for a in (fixed, moving, displacement, weight)
        )
        displacement = drop_across(displacement, axis)
    if config.balance_targets:
        weight *= _in_class_of_centre(displacement, config)
    fixed = _squeeze(squeeze_key, fixed, displacement, config.sponge_probability)
    fixed = _scan(fixed_key, fixed, config.noise_fixed, config)
    moving = _scan(moving_key, moving, config.noise_moving, config)
    at_targets = targets.slices(config.patch_size, config.dimensions)
    return PatchBatch(fixed, moving, displacement[at_targets], weight[at_targets])


def _class_of(displacement, config: GeneratorConfig):
    """Return the class of displacements, ``[..., d]`` in voxels, by the config."""
    return displacement_class(
        displacement * config.spacing,
        config.class_limits,
        jnp.all if config.dimensions == 3 else jnp.any,
    )


def _in_class_of_centre(displacement, config: GeneratorConfig):
    """Return 1 at the voxels of a patch whose class is that of its centre, else 0."""
    classes = _class_of(displacement, config)
    centre = classes[(config.patch_size // 2,) * classes.ndim]
    return ((classes == centre) & (centre >= 0))[..., None].astype(jnp.float32)


def sample_starts(key, deformation, config: GeneratorConfig):
    """Sample the corners of the patches, balanced by the class at their centres.

    Args:
        key: random key.
        deformation: of the whole volume.
        config: of a single scale.

    Returns:
        ``[config.patches_per_pair, d]`` int32.
    """
    box = config.patch_box
    centres = tuple(
        slice(size // 2, size // 2 + n - size + 1)
        for n, size in zip(config.shape, box, strict=True)
    )
    allowed = deformation.area[centres]
    if config.class_limits:
        displacement = deformation.displacement[centres]
        if config.slice_axis:
            displacement = drop_across(displacement, SLICE_AXES[config.slice_axis])
        classes = _class_of(displacement, config)
    else:
        classes = jnp.zeros(allowed.shape, jnp.int32)
    return sample_positions(
        key,
        classes,
        allowed,
        config.patches_per_pair,
        number_of_classes=max(len(config.class_limits), 1),
    )
