"""A 2D RegNet of half the features on axial slices: a start of regnet3d_2017.

    python -m experiments.train --config regnet3d_axial \
        --workdir runs/regnet3d_axial --override scans.file=scans.txt

It is trained on slices of 3D volumes with fields that move across the slices too, as
its kernels become middle planes of a 3D network, to which such pairs are given. This
makes it slower to train than a network for slices. After 1,600 steps, 26 minutes on one
CPU core beside other work, it was at 0.87 of the zero field's error and still learned.
"""

from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.training.config import (
    EvaluationConfig,
    ExperimentConfig,
    OptimizerConfig,
    ScheduleConfig,
)

FAMILIES = {
    "low": 1.0,
    "medium": 1.0,
    "high": 1.0,
    "multiscale": 1.0,
    "respiratory": 1.0,
    "sliding": 0.5,
    "translation": 0.5,
    "affine": 0.5,
    "zero": 0.25,
}

CONFIG = ExperimentConfig(
    name="regnet3d_axial",
    model="regnet_half",
    data=GeneratorConfig(
        shape=(48, 112, 112),
        slice_axis="axial",
        through_plane=1.0,
        spacing=2.0,
        families=tuple(FAMILIES),
        family_weights=tuple(FAMILIES.values()),
        noise_fixed=8.0,
        noise_moving=8.0,
        intensity_models=("contrast", "blur"),
        unseen_weight=0.05,
        scan_probability=0.5,
        scales=(1.0, 2.0),
        patches_per_pair=8,
        patch_size=85,
    ),
    batch_size=2,
    steps=1600,
    optimizer=OptimizerConfig(max_grad_norm=1.0, ema_decay=0.995),
    schedule=ScheduleConfig(final_fraction=1.0),
    evaluation=EvaluationConfig(every=1600, pairs=2),
)
