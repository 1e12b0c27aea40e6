"""The artificial deformations of 2019, and their U-Net, at 1, 2 and 4 mm.

    python -m experiments.train --config unet3d_2019 --workdir runs/unet3d_2019 \
        --override scans.file=scans.txt

Source: Sokooti et al., arXiv 1908.10235. Displacements of up to 7, 15 and 20 mm at 1, 2
and 4 mm; five families; scans multiplied by mild deformations; the sponge, noise of a
random mean, and occlusions on the images; the Huber loss with a tenth of the bending
energy. Without scans: --override data.scan_probability=0. This config has not been run
to its end; its batches are small enough for two CPU cores.

Differences from the paper: it trains a network for each stage, here one serves all
three (``stage_weights`` in inference.json takes several). It balances classes of
displacement between patches, with limits of each stage; here a patch is a whole volume,
so two classes, below and above 2 voxels, have equal weight within it. It masks the
torso; here air counts little (``unseen_weight``).
"""

import dataclasses

from experiments.configs import lung3d
from regnet_jax.training.config import LossConfig

# Probabilities, not from the paper: mostly smooth and respiratory fields, few others.
_FAMILIES = {
    "single": 0.4,
    "mixed": 0.2,
    "respiratory": 0.25,
    "zero": 0.05,
    "translation": 0.1,
}
# The families of the library move by up to 20 mm.
_LARGEST = (7.0, 15.0, 20.0)

_data = dataclasses.replace(
    lung3d.CONFIG.data,
    spacing=1.0,
    families=tuple(_FAMILIES),
    family_weights=tuple(_FAMILIES.values()),
    amplitude=1.0,
    noise_fixed=0.0,
    noise_moving=0.0,
    intensity_models=("noise", "occlusions"),
    sponge_probability=1.0,
    unseen_weight=0.05,
    scan_probability=0.5,
    predeform_probability=0.8,
    scales=(1.0, 2.0, 4.0),
    scale_amplitudes=tuple(largest / 20.0 for largest in _LARGEST),
)
CONFIG = dataclasses.replace(
    lung3d.CONFIG,
    name="unet3d_2019",
    model="unet",
    data=_data,
    loss=LossConfig(bending_weight=0.1, balance_edges=(2.0,)),
    optimizer=dataclasses.replace(lung3d.CONFIG.optimizer, learning_rate=1e-3),
)
