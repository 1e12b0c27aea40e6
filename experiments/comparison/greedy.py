"""Greedy: affine, then greedy diffeomorphic registration, by local correlation.

P. Yushkevich et al., "Fast automatic segmentation of hippocampal subfields and medial
temporal lobe subregions in 3 Tesla and 7 Tesla T2-weighted MRI", Alzheimer's &
Dementia 12(7), 2016.
"""

import io
import tempfile
from pathlib import Path

import numpy as np
import picsl_greedy
import SimpleITK as sitk

from experiments.comparison.methods import THREADS, Setting
from regnet_jax.spatial import Image, to_sitk

_ITERATIONS = "100x50x10"
# Radius of the local correlation, voxels: small for the thin vessels of lungs, larger
# for organs of unclear contrast.
_RADIUS = {"lung": 2, "default": 4}


def register(fixed: Image, moving: Image, *, setting: Setting, masks) -> np.ndarray:
    """Register a pair; see ``experiments.comparison.methods``."""
    d = fixed.frame.ndim
    tool = {2: picsl_greedy.Greedy2D, 3: picsl_greedy.Greedy3D}[d]()
    images = {
        name: sitk.Cast(to_sitk(image.array, image.frame), sitk.sitkFloat32)
        for name, image in (("fixed", fixed), ("moving", moving))
    }
    flags = ""
    for name, flag, mask in zip(("gm", "mm"), ("-gm", "-mm"), masks, strict=True):
        if mask is not None:
            images[name] = to_sitk(mask.array, mask.frame)
            flags += f" {flag} {name}"
    silent = io.StringIO()
    radius = "x".join([str(_RADIUS[setting])] * d)
    common = f"-threads {THREADS} -m NCC {radius} -n {_ITERATIONS}{flags}"
    with tempfile.TemporaryDirectory() as folder:
        affine, warp, total = (
            Path(folder) / name for name in ("a.mat", "w.nii.gz", "t.nii.gz")
        )
        for command in (
            f"-a -dof 12 -ia-image-centers -i fixed moving {common} -o {affine}",
            f"-float -i fixed moving -it {affine} {common} -o {warp}",
            f"-rf fixed -rc {total} -r {warp} {affine}",
        ):
            tool.execute(command, out=silent, err=silent, **images)
        field = sitk.ReadImage(str(total))
    return sitk.GetArrayFromImage(field)
