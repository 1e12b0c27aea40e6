"""A small 2D run of a few minutes: the network that `make demo` trains and uses.

    python -m experiments.train --config demo2d --workdir runs/demo2d

The network and the families of RegNet 2017 at 2 mm, on slices of procedural chests.
"""

from regnet_jax.synthesis.generator import GeneratorConfig
from regnet_jax.training.config import ExperimentConfig

CONFIG = ExperimentConfig(
    name="demo2d",
    model="regnet",
    data=GeneratorConfig(
        shape=(160, 160),
        spacing=2.0,
        families=("low", "medium", "high"),
        limits=(1.5, 4.0, 8.0),
        noise_fixed=5.0,
        noise_moving=0.0,
        windows=4,
        window=85,
        margin=26,
        stride=2,
    ),
    pairs=4,
    steps=200,
    learning_rate=2e-3,
    warmup=20,
    save_every=200,
    evaluate_every=200,
)
