"""The training of `lung` on an accelerator: long, and with volumes of random regions.

    python -m experiments.train --config lung3d_long --workdir runs/lung3d_long \
        --override scans.file=scans.txt

It goes on from the weights of lung3d_confident, as they are exported under the name
`lung`, with sixteen times the batch; experiments/recipes/lung.sh runs all parts. A
quarter of the pairs shows random regions in place of a chest, so that the network
matches organs that it never saw.

On one NVIDIA H200 a step took 0.15 s, 0.09 s of which for the sampling: 213 pairs a
second, where two CPU cores make one. The run took eight minutes.
"""

import dataclasses

from experiments.configs import lung3d_confident
from regnet_jax.training.config import ScheduleConfig

_DATA = dataclasses.replace(
    lung3d_confident.CONFIG.data,
    scan_probability=0.55,
    regions_probability=0.55,
)

CONFIG = dataclasses.replace(
    lung3d_confident.CONFIG,
    name="lung3d_long",
    data=_DATA,
    batch_size=32,
    pairs_at_once=8,
    steps=3066,
    seed=7,
    optimizer=dataclasses.replace(
        lung3d_confident.CONFIG.optimizer, learning_rate=8e-4, ema_decay=0.997
    ),
    schedule=ScheduleConfig(warmup_steps=92, final_fraction=0.01),
    evaluation=dataclasses.replace(lung3d_confident.CONFIG.evaluation, every=3066),
)
