"""ConvexAdam: a search on MIND features, made convex, then descent by Adam.

H. Siebert, C. Großbröhmer, L. Hansen and M. Heinrich, "ConvexAdam:
Self-configuring dual-optimisation-based 3D multitask medical image registration",
IEEE TMI 44(2), 2025. The settings are the package's defaults for MIND: radius 1,
dilation 2, a search of 4 steps of 6 voxels to each side, made inverse consistent, then
80 steps of Adam on every second voxel with a weight of 1.25 on the regularity.
"""

import numpy as np
import torch
from convexAdam.convex_adam_MIND import convex_adam_pt

from experiments.comparison.methods import THREADS, Task
from regnet_jax.errors import InputError
from regnet_jax.spatial import (
    affine_transform,
    displacement_to_world,
    resample,
    total_displacement,
)


def register(task: Task) -> np.ndarray:
    """Register a pair in 3D on the CPU; see ``experiments.comparison.methods``.

    Masks are not used.

    Raises:
        InputError: if the images are 2D.
    """
    frame = task.fixed.frame
    if frame.ndim != 3:
        raise InputError("convexadam registers 3D images alone; leave it out for 2D")
    torch.set_num_threads(THREADS)
    aligned = resample(task.moving, frame, affine_transform(task.initial))
    voxels = convex_adam_pt(
        np.asarray(task.fixed.array, np.float32),
        aligned.array,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    residual = displacement_to_world(frame, voxels)
    return total_displacement(frame, residual, task.initial)
