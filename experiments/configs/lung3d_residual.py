"""The second stage of the training of `lung`: finer, and on the network's residuals.

    python -m experiments.train --config lung3d_residual \
        --workdir runs/lung3d_residual --override scans.file=scans.txt

It starts from the weights of a run of lung3d in runs/lung3d (or of another network, by
`--override init_from=NAME or FOLDER`); experiments/recipes/lung.sh runs all parts. Half
the steps take a pair that the network itself has registered once, at the same or twice
the voxel size, as the later passes of a registration do. The loss grows linearly from a
quarter of a voxel on, so that small errors have more weight.
"""

import dataclasses

from experiments.configs import lung3d
from regnet_jax.training.config import LossConfig, ScheduleConfig

_FAMILIES = {
    "multiscale": 3.0,
    "respiratory": 2.0,
    "sliding": 1.5,
    "single": 1.0,
    "diffeomorphic": 0.5,
    "affine": 0.5,
    "translation": 0.5,
    "mixed": 0.25,
    "high": 0.25,
    "zero": 0.5,
}
_DATA = dataclasses.replace(
    lung3d.CONFIG.data,
    families=tuple(_FAMILIES),
    family_weights=tuple(_FAMILIES.values()),
    intensity_models=("contrast", "bias_field", "blur", "occlusions", "quantum_noise"),
    noise_fixed=5.0,
    noise_moving=5.0,
    unseen_weight=0.02,
)

CONFIG = dataclasses.replace(
    lung3d.CONFIG,
    name="lung3d_residual",
    data=_DATA,
    steps=1400,
    seed=1,
    residual_probability=0.5,
    init_from="runs/lung3d",
    checkpoint_every=100,
    loss=LossConfig(huber_delta=0.25),
    optimizer=dataclasses.replace(lung3d.CONFIG.optimizer, learning_rate=4e-4),
    schedule=ScheduleConfig(warmup_steps=50),
    evaluation=dataclasses.replace(lung3d.CONFIG.evaluation, every=1400),
)
