"""The description of artificial pairs: what a generator samples."""

import dataclasses
from dataclasses import dataclass

from regnet_jax.synthesis.fields.families import (
    FAMILIES,
    Family,
)


@dataclass(frozen=True)
class GeneratorConfig:
    """What is drawn, and which part of it a network sees.

    Attributes:
        shape: spatial shape of the volumes, 2D or 3D.
        spacing: isotropic voxel size, mm.
        families: names in ``regnet_jax.synthesis.fields.families.FAMILIES``.
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
