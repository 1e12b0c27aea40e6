"""Elastix: affine, then a B-spline by stochastic gradient descent.

S. Klein et al., "elastix: a toolbox for intensity-based medical image registration",
IEEE TMI 29(1), 2010; step sizes after S. Klein et al., "Adaptive stochastic gradient
descent optimisation for image registration", IJCV 81, 2009. The settings for lungs
follow the toolbox's entries in the EMPIRE10 challenge (M. Staring et al., 2010):
correlation, random samples anew in every iteration, and a last grid of 10 mm.

The faster estimation by the distribution of displacements (Y. Qiao et al., IEEE TMI
35(2), 2016) divides by the gradient at the start, which is almost zero where the images
nearly match, and the alignment then diverges.
"""

import os
import tempfile

import itk
import numpy as np

from experiments.comparison.methods import THREADS, Setting
from regnet_jax.spatial import Frame, Image

_COMMON = {
    "AutomaticParameterEstimation": "true",
    "ASGDParameterEstimationMethod": "Original",
    "FixedImagePyramid": "FixedSmoothingImagePyramid",
    "FixedInternalImagePixelType": "float",
    "HowToCombineTransforms": "Compose",
    "ImageSampler": "RandomCoordinate",
    "Interpolator": "LinearInterpolator",
    "MaximumNumberOfSamplingAttempts": "8",
    "MovingImagePyramid": "MovingSmoothingImagePyramid",
    "MovingInternalImagePixelType": "float",
    "NewSamplesEveryIteration": "true",
    "NumberOfResolutions": "4",
    "Optimizer": "AdaptiveStochasticGradientDescent",
    "RandomSeed": "2017",
    "Registration": "MultiResolutionRegistration",
    "ResampleInterpolator": "FinalLinearInterpolator",
    "Resampler": "DefaultResampler",
    "UseDirectionCosines": "true",
    "WriteResultImage": "false",
}
_METRIC = {
    "lung": "AdvancedNormalizedCorrelation",
    "default": "AdvancedMattesMutualInformation",
}
_AFFINE = {
    "AutomaticScalesEstimation": "true",
    "AutomaticTransformInitialization": "true",
    "AutomaticTransformInitializationMethod": "GeometricalCenter",
    "MaximumNumberOfIterations": "250",
    "NumberOfSpatialSamples": "3000",
    "Transform": "AffineTransform",
}
_SPLINE = {
    "MaximumNumberOfIterations": "500",
    "NumberOfSpatialSamples": "5000",
    "Transform": "BSplineTransform",
}


def register(fixed: Image, moving: Image, *, setting: Setting, masks) -> np.ndarray:
    """Register a pair; see ``experiments.comparison.methods``."""
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(THREADS)
    images = [_to_itk(image, np.float32) for image in (fixed, moving)]
    names = ("fixed_mask", "moving_mask")
    extra = {
        name: _to_itk(mask, np.uint8)
        for name, mask in zip(names, masks, strict=True)
        if mask is not None
    }
    parameters = itk.ParameterObject.New()
    for stage in (_AFFINE, _SPLINE | _grid(fixed.frame, setting)):
        parameters.AddParameterMap(_map(_COMMON | stage, setting))
    _, transform = itk.elastix_registration_method(
        *images, parameter_object=parameters, log_to_console=False, **extra
    )
    with tempfile.TemporaryDirectory() as folder:
        # The filter also leaves a file in the working directory.
        here = os.getcwd()
        os.chdir(folder)
        try:
            field = itk.transformix_deformation_field(images[1], transform)
        finally:
            os.chdir(here)
    return itk.array_from_image(field)


def _grid(frame: Frame, setting: Setting) -> dict:
    """Return the last grid: 10 mm, and finer where the organ is small."""
    extent = max(n * s for n, s in zip(frame.shape[::-1], frame.spacing, strict=True))
    spacing = 10.0 if setting == "lung" else min(10.0, max(extent / 12, 2.0))
    return {"FinalGridSpacingInPhysicalUnits": f"{spacing:g}"}


def _map(values: dict, setting: Setting):
    result = itk.ParameterObject.New().GetDefaultParameterMap("rigid")
    for key in list(result):
        del result[key]
    for key, value in (values | {"Metric": _METRIC[setting]}).items():
        result[key] = [value]
    return result


def _to_itk(image: Image, dtype):
    result = itk.image_from_array(np.ascontiguousarray(image.array, dtype))
    d = image.frame.ndim
    result.SetSpacing(image.frame.spacing)
    result.SetOrigin(image.frame.origin)
    result.SetDirection(np.reshape(image.frame.direction, (d, d)))
    return result
