"""The parameters of elastix in both of its settings.

``par0011`` is the entry of elastix' authors in EMPIRE10, a challenge of pairs of chest
CT: M. Staring et al., "Pulmonary image registration with elastix using a standard
intensity-based algorithm", 2010. Its figures are those of the parameter files
``Par0011`` of the elastix model zoo. Two things differ: the entry registered images
that were "slightly pre-processed", which the parameter files do not describe and is
not done here, and its lung masks were the organisers'. ``short`` is no published
setting. Step sizes are those of S. Klein et al., "Adaptive stochastic gradient descent
optimisation for image registration", IJCV 81, 2009.
"""

from collections.abc import Sequence

from experiments.comparison.methods import Setting
from regnet_jax.spatial import Frame

# Parameters that the found transform holds, too.
PLACEMENT = {
    "FixedInternalImagePixelType": "float",
    "MovingInternalImagePixelType": "float",
    "ResampleInterpolator": "FinalBSplineInterpolator",
    "Resampler": "DefaultResampler",
    "UseDirectionCosines": "true",
    "WriteResultImage": "false",
}
_COMMON = PLACEMENT | {
    "AutomaticParameterEstimation": "true",
    "HowToCombineTransforms": "Compose",
    "ImageSampler": "RandomCoordinate",
    "NewSamplesEveryIteration": "true",
    "Optimizer": "AdaptiveStochasticGradientDescent",
    "RandomSeed": "2017",
}

# Levels of a pyramid at which an image has fewer voxels along an axis are left out;
# this concerns images of fewer than 32 slices.
_FEWEST = 2
_PAR0011 = _COMMON | {
    "BSplineInterpolationOrder": 1,
    "FixedImagePyramid": "FixedRecursiveImagePyramid",
    "Interpolator": "BSplineInterpolator",
    "MovingImagePyramid": "MovingRecursiveImagePyramid",
    "NumberOfSpatialSamples": 2000,
    "UseAdaptiveStepSizes": "true",
    "UseRandomSampleRegion": "false",
}
_SMOOTH = {
    "MaximumNumberOfSamplingAttempts": 50,
    "Metric": ("AdvancedNormalizedCorrelation", "TransformBendingEnergyPenalty"),
    "Metric0RelativeWeight": 1.0,
    "Metric1RelativeWeight": 0.05,
    "Registration": "MultiMetricMultiResolutionRegistration",
    "Transform": "BSplineTransform",
    "UseRelativeWeights": "true",
}


def par0011_stages(frames: Sequence[Frame]) -> list[dict]:
    """Return the parameters of the three stages of Par0011.

    Args:
        frames: of the fixed and the moving image.

    Returns:
        Of the affine stage, and of the B-splines with grids of 10 and of 5 mm.
    """
    d = frames[0].ndim
    fewest = min(n for frame in frames for n in frame.shape)

    def by_level(shrink, **values):
        """Shrink factors of the images, and what else changes with the level."""
        kept = [k for k, factor in enumerate(shrink) if fewest // factor >= _FEWEST]
        kept = kept or [len(shrink) - 1]
        return {
            "NumberOfResolutions": len(kept),
            "ImagePyramidSchedule": [shrink[k] for k in kept for _ in range(d)],
            **{name: [value[k] for k in kept] for name, value in values.items()},
        }

    affine = {
        "AutomaticScalesEstimation": "true",
        "AutomaticTransformInitialization": "true",
        "ErodeMask": "false",
        "MaximumNumberOfIterations": 1000,
        "MaximumNumberOfSamplingAttempts": 5,
        "Metric": "AdvancedNormalizedCorrelation",
        "Registration": "MultiResolutionRegistration",
        "Transform": "AffineTransform",
        **by_level((16, 8, 4, 2, 1)),
    }
    coarse = {
        "ErodeMask": "false",
        "FinalGridSpacingInPhysicalUnits": [10.0] * d,
        "MaximumNumberOfIterations": 1000,
        **by_level((16, 8, 4, 2, 1), GridSpacingSchedule=(8.0, 8.0, 4.0, 2.0, 1.0)),
    }
    fine = {
        "FinalGridSpacingInPhysicalUnits": [5.0] * d,
        "MaximumNumberOfIterations": 2000,
        **by_level(
            (4, 3, 2, 1, 1),
            GridSpacingSchedule=(16.0, 8.0, 4.0, 2.0, 1.0),
            ErodeMask=("false", "false", "true", "true", "true"),
        ),
    }
    return [_PAR0011 | affine, _PAR0011 | _SMOOTH | coarse, _PAR0011 | _SMOOTH | fine]


# The faster estimation of step sizes by the distribution of displacements (Y. Qiao et
# al., IEEE TMI 35(2), 2016) divides by the gradient at the start, which is almost zero
# where the images nearly match, and the alignment then diverges.
_SHORT = _COMMON | {
    "ASGDParameterEstimationMethod": "Original",
    "FixedImagePyramid": "FixedSmoothingImagePyramid",
    "Interpolator": "LinearInterpolator",
    "MaximumNumberOfSamplingAttempts": 8,
    "MovingImagePyramid": "MovingSmoothingImagePyramid",
    "NumberOfResolutions": 4,
    "Registration": "MultiResolutionRegistration",
    "ResampleInterpolator": "FinalLinearInterpolator",
}
_SHORT_METRIC = {
    "lung": "AdvancedNormalizedCorrelation",
    "default": "AdvancedMattesMutualInformation",
}


def short_stages(frame: Frame, setting: Setting) -> list[dict]:
    """Return the parameters of the two stages of ``short``.

    Args:
        frame: of the fixed image.
        setting: content of the images.

    Returns:
        Of the affine stage and of the B-spline.
    """
    # 10 mm, and finer where the organ is small.
    extent = max(n * s for n, s in zip(frame.shape[::-1], frame.spacing, strict=True))
    spacing = 10.0 if setting == "lung" else min(10.0, max(extent / 12, 2.0))
    affine = {
        "AutomaticScalesEstimation": "true",
        "AutomaticTransformInitialization": "true",
        "AutomaticTransformInitializationMethod": "GeometricalCenter",
        "MaximumNumberOfIterations": 250,
        "NumberOfSpatialSamples": 3000,
        "Transform": "AffineTransform",
    }
    spline = {
        "FinalGridSpacingInPhysicalUnits": [spacing] * frame.ndim,
        "MaximumNumberOfIterations": 500,
        "NumberOfSpatialSamples": 5000,
        "Transform": "BSplineTransform",
    }
    common = _SHORT | {"Metric": _SHORT_METRIC[setting]}
    return [common | affine, common | spline]
