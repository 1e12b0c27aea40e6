"""A tiny model and tiny pairs: training that compiles in seconds."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from regnet_jax.models.support import Support
from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.synthesis.generator import (
    VolumeSources,
    make_generator,
    sample_patches,
)
from regnet_jax.synthesis.patches import PatchBatch, TargetGrid
from regnet_jax.synthesis.volumes.shapes import smooth_noise
from regnet_jax.training import loop
from regnet_jax.training.config import (
    EvaluationConfig,
    ExperimentConfig,
    OptimizerConfig,
    ScheduleConfig,
)
from regnet_jax.training.heldout import make_evaluation
from regnet_jax.training.state import make_optimizer, make_schedule

TARGETS = TargetGrid(margin=8, stride=2)

TINY = ExperimentConfig(
    name="tiny",
    model="tiny",
    data=GeneratorConfig(
        shape=(48, 48),
        spacing=4.0,
        families=("medium", "high"),
        class_limits=(1.5, 4.0, 8.0),
        noise_fixed=5.0,
        noise_moving=0.0,
        patches_per_pair=2,
        patch_size=21,
    ),
    batch_size=4,
    steps=4,
    checkpoint_every=2,
    optimizer=OptimizerConfig(learning_rate=0.02),
    schedule=ScheduleConfig(warmup_steps=1),
    evaluation=EvaluationConfig(every=2, pairs=2),
)


class Tiny(nn.Module):
    """One convolution and one normalisation, read at ``TARGETS``."""

    support = Support(reach=1, period=1, margin=TARGETS.margin, stride=TARGETS.stride)

    dimensions: int = 2
    axis_name: str | None = None
    normalised: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, fixed, moving, *, train: bool):
        both = jnp.concatenate([fixed, moving], -1)
        # A bias ahead of a normalisation has no gradient: Adam would blow up noise.
        kernel = (3,) * self.dimensions
        x = nn.Conv(4, kernel, use_bias=False, dtype=self.dtype)(both)
        if self.normalised:
            x = nn.BatchNorm(
                use_running_average=not train, momentum=0.9, axis_name=self.axis_name
            )(x)
        targets = TARGETS.slices(fixed.shape[1], self.dimensions)
        x = nn.relu(x)[(slice(None), *targets)]
        return nn.Conv(self.dimensions, (1,) * self.dimensions)(x)


def smooth_volume(key, shape, *, spacing):
    """Stands for a chest, which takes longer to compile."""
    return 300.0 * smooth_noise(key, shape, {"volume": (5.0, 1)})["volume"]


def noise_patches(key, family, config, targets, scans=None) -> PatchBatch:
    """Stands for artificial pairs where only their number and shape matter."""
    d, size = config.dimensions, config.patch_size
    shape = (config.patches_per_pair, *(size,) * d, 3)
    images, fields = 300.0 * jax.random.normal(key, (2, *shape))
    fields = fields[(slice(None), *targets.slices(size, d), slice(d))]
    number = sum(jax.tree.leaves(family.parameters))  # families must differ
    displacement = (10.0 + number) / 4000.0 * fields
    weight = (fields[..., :1] > -300.0).astype(images.dtype)
    return PatchBatch(images[..., :1], images[..., 1:2], displacement, weight)


# Real fields, and patches of smooth volumes.
smooth_patches = functools.partial(
    sample_patches, sources=VolumeSources(chest=smooth_volume)
)
# The functions of training, on noise, which compiles fastest.
train = functools.partial(loop.train, sample=noise_patches)
noise_generator = functools.partial(make_generator, sample=noise_patches)
noise_evaluation = functools.partial(make_evaluation, sample=noise_patches)


def optimizer_of(config: ExperimentConfig):
    """Return the optimizer of a run."""
    return make_optimizer(config.optimizer, make_schedule(config))
