"""RegNet 2017 in 3D on procedural chests: the recipe of the paper, at 4 mm.

    python -m experiments.train --config regnet3d_2017_plane \
        --workdir runs/regnet3d_2017_plane
    python -m experiments.train --config regnet3d_2017 --workdir runs/regnet3d_2017

Differences from the paper, so that a run takes about an hour on two cores:

- voxels have 4 mm, not 1 mm (the families keep their millimetres);
- volumes are procedural, not scans;
- targets are blocks of 9^3 positions, every second voxel, not single voxels: the
  network is fully convolutional, and a block gives several displacements at little more
  than the cost of one;
- the network starts in 2D: regnet3d_2017_plane trains its 2D sibling on slices of the
  same chests, and its kernels become the middle planes of the 3D ones. From random
  weights the network learned nothing in the first 100 to 250 steps, at all voxel sizes
  that were tried;
- the learning rate decays over the run.

On two CPU cores the first 360 steps took 46 minutes and reached 0.72, 0.73 and 0.81 of
the zero field's error for the low, medium and high frequencies.
"""

import dataclasses

from experiments.configs import regnet3d_2017_plane
from regnet_jax.training.config import EvaluationConfig

CONFIG = dataclasses.replace(
    regnet3d_2017_plane.CONFIG,
    name="regnet3d_2017",
    data=dataclasses.replace(regnet3d_2017_plane.CONFIG.data, shape=(88, 88, 88)),
    batch_size=4,
    steps=560,
    init_from="runs/regnet3d_2017_plane",
    inflate=True,
    evaluation=EvaluationConfig(every=280),
)
