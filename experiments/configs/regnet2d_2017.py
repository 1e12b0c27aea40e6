"""RegNet 2017 in 2D at 2 mm, on slices of procedural chests.

    python -m experiments.train --config regnet2d_2017 --workdir runs/regnet2d_2017

The network has 2D kernels and two outputs; slices are axial, coronal and sagittal.
As in the paper, a displacement is in one of the upper classes if any component is.
The paper has voxels of 1 mm, at which a run of this length learns much less.

On one CPU core it takes 23 minutes and reaches 0.46, 0.38 and 0.38 of the zero field's
error for the low, medium and high frequencies; a quarter of the steps reached 0.69,
0.62 and 0.65. The shipped weights `regnet2d_2017` are from this run
(experiments/recipes/regnet2d_2017.sh).
"""

from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.training.config import (
    EvaluationConfig,
    ExperimentConfig,
    OptimizerConfig,
)

CONFIG = ExperimentConfig(
    name="regnet2d_2017",
    model="regnet",
    data=GeneratorConfig(
        shape=(160, 160),
        spacing=2.0,
        families=("low", "medium", "high"),
        class_limits=(1.5, 4.0, 8.0),
        noise_fixed=5.0,
        noise_moving=0.0,
        patches_per_pair=4,
        patch_size=85,
    ),
    batch_size=4,
    steps=2000,
    optimizer=OptimizerConfig(learning_rate=1e-3),
    evaluation=EvaluationConfig(every=2000),
)
