"""ANTs: symmetric normalisation (SyN) with local correlation.

B. Avants et al., "Symmetric diffeomorphic image registration with cross-correlation",
Medical Image Analysis 12(1), 2008. The settings are those of the authors' recipe
``antsRegistrationSyN`` as the package has it: local correlation in windows of 5³
voxels, ``SyN[0.2, 3, 0]``, 100, 70, 50 and 20 iterations at 1/8, 1/4, 1/2 and full
resolution. Its own alignment is rigid, then affine, by mutual information.
"""

import os
import tempfile
from pathlib import Path

import ants
import numpy as np
import SimpleITK as sitk

from experiments.comparison.methods import THREADS, Task
from regnet_jax.spatial import Image, affine_transform

# The recipe with its rigid and affine stages, and without.
_ALIGNING, _STARTED = "antsRegistrationSyN[s]", "antsRegistrationSyN[so]"


def register(task: Task) -> np.ndarray:
    """Register a pair; see ``experiments.comparison.methods``."""
    # ITK reads it when the first filter runs.
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(THREADS)
    fixed, moving = _to_ants(task.fixed), _to_ants(task.moving)
    fixed_mask, moving_mask = (mask and _to_ants(mask) for mask in task.masks)
    with tempfile.TemporaryDirectory() as folder:
        options: dict = {"type_of_transform": _ALIGNING}
        if task.initial is not None:
            start = str(Path(folder) / "initial.tfm")
            sitk.WriteTransform(affine_transform(task.initial), start)
            options = {"type_of_transform": _STARTED, "initial_transform": [start]}
        found = ants.registration(
            fixed,
            moving,
            mask=fixed_mask,
            moving_mask=moving_mask,
            outprefix=str(Path(folder) / "syn"),
            **options,
        )
        total = ants.apply_transforms(
            fixed,
            moving,
            transformlist=found["fwdtransforms"],
            compose=str(Path(folder) / "total"),
        )
        return sitk.GetArrayFromImage(sitk.ReadImage(total))


def _to_ants(image: Image):
    """Return the image of ANTs, whose arrays have x first."""
    frame = image.frame
    return ants.from_numpy(
        np.ascontiguousarray(image.array.T, np.float32),
        origin=frame.origin,
        spacing=frame.spacing,
        direction=np.reshape(frame.direction, (frame.ndim, frame.ndim)),
    )
