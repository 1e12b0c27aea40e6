"""Batches of artificial pairs: volume, deformation, patches, noise, targets."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import jax

from regnet_jax.geometry.slices import SLICE_AXES
from regnet_jax.hounsfield import AIR_BELOW
from regnet_jax.intensity import BACKGROUND_BELOW, MAPPED_RANGE
from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.synthesis.fields.families import (
    Family,
    choose_family,
    sample_field,
)
from regnet_jax.synthesis.importance import voxel_importance
from regnet_jax.synthesis.pairs import another_patient
from regnet_jax.synthesis.patches import (
    PatchBatch,
    TargetGrid,
    cut_patch,
    sample_starts,
)
from regnet_jax.synthesis.random import materialise, with_probability
from regnet_jax.synthesis.volumes.chest import chest
from regnet_jax.synthesis.volumes.regions import random_regions
from regnet_jax.synthesis.volumes.scans import ScanBank, crop

# Targets at every voxel.
_DENSE = TargetGrid()


class VolumeSources(NamedTuple):
    """The functions that sample procedural volumes.

    Attributes:
        chest: ``chest(key, shape, *, spacing) -> [*spatial, 1]``, HU.
        regions: of the same form, with ``brightest`` as in ``random_regions``; see
            ``GeneratorConfig.regions_probability``.
    """

    chest: Callable = chest
    regions: Callable = random_regions


_PROCEDURAL = VolumeSources()


def _sample_volume(
    key, config: GeneratorConfig, scans: ScanBank | None, sources: VolumeSources
):
    """Sample a procedural volume or, with some probability, a crop of a scan."""
    spacing, shape = config.chest_spacing, config.shape
    chest_key, scan_key, regions_key, patient_key = jax.random.split(key, 4)

    def procedural():
        if not config.is_ct:
            brightest = MAPPED_RANGE[1]
            return sources.regions(
                regions_key, shape, spacing=spacing, brightest=brightest
            )
        return with_probability(
            regions_key,
            config.regions_probability,
            lambda key: sources.regions(key, shape, spacing=spacing),
            lambda: sources.chest(chest_key, shape, spacing=spacing),
        )

    volume = with_probability(
        scan_key,
        0.0 if scans is None else config.scan_probability,
        lambda key: crop(key, cast(ScanBank, scans), shape, continued=not config.is_ct),
        procedural,
    )
    return with_probability(
        patient_key,
        config.predeform_probability,
        lambda key: another_patient(key, volume, spacing=spacing),
        lambda: volume,
    )


def _importance(key, volume, config: GeneratorConfig):
    """Return the weights of the voxels of a volume; None if all are equal."""
    weights = {
        "unseen": config.unseen_weight,
        "lung": config.lung_weight,
        "vessel": config.vessel_weight,
    }
    if set(weights.values()) == {1.0}:
        return None
    dark = AIR_BELOW if config.is_ct else BACKGROUND_BELOW
    spacing = config.chest_spacing
    return materialise(
        key, lambda: voxel_importance(volume, spacing=spacing, dark=dark, **weights)
    )


def sample_patches(
    key,
    family: Family,
    config: GeneratorConfig,
    targets: TargetGrid = _DENSE,
    scans: ScanBank | None = None,
    *,
    sources: VolumeSources = _PROCEDURAL,
) -> PatchBatch:
    """Sample one pair with a field of one family, and cut its patches.

    Args:
        key: random key.
        family: its numbers may be traced.
        config: static, of a single scale.
        targets: of the network.
        scans: real volumes of the config's voxel size, which
            ``config.scan_probability`` of the pairs are made of.
        sources: of the procedural volumes.

    Returns:
        A ``PatchBatch`` with a leading axis of ``config.patches_per_pair``.
    """
    volume_key, field_key, start_key, noise_key = jax.random.split(key, 4)
    volume = materialise(
        volume_key, lambda: _sample_volume(volume_key, config, scans, sources)
    )

    def deform():
        field = sample_field(field_key, volume, family, spacing=config.chest_spacing)
        if not config.slice_axis:
            return field
        axis = SLICE_AXES[config.slice_axis]
        return field._replace(
            displacement=field.displacement.at[..., axis].multiply(config.through_plane)
        )

    deformation = materialise(field_key, deform)
    starts = sample_starts(start_key, deformation, config)
    importance = _importance(key, volume, config)
    # One after the other: a patch fills a device.
    return jax.lax.map(
        lambda patch: cut_patch(
            patch[0], volume, importance, deformation, patch[1], config, targets
        ),
        (jax.random.split(noise_key, config.patches_per_pair), starts),
    )


def _sample_stage(key, family_key, config: GeneratorConfig, targets, scans, sample):
    family = choose_family(
        family_key, list(config.amplified.values()), config.probabilities
    )
    return sample(key, family, config, targets, scans)


def make_generator(
    config: GeneratorConfig,
    targets: TargetGrid = _DENSE,
    *,
    sample: Callable[..., PatchBatch] = sample_patches,
) -> Callable[..., PatchBatch]:
    """Build the function that samples one pair of any family and scale of a config.

    Args:
        config: static; the function is pure in its arguments.
        targets: of the network; by default at every voxel.
        sample: ``sample(key, family, config, targets, scans) -> PatchBatch`` of one
            pair at one scale.

    Returns:
        ``generate(key, scans=(), group=None) -> PatchBatch`` with a leading axis of
        ``config.patches_per_pair``; ``scans`` has ``ScanBank`` for each scale, or is
        empty. ``jax.vmap`` over keys gives a batch. Every pair has a family and scale
        of its own, so that ``vmap`` computes all of them for each; with one random key
        ``group`` for the pairs of a batch, they share family and scale, and only
        these are computed.

    Raises:
        ValueError: if the volume is smaller than a patch.
    """
    if any(n < m for n, m in zip(config.shape, config.patch_box, strict=True)):
        raise ValueError(
            f"a patch of {config.patch_box} voxels does not fit into {config.shape}"
        )

    def generate(key, scans: Sequence[ScanBank] = (), group=None) -> PatchBatch:
        branches = [
            functools.partial(
                _sample_stage, config=stage, targets=targets, scans=real, sample=sample
            )
            for stage, real in zip(
                config.stages, scans or [None] * len(config.scales), strict=True
            )
        ]
        own, key = jax.random.split(key)
        stage_key, family_key = jax.random.split(own if group is None else group)
        stage = jax.random.randint(stage_key, (), 0, len(branches))
        return jax.lax.switch(stage, branches, key, family_key)

    return generate
