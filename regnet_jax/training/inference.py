"""The use of a trained network in registration, derived from its training config."""

from regnet_jax.models import MODELS
from regnet_jax.models.corrnet import CorrNet
from regnet_jax.pretrained import DEFAULT_TILE, InferenceConfig
from regnet_jax.training.config import ExperimentConfig

# Displacements shorter than this, in voxels, may be noise. Tuned on training scans.
_SHRINKAGE = 0.2
# Voxels of 1.5 mm where the training had 2 mm. Smaller ones gain less for their time.
_FINENESS = 4 / 3


def inference_config(config: ExperimentConfig) -> InferenceConfig:
    """Return how registration uses a network of this training.

    Networks trained on their own residuals make one extra pass at the finest voxel
    size: it removes about a tenth of the remaining error where that is large. Their
    small displacements are shrunk; those of other networks are not, as no later pass
    could recover what the shrinkage removed.

    A CorrNet predicts displacements on a lattice of two voxels. Where its training knew
    residuals and CT of several voxel sizes, it is used at smaller voxels than it was
    trained for, which removes a fifth of the error.

    Images are mapped as the scans of the training were; networks of CT take other
    images, too.

    Args:
        config: of the training.

    Returns:
        The content of ``inference.json``.
    """
    sizes = sorted((stage.spacing for stage in config.data.stages), reverse=True)
    dimensions = config.dimensions
    residual = config.residual_probability > 0.0
    several = config.data.is_ct and len(sizes) > 1
    finer = residual and several and issubclass(MODELS[config.model], CorrNet)
    return InferenceConfig(
        name=config.name,
        model=config.model,
        dimensions=dimensions,
        voxel_sizes=tuple(sizes),
        extra_pass=residual,
        shrinkage=_SHRINKAGE if residual else 0.0,
        tile=DEFAULT_TILE[dimensions],
        slice_axis=config.data.slice_axis or "axial",
        intensity_preset="auto" if config.data.is_ct else config.data.intensity_preset,
        # Otherwise the scans of the training are of that size themselves.
        adapt_voxel_size=config.data.is_ct,
        fineness=_FINENESS if finer else 1.0,
    )
