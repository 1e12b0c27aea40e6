"""RegNet 2017 in 3D on procedural chests: the recipe of the paper, at 2 mm.

    python -m experiments.train --config regnet3d_2017 --workdir runs/regnet3d_2017

What differs from the paper: voxels have 2 mm instead of 1 mm, so that a run fits in
an hour on two cores and a field of view of 256 mm in one volume (the families keep
their millimetres; `--override data.spacing=1.0` with a larger `data.shape` is the
paper's); volumes are drawn, not read; targets come as blocks of 9^3 positions, every
second voxel, instead of single voxels (the network is fully convolutional, so a block
costs little more than its centre); the learning rate decays to the end of the run.
"""

from regnet_jax.synthesis.generator import GeneratorConfig
from regnet_jax.training.config import ExperimentConfig

CONFIG = ExperimentConfig(
    name="regnet3d_2017",
    model="regnet",
    data=GeneratorConfig(
        shape=(88, 88, 88),
        spacing=4.0,
        families=("low", "medium", "high"),
        limits=(1.5, 4.0, 8.0),
        noise_fixed=5.0,
        noise_moving=0.0,
        windows=1,
        window=69,
        margin=26,
        stride=2,
    ),
    pairs=4,
    steps=560,
    learning_rate=1e-3,
    warmup=20,
    evaluate_every=280,
    save_every=40,
    plane_steps=400,
)
