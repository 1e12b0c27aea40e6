"""A tiny model and tiny pairs: training that compiles in seconds."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.synthesis.patches import Pairs
from regnet_jax.synthesis.volumes.shapes import smooth_noise
from regnet_jax.training.config import ExperimentConfig

TINY = ExperimentConfig(
    name="tiny",
    model="tiny",
    data=GeneratorConfig(
        shape=(48, 48),
        spacing=4.0,
        families=("medium", "high"),
        limits=(1.5, 4.0, 8.0),
        noise_fixed=5.0,
        noise_moving=0.0,
        windows=2,
        window=21,
        margin=8,
        stride=2,
    ),
    pairs=4,
    steps=4,
    learning_rate=0.02,
    warmup=1,
    save_every=2,
    evaluate_every=2,
    evaluation_pairs=2,
)


class Tiny(nn.Module):
    """One convolution and one normalisation, read at the targets of ``TINY``."""

    dimensions: int = 2
    axis_name: str | None = None
    normalised: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, fixed, moving, *, train: bool):
        data = TINY.data
        both = jnp.concatenate([fixed, moving], -1)
        # A bias ahead of a normalisation has no gradient: Adam would blow up noise.
        kernel = (3,) * self.dimensions
        x = nn.Conv(4, kernel, use_bias=False, dtype=self.dtype)(both)
        if self.normalised:
            x = nn.BatchNorm(
                use_running_average=not train, momentum=0.9, axis_name=self.axis_name
            )(x)
        targets = slice(data.margin, data.window - data.margin, data.stride)
        x = nn.relu(x)[(slice(None), *(targets,) * self.dimensions)]
        return nn.Conv(self.dimensions, (1,) * self.dimensions)(x)


def smooth_volume(key, shape, *, spacing):
    """Stands for a chest, which takes longer to compile."""
    return 300.0 * smooth_noise(key, shape, {"volume": (5.0, 1)})["volume"]


def noise_windows(key, family, config, scans=None) -> Pairs:
    """Stands for artificial pairs where only their number and shape matter."""
    dimensions = len(config.shape)
    shape = (config.windows, *(config.window,) * dimensions, 3)
    images, fields = 300.0 * jax.random.normal(key, (2, *shape))
    targets = slice(config.margin, config.window - config.margin, config.stride)
    fields = fields[(slice(None), *(targets,) * dimensions, slice(dimensions))]
    number = sum(jax.tree.leaves(family.parameters))  # families must differ
    displacement = (10.0 + number) / 4000.0 * fields
    weight = (fields[..., :1] > -300.0).astype(images.dtype)
    return Pairs(images[..., :1], images[..., 1:2], displacement, weight)
