"""RegNet 2017 in 3D at 2 and 4 mm: the network behind the shipped weights.

    sh experiments/recipes/regnet3d_2017.sh scans.txt

It is made for an accelerator: a step takes 128 patches of 55^3 voxels, 8 of each of 16
pairs. On one NVIDIA H200 a step took 0.13 s, half of it for the sampling of 16 pairs at
a time, each with a family of its own; 4,350 steps are ten minutes. Two CPU cores need
some 30 s for a step, by extrapolation from smaller batches.

The number of independent displacements decides whether the network learns: a patch of
55^3 voxels shows little more than one, like the single positions of the paper, and the
run sees 557,000 patches, where the paper has about a million. From random weights the
network stays at the zero field's error for 100 steps and is at 0.88 after 520 (single
scale 0.85); from two 2D networks of half the features (`init_planes`) it starts at 0.86
and is at 0.79 then, 0.60 after 2,600 steps and 0.49 after 4,350: means over the pairs
of the training, all families and both voxel sizes.
"""

import dataclasses

from experiments.configs import regnet3d_axial
from regnet_jax.training.config import EvaluationConfig, ScheduleConfig

_PLANE = regnet3d_axial.CONFIG
_FAMILIES = dict(
    zip(_PLANE.data.families, _PLANE.data.family_weights, strict=True), single=0.5
)

CONFIG = dataclasses.replace(
    _PLANE,
    name="regnet3d_2017",
    model="regnet",
    data=dataclasses.replace(
        _PLANE.data,
        shape=(112, 112, 112),
        slice_axis="",
        through_plane=0.0,
        families=tuple(_FAMILIES),
        family_weights=tuple(_FAMILIES.values()),
        intensity_models=("contrast", "blur", "quantum_noise"),
        sponge_probability=0.25,
        patch_size=55,
    ),
    batch_size=16,
    pairs_at_once=4,
    steps=4350,
    init_planes=("axial=runs/regnet3d_axial", "coronal=runs/regnet3d_coronal"),
    optimizer=dataclasses.replace(_PLANE.optimizer, ema_decay=0.998),
    schedule=ScheduleConfig(
        warmup_steps=100, constant_fraction=0.7, final_fraction=0.01
    ),
    evaluation=EvaluationConfig(every=4350, pairs=12),
)
