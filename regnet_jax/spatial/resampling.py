"""Images on other grids, without aliasing."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.spatial.frames import (
    Frame,
    canonical_frame,
    cosines,
    isotropic_frame,
)
from regnet_jax.spatial.images import Image, from_sitk, to_sitk, warn_if_elsewhere

# A voxel shows something if this fraction of it does.
_SHOWN = 0.99
# Values of a mask within this distance of a whole number are rounded to it.
_WHOLE = 1e-3
# Types of ITK that single precision would round.
_FINE = (
    *(sitk.sitkFloat64, sitk.sitkInt32, sitk.sitkUInt32),
    *(sitk.sitkInt64, sitk.sitkUInt64),
)
_INTERPOLATORS = {
    "linear": sitk.sitkLinear,
    "bspline": sitk.sitkBSpline3,
    "nearest": sitk.sitkNearestNeighbor,
    "labels": sitk.sitkLabelLinear,
}


def resample(
    image: Image,
    frame: Frame,
    transform: sitk.Transform | None = None,
    *,
    interpolation: str = "linear",
    background: float | None = None,
    smooth: bool = True,
) -> Image:
    """Sample an image at the voxels of ``frame``.

    Where the frame is coarser than the image, linear interpolation would fold
    detail back as noise, so the image is smoothed first. Both grids are taken
    as blurred by a Gaussian as wide at half height as their voxel, hence sigma
    is ``sqrt(target**2 - source**2) / 2.355`` mm along each axis of the image. Where
    voxels are below half of the target's, blocks of them that stay below half are
    averaged first, to save time.

    Args:
        image: the image to resample.
        frame: where the result lies.
        transform: maps points of ``frame`` to points of ``image`` (mm).
        interpolation: ``linear``; ``bspline``, cubic; or for labels and masks, which
            are never smoothed and keep their type, ``nearest``, and ``labels``, the
            label with the largest share in the linear interpolation.
        background: value outside of the image; by default its minimum, and 0
            for labels.
        smooth: smooth where the frame is coarser. Without it the result equals that of
            ITK's resampling with the same transform.

    Returns:
        ``[*frame.shape]``, under the name of the image: float32 unless of labels;
        without smoothing float64 if the image has that type or integers of four or
        eight bytes.
    """
    source = to_sitk(image.array, image.frame)
    if interpolation in ("linear", "bspline"):
        fine = not smooth and source.GetPixelID() in _FINE
        source = sitk.Cast(source, sitk.sitkFloat64 if fine else sitk.sitkFloat32)
        source = _smooth(source, frame) if smooth else source
        if background is None:
            background = float(np.min(image.array))
    result = sitk.Resample(
        source,
        frame.shape[::-1],
        transform or sitk.Transform(frame.ndim, sitk.sitkIdentity),
        _INTERPOLATORS[interpolation],
        frame.origin,
        frame.spacing,
        frame.direction,
        background or 0.0,
    )
    return from_sitk(result, image.name)


def to_isotropic(image: Image, spacing: float, shape=None) -> Image:
    """Sample an image on an isotropic grid in canonical orientation.

    Args:
        image: any grid.
        spacing: of the voxels, mm.
        shape: of the grid, about the image's centre; None covers the image.

    Returns:
        The resampled image; its array is in canonical orientation.
    """
    frame = isotropic_frame(canonical_frame(image.frame), spacing, shape)
    return resample(image, frame)


def resample_field(vectors, source: Frame, target: Frame) -> np.ndarray:
    """Sample displacement vectors at the voxels of another grid, linearly.

    Args:
        vectors: ``[*source.shape, d]``, mm, x first. Physical vectors do not depend on
            the grid, so their values stay.
        source: where the vectors lie.
        target: grid of the result, which is zero outside of the source.

    Returns:
        ``[*target.shape, d]`` float64.
    """
    field = to_sitk(np.asarray(vectors, np.float64), source)
    result = sitk.Resample(
        field,
        target.shape[::-1],
        sitk.Transform(target.ndim, sitk.sitkIdentity),
        sitk.sitkLinear,
        target.origin,
        target.spacing,
        target.direction,
    )
    return sitk.GetArrayFromImage(result)


def where_shown(
    image: Image, padding, frame: Frame, transform: sitk.Transform | None = None
) -> np.ndarray:
    """Find the voxels of ``frame`` at which an image shows something.

    Args:
        image: whose field of view counts.
        padding: bool, of the image's shape, where it shows nothing; or None.
        frame: where the result lies.
        transform: maps points of ``frame`` to points of ``image`` (mm).

    Returns:
        ``[*frame.shape]`` bool; false outside of the image and where padding
        contributes to the interpolation.
    """
    if transform is None and frame == image.frame:
        return np.ones(frame.shape, bool) if padding is None else ~padding
    if padding is None:
        everywhere = replace(image, array=np.ones(image.frame.shape, np.uint8))
        return resample(everywhere, frame, transform, interpolation="nearest").array > 0
    marked = replace(image, array=(~padding).astype(np.uint8))
    return resample(marked, frame, transform, background=0.0).array >= _SHOWN


def as_mask(image: Image, frame: Frame | None = None) -> Image:
    """Return an image as a mask of zeros and ones (uint8), see ``io.read_mask``.

    Args:
        image: of whole numbers or fractions.
        frame: grid to which the mask is resampled by nearest neighbour; None keeps its
            own.

    Returns:
        The mask.

    Raises:
        InputError: if the mask is of another dimension than the frame, or has negative
            values, or nothing is inside.
    """
    mask = replace(image, array=_inside(image).astype(np.uint8))
    if frame is not None and frame.ndim != mask.frame.ndim:
        raise InputError(
            f"{mask.name}: is {mask.frame.ndim}D but its image is {frame.ndim}D; give"
            " a mask of the image"
        )
    if not mask.array.any():
        raise InputError(f"{mask.name}: is empty; give a mask with something inside")
    if frame is not None and frame != mask.frame:
        mask = resample(mask, frame, interpolation="nearest")
        if not mask.array.any():
            raise InputError(
                f"{mask.name}: lies outside of its image; check that the two belong"
                " together"
            )
        warn_if_elsewhere(image, frame)
    return mask


def _inside(image: Image) -> np.ndarray:
    """Return the voxels that are inside of a mask."""
    array = image.array
    low, high = float(array.min()), float(array.max())
    is_whole = array.dtype.kind in "bui"
    if not is_whole:
        rounded = np.rint(array)
        if rounded.any() and (np.abs(array - rounded) <= _WHOLE).all():
            array, is_whole = rounded, True
            low = float(array.min())
    # Splines undershoot zero a little; scans and distance maps go further below.
    if low < (0.0 if is_whole else -high / 2):
        raise InputError(
            f"{image.name}: has values down to {low:g}, so it is not a mask; give one"
            " that is zero outside and positive inside"
        )
    return array != 0 if is_whole else array > high / 2


def average(image: Image, factors: Sequence[int]) -> Image:
    """Average blocks of voxels.

    Args:
        image: any.
        factors: voxels of a block, array order; the last block of an axis is filled up
            with its last voxel.

    Returns:
        float32, its grid and name.
    """
    source = sitk.Cast(to_sitk(image.array, image.frame), sitk.sitkFloat32)
    return from_sitk(_average(source, list(factors)[::-1]), image.name)


def _average(source: sitk.Image, factors: Sequence[int]) -> sitk.Image:
    """Average blocks of voxels; the factors are in order x, y, z."""
    missing = [-n % k for n, k in zip(source.GetSize(), factors, strict=True)]
    if any(missing):
        source = sitk.ZeroFluxNeumannPad(source, [0] * len(missing), missing)
    return sitk.BinShrink(source, list(factors))


def _smooth(source: sitk.Image, want: Frame) -> sitk.Image:
    # The distance of the target's samples along each axis of the source.
    d = want.ndim
    turn = np.reshape(source.GetDirection(), (d, d)).T @ cosines(want)
    spacing = np.sqrt(turn**2 @ np.square(want.spacing))
    factors = np.maximum(spacing // (2 * np.array(source.GetSpacing())), 1)
    # A block is no larger than the image, which may be tiny beside the voxels wanted.
    factors = np.minimum(factors, source.GetSize()).astype(int)
    if (factors > 1).any():
        source = _average(source, factors.tolist())
    have = np.array(source.GetSpacing())
    variance = (spacing**2 - have**2) / (8 * np.log(2))
    # Equal grids differ by rounding; that is not smoothed.
    variance[variance < 1e-3 * have**2] = 0.0
    # Nor is an axis of one voxel, along which nothing changes.
    variance[np.array(source.GetSize()) == 1] = 0.0
    if not variance.any():
        return source
    smoother = sitk.DiscreteGaussianImageFilter()
    smoother.SetVariance(variance.tolist())
    ratio = (spacing / have)[variance > 0].max()
    smoother.SetMaximumKernelWidth(int(8 * np.ceil(ratio)) + 1)
    return smoother.Execute(source)
