"""Batches of artificial pairs: volume, deformation, windows, noise, targets."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from regnet_jax.geometry import gaussian_smooth, identity_grid, sample
from regnet_jax.synthesis.chest import chest
from regnet_jax.synthesis.families import FAMILIES, Family, choose_family, draw_field
from regnet_jax.synthesis.intensity import INTENSITY_MODELS, random_chain, sponge
from regnet_jax.synthesis.pairs import add_noise, another_patient
from regnet_jax.synthesis.regions import random_regions
from regnet_jax.synthesis.sampling import displacement_class, draw_positions
from regnet_jax.synthesis.scans import Scans, crop
from regnet_jax.synthesis.written import written

# Darker than this, HU, after smoothing with so many voxels, an image shows nothing.
_EMPTY = -960.0
_EMPTY_SIGMA = 1.5


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
        sponge: chance that the deformed image gets denser where it is squeezed.
        unseen: weight of targets where there is nothing to see: in air, and where
            the moving volume ends.
        real: chance of a crop of a scan instead of a procedural chest.
        scales: stages of a network for several voxel sizes; each is a factor of
            voxel size and amplitude.
        amplitudes: factor of the families' amplitudes for each scale; none for
            ``amplitude`` times the scale.
        regions: chance of a volume of random regions instead of a procedural chest.
        multiplied: chance that a volume is mildly deformed before anything else, so
            that each scan gives many patients.
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
    sponge: float = 0.0
    unseen: float = 1.0
    real: float = 0.0
    scales: tuple[float, ...] = (1.0,)
    amplitudes: tuple[float, ...] = ()
    regions: float = 0.0
    multiplied: float = 0.0

    @property
    def stages(self) -> tuple["GeneratorConfig", ...]:
        """A config of a single scale for each stage."""
        factors = self.amplitudes or [scale * self.amplitude for scale in self.scales]
        return tuple(
            dataclasses.replace(
                self,
                spacing=scale * self.spacing,
                amplitude=factor,
                scales=(1.0,),
                amplitudes=(),
            )
            for scale, factor in zip(self.scales, factors, strict=True)
        )

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


def _squeeze(key, image, displacement, chance: float):
    """The deformed image as mass is conserved, by chance."""
    return _by_chance(
        key, chance, lambda key: sponge(key, image, displacement), lambda: image
    )


def _seen(image, points, shape):
    """Where an image shows something that lies in the moving volume."""
    dimensions = len(shape)
    smooth = gaussian_smooth(image, [_EMPTY_SIGMA] * dimensions)
    end = jnp.asarray(shape, jnp.float32).reshape((1,) * dimensions + (-1,)) - 1.0
    inside = jnp.all((points >= 0.0) & (points <= end), axis=-1, keepdims=True)
    return (smooth > _EMPTY) & inside


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


def _by_chance(key, chance: float, draw: Callable, otherwise: Callable):
    """``draw(key)``, or by chance what comes otherwise; only one of them is run."""
    if not chance:
        return otherwise()
    coin_key, draw_key = jax.random.split(key)
    return jax.lax.cond(
        jax.random.bernoulli(coin_key, chance), lambda: draw(draw_key), otherwise
    )


def _volume(key, config: GeneratorConfig, scans: Scans | None):
    """A procedural chest, or by chance a part of a scan, or random regions."""
    spacing, shape = config.spacing, config.shape

    def procedural():
        return _by_chance(
            jax.random.fold_in(key, 2),
            config.regions,
            lambda key: random_regions(key, shape, spacing=spacing),
            lambda: chest(key, shape, spacing=spacing),
        )

    real = 0.0 if scans is None else config.real
    volume = _by_chance(
        jax.random.fold_in(key, 1),
        real,
        lambda key: crop(key, scans, shape),
        procedural,
    )
    return _by_chance(
        jax.random.fold_in(key, 3),
        config.multiplied,
        lambda key: another_patient(key, volume, spacing=spacing),
        lambda: volume,
    )


def draw_windows(
    key, family: Family, config: GeneratorConfig, scans: Scans | None = None
) -> Pairs:
    """Draws one pair with a field of one family and cuts its windows.

    Args:
        key: random key.
        family: its numbers may be traced.
        config: static, of a single scale.
        scans: real volumes of the config's voxel size, of which ``config.real`` of
            the pairs are made.

    Returns:
        ``Pairs`` with a leading axis of ``config.windows``.
    """
    volume_key, field_key, start_key, noise_key = jax.random.split(key, 4)
    volume = written(volume_key, lambda: _volume(volume_key, config, scans))
    deformation = written(
        field_key,
        lambda: draw_field(field_key, volume, family, spacing=config.spacing),
    )
    starts = _starts(start_key, deformation, config)
    # A loop, not vmap: its body cannot pull the making of the volume into its
    # gathers and repeat that for every voxel it reads.
    return jax.lax.map(
        lambda window: _cut(window[0], volume, deformation, window[1], config),
        (jax.random.split(noise_key, config.windows), starts),
    )


def _draw_stage(key, config: GeneratorConfig, scans: Scans | None):
    family_key, key = jax.random.split(key)
    family = choose_family(family_key, list(config.amplified.values()), config.chances)
    return draw_windows(key, family, config, scans)


def make_generator(config: GeneratorConfig) -> Callable[..., Pairs]:
    """Builds the function that draws one pair of any family and scale of a config.

    Args:
        config: static; the function is pure in its arguments.

    Returns:
        ``generate(key, scans=()) -> Pairs`` with a leading axis of
        ``config.windows``; ``scans`` has ``Scans`` for each scale, or is empty.
        ``jax.vmap`` over keys gives a batch.

    Raises:
        ValueError: if the volume is smaller than a window.
    """
    if min(config.shape) < config.window:
        raise ValueError(
            f"a window of {config.window} voxels does not fit into {config.shape}"
        )

    def generate(key, scans: Sequence[Scans] = ()) -> Pairs:
        branches = [
            functools.partial(_draw_stage, config=stage, scans=real)
            for stage, real in zip(
                config.stages, scans or [None] * len(config.scales), strict=True
            )
        ]
        stage_key = jax.random.fold_in(jax.random.split(key)[0], 1)
        stage = jax.random.randint(stage_key, (), 0, len(branches))
        return jax.lax.switch(stage, branches, key)

    return generate
