"""Batches of artificial pairs: volume, deformation, windows, noise, targets."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from regnet_jax.geometry import identity_grid, sample
from regnet_jax.synthesis.chest import chest
from regnet_jax.synthesis.families import FAMILIES, Family, choose_family, draw_field
from regnet_jax.synthesis.intensity import INTENSITY_MODELS, random_chain
from regnet_jax.synthesis.pairs import add_noise
from regnet_jax.synthesis.sampling import displacement_class, draw_positions


@dataclass(frozen=True)
class GeneratorConfig:
    """What is drawn, and which part of it a network sees.

    Attributes:
        shape: spatial shape of the volumes, 2D or 3D.
        spacing: isotropic voxel size, mm.
        families: names in ``regnet_jax.synthesis.families.FAMILIES``.
        limits: upper limits of the displacement classes that are balanced, mm;
            a single limit draws windows uniformly.
        noise_fixed: sigma of the noise on the deformed image, HU.
        noise_moving: sigma of the noise on the moving image, HU. The original
            has none there.
        windows: windows cut from each pair.
        window: voxels of a window on each axis.
        margin: voxels from the edge of a window to the first target.
        stride: voxels between targets.
        weights: chance of each family, up to a common factor; none for equal ones.
        amplitude: factor of the families' amplitudes.
        intensity: names in ``synthesis.intensity.INTENSITY_MODELS``; each changes
            each image by chance, in this order and before the noise.
    """

    shape: tuple[int, ...]
    spacing: float
    families: tuple[str, ...]
    limits: tuple[float, ...]
    noise_fixed: float
    noise_moving: float
    windows: int
    window: int
    margin: int
    stride: int
    weights: tuple[float, ...] = ()
    amplitude: float = 1.0
    intensity: tuple[str, ...] = ()

    @property
    def chances(self) -> tuple[float, ...]:
        """The chance of each family, up to a common factor."""
        return self.weights or (1.0,) * len(self.families)

    @property
    def amplified(self) -> dict[str, Family]:
        """The families by name, with the amplitudes of the config."""
        return {name: FAMILIES[name].scaled(self.amplitude) for name in self.families}


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


def _cut(key, volume, deformation, start, config: GeneratorConfig) -> Pairs:
    """One window: only what it shows is warped."""
    fixed_key, moving_key = jax.random.split(key)
    dimensions = volume.ndim - 1
    displacement = _window(deformation.displacement, start, config.window)
    weight = _window(
        deformation.area[..., None].astype(jnp.float32), start, config.window
    )
    corner = start.astype(jnp.float32).reshape((1,) * dimensions + (-1,))
    grid = identity_grid(displacement.shape[:-1]) + corner
    fixed = sample(volume, grid + displacement)
    moving = _window(volume, start, config.window)
    fixed = _scan(fixed_key, fixed, config.noise_fixed, config)
    moving = _scan(moving_key, moving, config.noise_moving, config)
    targets = slice(config.margin, config.window - config.margin, config.stride)
    at_targets = (targets,) * dimensions
    return Pairs(fixed, moving, displacement[at_targets], weight[at_targets])


def _starts(key, deformation, config: GeneratorConfig):
    """Corners of the windows, balanced by the class at the windows' centres."""
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


def draw_windows(key, family: Family, config: GeneratorConfig) -> Pairs:
    """Draws one pair with a field of one family and cuts its windows.

    Args:
        key: random key.
        family: its numbers may be traced.
        config: static.

    Returns:
        ``Pairs`` with a leading axis of ``config.windows``.
    """
    volume_key, field_key, start_key, noise_key = jax.random.split(key, 4)
    volume = chest(volume_key, config.shape, spacing=config.spacing)
    deformation = draw_field(field_key, volume, family, spacing=config.spacing)
    starts = _starts(start_key, deformation, config)
    # A loop, not vmap: its body cannot pull the making of the volume into its
    # gathers and repeat that for every voxel it reads.
    return jax.lax.map(
        lambda window: _cut(window[0], volume, deformation, window[1], config),
        (jax.random.split(noise_key, config.windows), starts),
    )


def make_generator(config: GeneratorConfig) -> Callable[[jax.Array], Pairs]:
    """Builds the function that draws one pair of any of the config's families.

    Args:
        config: static; the function is pure in its key.

    Returns:
        ``generate(key) -> Pairs`` with a leading axis of ``config.windows``.
        ``jax.vmap`` over keys gives a batch.

    Raises:
        ValueError: if the volume is smaller than a window.
    """
    if min(config.shape) < config.window:
        raise ValueError(
            f"a window of {config.window} voxels does not fit into {config.shape}"
        )
    families = list(config.amplified.values())

    def generate(key) -> Pairs:
        family_key, key = jax.random.split(key)
        return draw_windows(
            key, choose_family(family_key, families, config.chances), config
        )

    return generate
