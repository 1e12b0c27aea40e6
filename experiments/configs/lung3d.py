"""CorrNet for chest CT at 2 and 4 mm: part 1 of the training of `lung`.

    python -m experiments.train --config lung3d --workdir runs/lung3d \
        --override scans.file=scans.txt

scans.txt lists chest CTs, one path on each line. If you have none, --override
data.scan_probability=0 makes all volumes procedural chests.

On two CPU cores 2,500 steps took an hour and reached 0.415 of the zero field's error,
as the mean over the last 250 steps.

One network serves both voxel sizes, because its task is alike at both: displacements
of up to 7 voxels, in any mixture of families, on images of any two scanners.
"""

from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.training.config import (
    EvaluationConfig,
    ExperimentConfig,
    OptimizerConfig,
    ScheduleConfig,
)

_FAMILIES = {
    "multiscale": 4.0,
    "respiratory": 2.0,
    "sliding": 1.0,
    "translation": 1.0,
    "affine": 1.0,
    "single": 0.5,
    "diffeomorphic": 0.5,
    "mixed": 0.25,
    "high": 0.25,
    "zero": 0.25,
}

CONFIG = ExperimentConfig(
    name="lung3d",
    model="corrnet",
    data=GeneratorConfig(
        shape=(64, 64, 64),
        spacing=2.0,
        families=tuple(_FAMILIES),
        family_weights=tuple(_FAMILIES.values()),
        amplitude=0.7,
        noise_fixed=10.0,
        noise_moving=10.0,
        intensity_models=("contrast", "bias_field", "blur", "occlusions"),
        sponge_probability=0.5,
        unseen_weight=0.05,
        scan_probability=0.6,
        scales=(1.0, 2.0),
        patches_per_pair=1,
        patch_size=64,
    ),
    batch_size=2,
    steps=3000,
    checkpoint_every=250,
    optimizer=OptimizerConfig(learning_rate=5e-4, max_grad_norm=1.0),
    schedule=ScheduleConfig(warmup_steps=30),
    evaluation=EvaluationConfig(every=3000, pairs=4),
)
