"""RegNet 2017 in 3D on procedural chests: the recipe of the paper, at 4 mm.

    python -m experiments.train --config regnet3d_2017 --workdir runs/regnet3d_2017

What differs from the paper, so that a run fits in an hour on two cores:

- voxels have 4 mm, not 1 mm (the families keep their millimetres);
- volumes are drawn, not read;
- targets are blocks of 9^3 positions, every second voxel, not single voxels: the
  network is fully convolutional, and a block shows several displacements for little
  more than the price of one;
- the network starts in the plane: its 2D sibling learns on slices of the same chests,
  and its kernels become the middle planes of the 3D ones. From random weights nothing
  was learned in the first 100 to 250 steps, at any voxel size that was tried;
- the learning rate decays to the end of the run.

On two CPU cores the first 360 steps took 46 minutes and reached 0.72, 0.73 and 0.81 of
the zero field's error for the low, medium and high frequencies.
"""

from regnet_jax.synthesis.config import GeneratorConfig
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
