"""Elastix: affine, then B-splines by stochastic gradient descent.

S. Klein et al., "elastix: a toolbox for intensity-based medical image registration",
IEEE TMI 29(1), 2010.
"""

import os
import tempfile
from dataclasses import replace

import itk
import numpy as np

from experiments.comparison.elastix_parameters import (
    PLACEMENT,
    par0011_stages,
    short_stages,
)
from experiments.comparison.methods import THREADS, Task
from regnet_jax.spatial import Frame, Image


def par0011(task: Task) -> np.ndarray:
    """Register as Par0011 does; see ``experiments.comparison.methods``.

    The last stage samples the fixed lungs alone, within the mask of the list of pairs.
    Where no lungs are known it samples the whole image, or that mask.
    """
    affine, coarse, fine = par0011_stages([task.fixed.frame, task.moving.frame])
    fixed_mask, moving_mask = task.masks
    sampled = task.lungs or fixed_mask
    if task.lungs and fixed_mask:
        within = task.lungs.array * (fixed_mask.array > 0)
        sampled = replace(task.lungs, array=within)
    stages = [
        (affine, task.masks),
        (coarse, task.masks),
        (fine, (sampled, moving_mask)),
    ]
    return _run(task, stages)


def short(task: Task) -> np.ndarray:
    """Register in fewer iterations; see ``experiments.comparison.methods``."""
    stages = short_stages(task.fixed.frame, task.setting)
    return _run(task, [(parameters, task.masks) for parameters in stages])


def _run(task: Task, stages: list[tuple[dict, tuple]]) -> np.ndarray:
    """Run stages of parameters and masks, the first of which aligns linearly."""
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(THREADS)
    images = [_to_itk(image, np.float32) for image in (task.fixed, task.moving)]
    found = None
    if task.initial is not None:
        found = _parameter_object(_initial_transform(task.initial, task.fixed.frame))
        stages = stages[1:]
    for parameters, masks in stages:
        extra = {
            name: _to_itk(mask, np.uint8)
            for name, mask in zip(("fixed_mask", "moving_mask"), masks, strict=True)
            if mask is not None
        }
        if found is not None:
            extra["initial_transform_parameter_object"] = found
        # What is found holds the initial transform, too.
        _, found = itk.elastix_registration_method(
            *images,
            parameter_object=_parameter_object(parameters),
            log_to_console=False,
            **extra,
        )
    with tempfile.TemporaryDirectory() as folder:
        # The filter also leaves a file in the working directory.
        here = os.getcwd()
        os.chdir(folder)
        try:
            field = itk.transformix_deformation_field(images[1], found)
        finally:
            os.chdir(here)
    return itk.array_from_image(field)


def _initial_transform(matrix: np.ndarray, frame: Frame) -> dict:
    """Return the parameters of elastix' affine transform of a homogeneous matrix."""
    d = frame.ndim
    return PLACEMENT | {
        "CenterOfRotationPoint": [0.0] * d,
        "Direction": np.reshape(frame.direction, (d, d)).T.ravel(),
        "FixedImageDimension": d,
        "HowToCombineTransforms": "Compose",
        "Index": [0] * d,
        "InitialTransformParameterFileName": "NoInitialTransform",
        "MovingImageDimension": d,
        "NumberOfParameters": d * (d + 1),
        "Origin": frame.origin,
        "Size": frame.shape[::-1],
        "Spacing": frame.spacing,
        "Transform": "AffineTransform",
        "TransformParameters": [*matrix[:d, :d].ravel(), *matrix[:d, d]],
    }


def _parameter_object(values: dict):
    """Return elastix' object of one map of parameters."""
    result = itk.ParameterObject.New()
    map_ = result.GetDefaultParameterMap("rigid")
    for key in list(map_):
        del map_[key]
    for key, value in values.items():
        many = [value] if isinstance(value, str) else np.ravel(value).tolist()
        map_[key] = [str(one) for one in many]
    result.AddParameterMap(map_)
    return result


def _to_itk(image: Image, dtype):
    result = itk.image_from_array(np.ascontiguousarray(image.array, dtype))
    d = image.frame.ndim
    result.SetSpacing(image.frame.spacing)
    result.SetOrigin(image.frame.origin)
    result.SetDirection(np.reshape(image.frame.direction, (d, d)))
    return result
