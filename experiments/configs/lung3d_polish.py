"""Parts 3 and 4 of the training of `lung`: small errors get more weight.

    python -m experiments.train --config lung3d_polish --workdir runs/lung3d_polish \
        --override scans.file=scans.txt

It starts from the weights of lung3d_residual in runs/lung3d_residual;
experiments/recipes/lung.sh runs all parts. The loss grows linearly from a twentieth of
a voxel on, more pairs hardly move, and more steps train on the network's own residuals,
so that another pass does not move what is already aligned.
"""

import dataclasses

from experiments.configs import lung3d_residual
from regnet_jax.training.config import LossConfig

_FAMILIES = {
    "multiscale": 3.0,
    "respiratory": 2.0,
    "sliding": 2.0,
    "single": 1.0,
    "diffeomorphic": 0.5,
    "affine": 0.5,
    "translation": 0.5,
    "mixed": 0.5,
    "high": 0.5,
    "zero": 1.0,
}

CONFIG = dataclasses.replace(
    lung3d_residual.CONFIG,
    name="lung3d_polish",
    data=dataclasses.replace(
        lung3d_residual.CONFIG.data,
        families=tuple(_FAMILIES),
        family_weights=tuple(_FAMILIES.values()),
    ),
    steps=1200,
    seed=2,
    residual_probability=0.6,
    init_from="runs/lung3d_residual",
    loss=LossConfig(huber_delta=0.05),
    optimizer=dataclasses.replace(lung3d_residual.CONFIG.optimizer, learning_rate=3e-4),
    evaluation=dataclasses.replace(lung3d_residual.CONFIG.evaluation, every=1200),
)
