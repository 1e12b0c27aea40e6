"""RegNet 2017 in 2D at 2 and 4 mm, on slices of procedural chests.

    python -m experiments.train --config regnet2d_2017 --workdir runs/regnet2d_2017

The network has 2D kernels and two outputs; slices are axial, coronal and sagittal.
"""

from experiments.configs import regnet3d_axial
from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.training.config import (
    EvaluationConfig,
    ExperimentConfig,
    OptimizerConfig,
    ScheduleConfig,
)

_FAMILIES = regnet3d_axial.FAMILIES

CONFIG = ExperimentConfig(
    name="regnet2d_2017",
    model="regnet",
    data=GeneratorConfig(
        shape=(160, 160),
        spacing=2.0,
        families=tuple(_FAMILIES),
        family_weights=tuple(_FAMILIES.values()),
        noise_fixed=8.0,
        noise_moving=8.0,
        intensity_models=("contrast", "blur"),
        unseen_weight=0.05,
        scales=(1.0, 2.0),
        patches_per_pair=4,
        patch_size=85,
    ),
    batch_size=4,
    steps=8000,
    optimizer=OptimizerConfig(max_grad_norm=1.0, ema_decay=0.998),
    schedule=ScheduleConfig(constant_fraction=0.6, final_fraction=0.01),
    evaluation=EvaluationConfig(every=8000),
)
