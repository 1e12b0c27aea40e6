"""The last part of the shipped weights' training: small errors count as all others do.

    python -m experiments.train --config lung3d_polish --workdir runs/polish \
        --override scans=scans.txt

It starts from the weights of lung3d_residual. The loss grows linearly from a twentieth
of a voxel on, more pairs hardly move, and more steps see what the network itself left,
so that another pass with it does not disturb what is aligned already.
"""

import dataclasses

from experiments.configs import lung3d_residual

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
        weights=tuple(_FAMILIES.values()),
    ),
    steps=1200,
    seed=2,
    learning_rate=3e-4,
    residuals=0.6,
    huber_delta=0.05,
    init_from="runs/residual",
    evaluate_every=1200,
)
