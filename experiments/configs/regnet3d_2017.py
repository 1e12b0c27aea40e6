"""RegNet 2017 in 3D at 1 mm, on procedural chests: the recipe of the paper.

    python -m experiments.train --config regnet3d_2017 --workdir runs/regnet3d_2017

What differs from the paper: volumes are drawn, not read; targets come as blocks of
5^3 positions, every second voxel, instead of single voxels (the network is fully
convolutional, so a block costs little more than its centre); the learning rate
decays to the end of the run instead of staying constant for days.
"""

from regnet_jax.synthesis.generator import GeneratorConfig
from regnet_jax.training.config import ExperimentConfig

CONFIG = ExperimentConfig(
    name="regnet3d_2017",
    model="regnet",
    data=GeneratorConfig(
        shape=(128, 128, 128),
        spacing=1.0,
        families=("low", "medium", "high"),
        limits=(1.5, 4.0, 8.0),
        noise_fixed=5.0,
        noise_moving=0.0,
        windows=2,
        window=61,
        margin=26,
        stride=2,
    ),
    pairs=2,
    steps=1100,
    evaluate_every=250,
    save_every=50,
)
