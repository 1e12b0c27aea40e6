"""A small 2D run of two minutes, which `make demo` trains.

    python -m experiments.train --config demo2d --workdir runs/demo2d

CorrNet on slices of procedural chests at 2 mm, axial, coronal and sagittal. On two CPU
cores it takes 100 s and reaches 0.26 to 0.34 of the zero field's error, depending on
the family.
"""

from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.training.config import (
    EvaluationConfig,
    ExperimentConfig,
    OptimizerConfig,
    ScheduleConfig,
)

CONFIG = ExperimentConfig(
    name="demo2d",
    model="corrnet",
    data=GeneratorConfig(
        shape=(128, 128),
        spacing=2.0,
        families=("multiscale", "low", "medium", "high"),
        amplitude=0.6,
        noise_fixed=10.0,
        noise_moving=10.0,
        unseen_weight=0.05,
        patches_per_pair=1,
        patch_size=128,
    ),
    batch_size=8,
    steps=200,
    checkpoint_every=200,
    optimizer=OptimizerConfig(learning_rate=1e-3, max_grad_norm=1.0),
    schedule=ScheduleConfig(warmup_steps=30),
    evaluation=EvaluationConfig(every=200),
)
