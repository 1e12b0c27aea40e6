"""The description of artificial pairs: the distribution that a generator samples."""

import dataclasses
from dataclasses import dataclass

from regnet_jax.geometry.slices import SLICE_AXES
from regnet_jax.intensity import CT
from regnet_jax.synthesis.fields.families import (
    FAMILIES,
    Family,
)


@dataclass(frozen=True)
class GeneratorConfig:
    """The distribution of artificial pairs, and the size of their patches.

    The positions of the targets in a patch depend on the network, see
    ``patches.TargetGrid``.

    Attributes:
        shape: spatial shape of the volumes, 2D or 3D.
        slice_axis: ``axial``, ``coronal`` or ``sagittal``: patches are slices of 3D
            volumes, with fields that are smooth in 3D, as in the 2D experiments of
            RegNet 2017; empty for patches of the dimension of the volumes.
        through_plane: factor of the displacement across the slices. At 0, as in 2017,
            nothing moves across; otherwise the moving slice is the one at the same
            place, which no longer shows the same anatomy.
        spacing: isotropic voxel size, mm.
        intensity_preset: what the values of the volumes are. ``ct``: Hounsfield units.
            ``mr``, or percentiles ``LOW,HIGH``: those of each scan are mapped to air
            and bone (see ``regnet_jax.intensity``), nothing of the physics of CT is
            used, and all procedural volumes are random regions.
        anatomy_scale: size of the anatomy relative to a human chest. All lengths of
            families (amplitudes too), procedural volumes and intensity models are
            multiplied by it; those of this config are not.
        families: names in ``regnet_jax.synthesis.fields.families.FAMILIES``.
        patches_per_pair: patches cut from each pair.
        patch_size: voxels of a patch along each axis, as the network takes it.
        noise_fixed: sigma of the noise on the deformed image, HU; percentiles are
            mapped to a range of 1400 HU.
        noise_moving: sigma of the noise on the moving image, HU. The original
            has none there.
        class_limits: increasing upper limits of the classes of displacement, mm,
            which get equal numbers of patches; none to sample patches uniformly.
        balance_targets: whether only targets of the class of their patch's centre
            count, so that all targets are balanced, as the single ones of 2017 were;
            targets of no class then never count.
        family_weights: probability of each family, up to a common factor; none for
            equal ones.
        amplitude: factor of the families' amplitudes.
        intensity_models: names in ``synthesis.scanners.INTENSITY_MODELS``; each
            changes each image with its own probability, in this order and before
            the noise.
        sponge_probability: probability that lungs get denser in the deformed image
            where they are compressed.
        unseen_weight: weight of targets where nothing is visible: in air or background
            around the body, and outside of the moving volume.
        lung_weight: weight of targets in the lungs.
        vessel_weight: weight of targets at vessels and airway walls in the lungs.
        scan_probability: probability of a crop of a scan instead of a procedural
            volume.
        regions_probability: probability that a procedural volume has random regions
            instead of a chest.
        predeform_probability: probability that a volume is mildly deformed before
            anything else, so that each scan gives many patients.
        scales: factors of voxel size and amplitude, one for each voxel size that the
            network serves.
        scale_amplitudes: factor of the families' amplitudes for each scale; none for
            ``amplitude`` times the scale.
    """

    shape: tuple[int, ...]
    spacing: float
    families: tuple[str, ...]
    patches_per_pair: int
    patch_size: int
    noise_fixed: float
    noise_moving: float
    intensity_preset: str = CT
    anatomy_scale: float = 1.0
    slice_axis: str = ""
    through_plane: float = 0.0
    class_limits: tuple[float, ...] = ()
    balance_targets: bool = False
    family_weights: tuple[float, ...] = ()
    amplitude: float = 1.0
    intensity_models: tuple[str, ...] = ()
    sponge_probability: float = 0.0
    unseen_weight: float = 1.0
    lung_weight: float = 1.0
    vessel_weight: float = 1.0
    scan_probability: float = 0.0
    regions_probability: float = 0.0
    predeform_probability: float = 0.0
    scales: tuple[float, ...] = (1.0,)
    scale_amplitudes: tuple[float, ...] = ()

    @property
    def is_ct(self) -> bool:
        """Whether the volumes are in Hounsfield units."""
        return self.intensity_preset == CT

    @property
    def chest_spacing(self) -> float:
        """Voxel size, mm, in a human chest that has as many voxels as the anatomy."""
        return self.spacing / self.anatomy_scale

    @property
    def dimensions(self) -> int:
        """Of the patches, 2 or 3."""
        return 2 if self.slice_axis else len(self.shape)

    @property
    def patch_box(self) -> tuple[int, ...]:
        """Spatial shape of a patch in its volume: a slice has one voxel across."""
        box = [self.patch_size] * len(self.shape)
        if self.slice_axis:
            box[SLICE_AXES[self.slice_axis]] = 1
        return tuple(box)

    @property
    def stages(self) -> tuple["GeneratorConfig", ...]:
        """A config of a single scale for each voxel size."""
        factors = self.scale_amplitudes or [
            scale * self.amplitude for scale in self.scales
        ]
        return tuple(
            dataclasses.replace(
                self,
                spacing=scale * self.spacing,
                amplitude=factor,
                scales=(1.0,),
                scale_amplitudes=(),
            )
            for scale, factor in zip(self.scales, factors, strict=True)
        )

    @property
    def probabilities(self) -> tuple[float, ...]:
        """The probability of each family, up to a common factor."""
        return self.family_weights or (1.0,) * len(self.families)

    @property
    def amplified(self) -> dict[str, Family]:
        """The families by name, with the amplitudes of the config."""
        return {name: FAMILIES[name].scaled(self.amplitude) for name in self.families}
