"""RegNet 2017 in 2D on slices at 4 mm: the start of regnet3d_2017.

    python -m experiments.train --config regnet3d_2017_plane \
        --workdir runs/regnet3d_2017_plane

A step samples four slices for each volume of a step in 3D, because slices cost little.
"""

import dataclasses

from experiments.configs import regnet2d_2017
from regnet_jax.training.config import EvaluationConfig, ScheduleConfig

CONFIG = dataclasses.replace(
    regnet2d_2017.CONFIG,
    name="regnet3d_2017_plane",
    data=dataclasses.replace(
        regnet2d_2017.CONFIG.data,
        shape=(88, 88),
        spacing=4.0,
        patches_per_pair=1,
        patch_size=69,
    ),
    batch_size=16,
    steps=400,
    checkpoint_every=40,
    schedule=ScheduleConfig(warmup_steps=20),
    evaluation=EvaluationConfig(every=400),
)
