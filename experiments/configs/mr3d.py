"""CorrNet for MR scans of an organ: the weights of `lung`, trained on.

    python -m experiments.train --config mr3d --workdir runs/mr3d \
        --override scans.file=scans.txt

scans.txt lists MR scans of your own, one path on each line; docs/training_mr.md is a
worked example. The numbers here suit scans of 1 mm of an organ of some 40 mm, such as a
hippocampus. For another organ change data.spacing, the voxel size of the last pass, and
data.anatomy_scale, the size of the anatomy relative to a human chest. Where
anatomy_scale is half of spacing, the network meets displacements of up to 7 voxels, as
`lung` did.
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
    "single": 1.0,
    "diffeomorphic": 1.0,
    "affine": 1.0,
    "translation": 0.5,
    "zero": 0.25,
}

CONFIG = ExperimentConfig(
    name="mr3d",
    model="corrnet",
    data=GeneratorConfig(
        shape=(40, 40, 40),
        spacing=0.5,
        intensity_preset="mr",
        anatomy_scale=0.25,
        families=tuple(_FAMILIES),
        family_weights=tuple(_FAMILIES.values()),
        amplitude=0.7,
        noise_fixed=0.0,
        noise_moving=0.0,
        intensity_models=("tissue_contrast", "coil_field", "blur", "rician_noise"),
        unseen_weight=0.05,
        scan_probability=0.8,
        predeform_probability=0.5,
        scales=(1.0, 2.0),
        patches_per_pair=1,
        patch_size=40,
    ),
    batch_size=4,
    steps=130,
    residual_probability=0.4,
    init_from="lung",
    checkpoint_every=65,
    optimizer=OptimizerConfig(learning_rate=3e-4, max_grad_norm=1.0),
    schedule=ScheduleConfig(warmup_steps=20),
    evaluation=EvaluationConfig(every=130, pairs=4),
)
