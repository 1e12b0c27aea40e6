"""Batches of artificial pairs: volume, deformation, windows, noise, targets."""

import functools
from collections.abc import Callable, Sequence

import jax

from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.synthesis.fields.families import (
    Family,
    choose_family,
    draw_field,
)
from regnet_jax.synthesis.pairs import another_patient
from regnet_jax.synthesis.patches import Pairs, cut_window, draw_starts
from regnet_jax.synthesis.random import by_chance, written
from regnet_jax.synthesis.volumes.chest import chest
from regnet_jax.synthesis.volumes.regions import random_regions
from regnet_jax.synthesis.volumes.scans import Scans, crop


def _volume(key, config: GeneratorConfig, scans: Scans | None):
    """A procedural chest, or by chance a part of a scan, or random regions."""
    spacing, shape = config.spacing, config.shape

    def procedural():
        return by_chance(
            jax.random.fold_in(key, 2),
            config.regions,
            lambda key: random_regions(key, shape, spacing=spacing),
            lambda: chest(key, shape, spacing=spacing),
        )

    real = 0.0 if scans is None else config.real
    volume = by_chance(
        jax.random.fold_in(key, 1),
        real,
        lambda key: crop(key, scans, shape),
        procedural,
    )
    return by_chance(
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
    starts = draw_starts(start_key, deformation, config)
    # One after the other: a window fills a device.
    return jax.lax.map(
        lambda window: cut_window(window[0], volume, deformation, window[1], config),
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
