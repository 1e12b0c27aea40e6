"""CorrNet in 2D for slices of chest CT at 2 mm.

    python -m experiments.train --config lung2d --workdir runs/lung2d

Slices are axial, coronal and sagittal, of procedural chests alone.
"""

from regnet_jax.synthesis.generator_config import GeneratorConfig
from regnet_jax.training.config import ExperimentConfig

CONFIG = ExperimentConfig(
    name="lung2d",
    model="corrnet",
    data=GeneratorConfig(
        shape=(128, 128),
        spacing=2.0,
        families=("multiscale", "low", "medium", "high"),
        amplitude=0.6,
        limits=(1000.0,),
        noise_fixed=10.0,
        noise_moving=10.0,
        unseen=0.05,
        windows=1,
        window=128,
        margin=0,
        stride=1,
    ),
    pairs=8,
    steps=4000,
    learning_rate=1e-3,
    warmup=30,
    clip=1.0,
    save_every=500,
    evaluate_every=2000,
)
