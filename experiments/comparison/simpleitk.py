"""SimpleITK's own nonrigid registration: demons and B-splines.

Neither has a linear alignment of its own.
"""

import numpy as np
import SimpleITK as sitk

from experiments.comparison.methods import Task
from regnet_jax.hounsfield import SOFT_TISSUE_RANGE
from regnet_jax.spatial import Image, affine_transform, sample_transform, to_sitk

# Shrink factors of the resolutions, and the settings at each.
_SHRINK = (4, 2, 1)
_DEMONS_ITERATIONS = (100, 50, 25)
_DEMONS_SIGMA = 1.5
_SPLINE_ITERATIONS = 40
# ITK computes the derivative by every control point for every sampled voxel: with 10 mm
# and 80,000 voxels a pair of chests takes more than half an hour.
_SPLINE_SPACING = 20.0
# Number of voxels sampled at each resolution.
_SAMPLES = 20_000
_BINS = 32


def affine(task: Task) -> np.ndarray:
    """Keep the linear alignment; see ``experiments.comparison.methods``."""
    return sample_transform(affine_transform(task.initial), task.fixed.frame)


def demons(task: Task) -> np.ndarray:
    """Register by demons with symmetric forces; see ``experiments.comparison.methods``.

    T. Vercauteren et al., "Diffeomorphic demons: efficient non-parametric image
    registration", NeuroImage 45(1), 2009; coarse to fine. As demons compare
    intensities, the histograms of images of the setting ``default`` are matched first.
    """
    linear = affine_transform(task.initial)
    target, source = (_float(image) for image in (task.fixed, task.moving))
    lowest = float(task.moving.array.min())
    source = sitk.Resample(source, target, linear, sitk.sitkLinear, lowest)
    if task.setting == "lung":
        target, source = (
            sitk.Clamp(i, sitk.sitkFloat32, *SOFT_TISSUE_RANGE)
            for i in (target, source)
        )
    else:
        source = sitk.HistogramMatching(source, target, 256, 15)
    tool = sitk.FastSymmetricForcesDemonsRegistrationFilter()
    tool.SetSmoothDisplacementField(True)
    tool.SetStandardDeviations(_DEMONS_SIGMA)
    field = None
    for factor, iterations in zip(_SHRINK, _DEMONS_ITERATIONS, strict=True):
        one, other = (_shrunk(image, factor) for image in (target, source))
        tool.SetNumberOfIterations(iterations)
        if field is None:
            field = tool.Execute(one, other)
        else:
            # Beyond the centres of the coarse voxels the field is that of its edge.
            finer = sitk.Resample(field, one, useNearestNeighborExtrapolator=True)
            field = tool.Execute(one, other, finer)
    first = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
    frame = task.fixed.frame
    return sample_transform(sitk.CompositeTransform([linear, first]), frame)


def bspline(task: Task) -> np.ndarray:
    """Register by a cubic B-spline; see ``experiments.comparison.methods``.

    The metric is correlation for lungs and mutual information for other images, both on
    a sample of the voxels. L-BFGS goes coarse to fine in images and control points.
    """
    fixed = task.fixed
    target, source = (_float(image) for image in (fixed, task.moving))
    d = fixed.frame.ndim
    tool = sitk.ImageRegistrationMethod()
    if task.setting == "lung":
        tool.SetMetricAsCorrelation()
    else:
        tool.SetMetricAsMattesMutualInformation(_BINS)
    tool.SetMetricSamplingStrategy(tool.RANDOM)
    fractions = [min(1.0, _SAMPLES * f**d / fixed.array.size) for f in _SHRINK]
    tool.SetMetricSamplingPercentagePerLevel(fractions, 2017)
    for mask, use in zip(
        task.masks, (tool.SetMetricFixedMask, tool.SetMetricMovingMask), strict=True
    ):
        if mask is not None:
            use(to_sitk(mask.array, mask.frame))
    tool.SetShrinkFactorsPerLevel(_SHRINK)
    tool.SetSmoothingSigmasPerLevel([0.5 * factor for factor in _SHRINK])
    tool.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(False)
    tool.SetInterpolator(sitk.sitkLinear)
    tool.SetOptimizerAsLBFGS2(numberOfIterations=_SPLINE_ITERATIONS)
    linear = affine_transform(task.initial)
    tool.SetMovingInitialTransform(linear)
    extent = np.multiply(fixed.frame.shape[::-1], fixed.frame.spacing)
    mesh = np.maximum(np.rint(extent / (_SPLINE_SPACING * _SHRINK[0])), 1)
    spline = sitk.BSplineTransformInitializer(target, mesh.astype(int).tolist(), 3)
    tool.SetInitialTransformAsBSpline(spline, inPlace=True, scaleFactors=_SHRINK[::-1])
    tool.Execute(target, source)
    return sample_transform(sitk.CompositeTransform([linear, spline]), fixed.frame)


def _float(image: Image) -> sitk.Image:
    return sitk.Cast(to_sitk(image.array, image.frame), sitk.sitkFloat32)


def _shrunk(image: sitk.Image, factor: int) -> sitk.Image:
    """Smooth an image and keep every ``factor``-th voxel."""
    if factor == 1:
        return image
    variances = [(0.5 * factor * s) ** 2 for s in image.GetSpacing()]
    return sitk.Shrink(
        sitk.DiscreteGaussian(image, variances), [factor] * image.GetDimension()
    )
