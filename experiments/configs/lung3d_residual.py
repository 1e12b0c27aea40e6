"""The second half of the shipped weights' training: finer, and on their own residuals.

    python -m experiments.train --config lung3d_residual --workdir runs/residual \
        --override scans=scans.txt

It starts from the weights of a run of lung3d (or of another network, by
`--override init_from=NAME or FOLDER`). Half the steps see a pair that the
network itself has registered once, at the same or twice the voxel size, as the later
passes of a registration do. The loss grows linearly from a quarter of a voxel on, so
that small errors count.
"""

import dataclasses

from experiments.configs import lung3d

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
    weights=tuple(_FAMILIES.values()),
    intensity=("contrast", "bias_field", "blur", "occlusions", "grain"),
    noise_fixed=5.0,
    noise_moving=5.0,
    unseen=0.02,
)

CONFIG = dataclasses.replace(
    lung3d.CONFIG,
    name="lung3d_residual",
    data=_DATA,
    steps=1400,
    seed=1,
    learning_rate=4e-4,
    warmup=50,
    residuals=0.5,
    huber_delta=0.25,
    init_from="runs/lung3d",
    save_every=100,
    evaluate_every=1400,
)
