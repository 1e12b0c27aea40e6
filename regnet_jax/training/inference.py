"""The use of a trained network in registration, derived from its training config."""

from regnet_jax.pretrained import DEFAULT_TILE, InferenceConfig
from regnet_jax.training.config import ExperimentConfig

# Displacements shorter than this, in voxels, may be noise. Tuned on training scans.
_SHRINKAGE = 0.2


def inference_config(config: ExperimentConfig) -> InferenceConfig:
    """Return how registration uses a network of this training.

    Networks trained on their own residuals make one extra pass at the finest voxel
    size: it removes about a tenth of the remaining error where that is large, at little
    cost. Their small displacements are shrunk; those of other networks are not, as no
    later pass could recover what the shrinkage removed.

    Images are mapped as the scans of the training were; networks of CT take other
    images, too.

    Args:
        config: of the training.

    Returns:
        The content of ``inference.json``.
    """
    sizes = sorted((stage.spacing for stage in config.data.stages), reverse=True)
    dimensions = config.dimensions
    return InferenceConfig(
        name=config.name,
        model=config.model,
        dimensions=dimensions,
        voxel_sizes=tuple(sizes),
        extra_pass=bool(config.residual_probability),
        shrinkage=_SHRINKAGE if config.residual_probability else 0.0,
        tile=DEFAULT_TILE[dimensions],
        slice_axis=config.data.slice_axis or "axial",
        intensity_preset="auto" if config.data.is_ct else config.data.intensity_preset,
        # Otherwise the scans of the training are of that size themselves.
        adapt_voxel_size=config.data.is_ct,
    )
