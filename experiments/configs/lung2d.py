"""CorrNet for slices of chest CT at 2 and 4 mm: the network behind `lung2d`.

    python -m experiments.train --config lung2d --workdir runs/lung2d

Slices are axial, coronal and sagittal, of procedural chests alone, so no scans are
needed. Pairs are those of lung3d, and two fifths of the steps train on the network's
own residuals, which are the input of the later passes of a registration. It takes ten
minutes of one core; the weights `lung2d` that ship are of this run
(experiments/recipes/lung2d.sh).
"""

import dataclasses

from experiments.configs import lung3d
from regnet_jax.training.config import LossConfig

CONFIG = dataclasses.replace(
    lung3d.CONFIG,
    name="lung2d",
    data=dataclasses.replace(
        lung3d.CONFIG.data, shape=(128, 128), patch_size=128, scan_probability=0.0
    ),
    batch_size=8,
    steps=900,
    residual_probability=0.4,
    checkpoint_every=150,
    loss=LossConfig(huber_delta=0.25),
    optimizer=dataclasses.replace(lung3d.CONFIG.optimizer, learning_rate=1e-3),
    evaluation=dataclasses.replace(lung3d.CONFIG.evaluation, every=900),
)
