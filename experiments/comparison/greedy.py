"""Greedy: affine, then greedy diffeomorphic registration, by local correlation.

P. Yushkevich et al., "Fast automatic segmentation of hippocampal subfields and medial
temporal lobe subregions in 3 Tesla and 7 Tesla T2-weighted MRI", Alzheimer's &
Dementia 12(7), 2016.
"""

import io
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from experiments.comparison.methods import THREADS, Setting, Task
from regnet_jax.spatial import to_sitk

_ITERATIONS = "100x50x10"
# Radius of the local correlation, voxels: small for the thin vessels of lungs, larger
# for organs of unclear contrast.
_RADIUS = {"lung": 2, "default": 4}
# Sigmas of the smoothing of each update and of the whole warp: greedy's own defaults.
_SMOOTHING = "1.732vox 0.7071vox"


def register(task: Task) -> np.ndarray:
    """Register a pair; see ``experiments.comparison.methods``."""
    # Imported here, so that the command lines can be read where it is missing.
    import picsl_greedy

    d = task.fixed.frame.ndim
    tool = {2: picsl_greedy.Greedy2D, 3: picsl_greedy.Greedy3D}[d]()
    images = {
        name: sitk.Cast(to_sitk(image.array, image.frame), sitk.sitkFloat32)
        for name, image in (("fixed", task.fixed), ("moving", task.moving))
    }
    for name, mask in zip(("gm", "mm"), task.masks, strict=True):
        if mask is not None:
            images[name] = to_sitk(mask.array, mask.frame)
    silent = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        if task.initial is not None:
            np.savetxt(Path(folder) / AFFINE, nifti_matrix(task.initial))
        for command in commands(
            folder, d, task.setting, aligned=task.initial is not None, given=images
        ):
            tool.execute(command, out=silent, err=silent, **images)
        field = sitk.ReadImage(str(Path(folder) / _TOTAL))
    return sitk.GetArrayFromImage(field)


# Files in the folder of a run.
AFFINE, _WARP, _TOTAL = "affine.mat", "warp.nii.gz", "total.nii.gz"


def commands(folder, d: int, setting: Setting, *, aligned: bool, given=()) -> list[str]:
    """Return the command lines of greedy.

    Args:
        folder: of the files.
        d: dimension of the images.
        setting: content of the images.
        aligned: the affine matrix is in the folder already.
        given: names of the images: ``fixed``, ``moving`` and of masks ``gm``, ``mm``.

    Returns:
        Lines to be executed one after the other.
    """
    affine, warp, total = (Path(folder) / name for name in (AFFINE, _WARP, _TOTAL))
    radius = "x".join([str(_RADIUS[setting])] * d)
    common = f"-threads {THREADS} -seed 2017 -m NCC {radius} -n {_ITERATIONS}"
    common += "".join(f" -{name} {name}" for name in ("gm", "mm") if name in given)
    align = f"-a -dof 12 -ia-image-centers -i fixed moving {common} -o {affine}"
    deform = f"-float -i fixed moving -it {affine} {common} -s {_SMOOTHING} -o {warp}"
    join = f"-rf fixed -rc {total} -r {warp} {affine}"
    return [deform, join] if aligned else [align, deform, join]


def nifti_matrix(matrix: np.ndarray) -> np.ndarray:
    """Return a homogeneous matrix in the axes of NIfTI, where x and y are negated."""
    flip = np.ones(len(matrix))
    flip[:2] = -1
    return flip[:, None] * matrix * flip
