"""A registration as the files that other tools look for."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regnet_jax.files import write_atomically
from regnet_jax.io.transforms import write_displacement
from regnet_jax.spatial.frames import Frame, cosines
from regnet_jax.spatial.transforms import affine_transform


def write_for_ants(folder, frame: Frame, residual, affine) -> None:
    """Write ``ants_1Warp.nii.gz`` and ``ants_0GenericAffine.mat``.

    ``antsApplyTransforms -t ants_1Warp.nii.gz -t ants_0GenericAffine.mat`` takes a
    point through the last first when it moves images, which is ``A(x + r(x))``.

    Args:
        folder: where to; it exists.
        frame: the fixed grid.
        residual: ``r``, ``[*frame.shape, d]`` vectors, mm, x first.
        affine: ``A``, homogeneous ``[d + 1, d + 1]``.
    """
    folder = Path(folder)
    write_displacement(folder / "ants_1Warp.nii.gz", residual, frame)
    linear = affine_transform(affine)
    path = folder / "ants_0GenericAffine.mat"
    write_atomically(path, lambda name: sitk.WriteTransform(linear, name))


def write_for_elastix(folder, frame: Frame) -> None:
    """Write ``transform_elastix.txt``, which names ``displacement.nii.gz`` beside it.

    transformix looks for that file from the folder it is started in.

    Args:
        folder: where to; it exists.
        frame: the fixed grid, on which the displacement lies.
    """
    flipped = np.ravel(cosines(frame).T)
    lines = {
        "Transform": "DeformationFieldTransform",
        "DeformationFieldFileName": "displacement.nii.gz",
        "DeformationFieldInterpolationOrder": 1,
        "NumberOfParameters": 0,
        "InitialTransformParametersFileName": "NoInitialTransform",
        "HowToCombineTransforms": "Compose",
        "FixedImageDimension": frame.ndim,
        "MovingImageDimension": frame.ndim,
        "FixedInternalImagePixelType": "float",
        "MovingInternalImagePixelType": "float",
        "Size": frame.shape[::-1],
        "Index": (0,) * frame.ndim,
        "Spacing": frame.spacing,
        "Origin": frame.origin,
        "Direction": flipped.tolist(),
        "UseDirectionCosines": "true",
        "ResampleInterpolator": "FinalLinearInterpolator",
        "Resampler": "DefaultResampler",
        "DefaultPixelValue": 0,
        "ResultImageFormat": "nii.gz",
        "ResultImagePixelType": "float",
        "CompressResultImage": "true",
    }
    text = "\n".join(f"({key} {_words(value)})" for key, value in lines.items())
    path = Path(folder) / "transform_elastix.txt"
    write_atomically(path, lambda name: Path(name).write_text(text + "\n", "utf-8"))


def _words(value) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    values = value if isinstance(value, tuple | list) else (value,)
    return " ".join(f"{number:.12g}" for number in values)
