"""The report of a registration: its measures and its warnings.

The measures use the images that the registration has resampled, in the canonical
orientation of the fixed image.
"""

import math
import platform
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from typing import Any, NamedTuple

import jax
import numpy as np

import regnet_jax
from regnet_jax.evaluation import (
    Measures,
    Similarity,
    correlation,
    describe_overlap,
    evaluate_before_and_after,
    find_lungs,
    image_similarity,
    jacobian_statistics,
    segment_lungs,
)
from regnet_jax.hounsfield import looks_like_ct
from regnet_jax.registration.result import Registration, Shown
from regnet_jax.reporting.schema import RegistrationReport
from regnet_jax.spatial import (
    Frame,
    Image,
    average,
    canonicalise,
    displacement_from_world,
    find_padding,
    resample,
)

# Pairs with a lower correlation in the lungs get a warning. Of twelve pairs of
# different people the most similar had 0.36; inhale and exhale of a patient have 0.7.
_LEAST_LUNG_CORRELATION = 0.4
# Pairs of one part of the body have at least this correlation.
_LEAST_CORRELATION = 0.3
# Where neither image shows its background, images of opposite contrasts have less: a
# chest and the same with dark for bright -0.24, MR images of one contrast 0.8 and more.
_OPPOSITE_CORRELATION = -0.1
# Background lies below this fraction of the range of an image.
_BACKGROUND = 0.1
# Voxels by which contrasts are compared.
_SAMPLED = 1_000_000
# A correlation that falls by more has become worse.
_LOST_CORRELATION = 0.01
# The longest sides of two images differ by more if the unit of one is wrong.
_LARGEST_SIZE_RATIO = 8.0
# An image of which more voxels have the largest value is cut off there. 0.8 % of an MRI
# in 8 bits had it, and 1.3 % of a chest CT in a window for lungs, both harmless.
_CUT_OFF = 0.05
NOTHING_COMPARED = (
    "no part of the images could be compared after the registration, or one of them is"
    " constant there; check that they show the same"
)
# Presets of CT.
_HOUNSFIELD = ("ct", "ct+1024")
# The fraction of the fixed image that may have no counterpart without a warning.
_LARGEST_UNMATCHED_FRACTION = 0.1
# Larger images are measured and drawn at larger voxels.
_MOST_VOXELS = 2**24


class CanonicalArrays(NamedTuple):
    """Arrays of a registration in canonical orientation, for measures and figures.

    Attributes:
        fixed: ``[*spatial]``.
        moving: ``[*spatial]``, the moving image on the fixed grid without any
            transform.
        warped: ``[*spatial]``, the moving image on the fixed grid, registered.
        displacement: ``[*spatial, d]``, mm, array-axis order, fixed to moving.
        determinant: ``[*spatial]``, its Jacobian determinant; None where an axis has a
            single voxel.
        spacing: mm, array-axis order.
        error_bound: ``[*spatial]``, mm, of the estimated errors at a probability of
            95 %, not finite where nothing is known; None where they were not estimated.
    """

    fixed: np.ndarray
    moving: np.ndarray
    warped: np.ndarray
    displacement: np.ndarray
    determinant: np.ndarray | None
    spacing: tuple[float, ...]
    error_bound: np.ndarray | None = None


def _coarsen(registration: Registration) -> Registration:
    """Average blocks of voxels of images that are large, and keep the transform.

    Measuring and drawing 100 million voxels takes minutes and gigabytes.
    """
    pair = registration.fixed, registration.moving
    factors = [_block(image.frame) for image in pair]
    if max(map(max, factors)) == 1:
        return registration
    fixed, moving = (average(*each) for each in zip(pair, factors, strict=True))
    spacing = [round(s, 3) for s in fixed.frame.spacing]

    def shrink(image: Image) -> Image:
        return average(image, factors[0])

    def shrink_mask(mask: np.ndarray) -> np.ndarray:
        marked = Image(mask.astype(np.uint8), registration.frame, "mask")
        return shrink(marked).array == 1.0

    shown = registration.shown
    matched = None if shown.matched is None else shrink_mask(shown.matched)
    own, before, after = map(shrink_mask, (shown.fixed, shown.before, shown.after))
    return replace(
        registration,
        fixed=fixed,
        moving=moving,
        warped=shrink(registration.warped),
        shown=Shown(own, before, after, matched),
        parameters=registration.parameters | {"measured_at_mm": spacing},
    )


def _block(frame: Frame) -> tuple[int, ...]:
    """Return how many voxels are averaged along each axis, the narrowest first."""
    factors, shape = np.ones(frame.ndim, int), np.array(frame.shape)
    spacing = np.array(frame.spacing[::-1])
    while np.prod(np.ceil(shape / factors)) > _MOST_VOXELS:
        factors[np.argmin(spacing * factors)] *= 2
    return tuple(factors.tolist())


def _make_canonical_arrays(registration: Registration) -> CanonicalArrays:
    """Reorder the images and the field of a registration to canonical orientation."""
    frame = registration.frame
    # Sampled as the warped image is.
    before = resample(registration.moving, frame, smooth=False)
    total, canonical = canonicalise(registration.displacement, frame)
    voxels = displacement_from_world(canonical, total).astype(np.float32)
    spacing = canonical.spacing[::-1]
    # Turning the axes changes no determinant.
    determinant = registration.jacobian
    if determinant is not None:
        determinant, _ = canonicalise(determinant, frame)
    bound = None
    if registration.error_estimate is not None:
        bound, _ = canonicalise(registration.error_estimate.bound(), frame)
    images = (registration.fixed.array, before.array, registration.warped.array)
    return CanonicalArrays(
        *(canonicalise(array, frame)[0] for array in images),
        displacement=voxels * np.asarray(spacing, np.float32),
        determinant=determinant,
        spacing=spacing,
        error_bound=bound,
    )


def build_report(
    registration: Registration,
    *,
    landmarks: tuple[np.ndarray, np.ndarray] | None = None,
    labels: tuple[Image, Image] | None = None,
    request: Mapping[str, Any] | None = None,
) -> tuple[RegistrationReport, CanonicalArrays]:
    """Measure a registration and collect its warnings.

    Images of more than 17 million voxels are compared at larger voxels.

    Args:
        registration: from ``register``.
        landmarks: fixed and moving points ``[n, d]``, mm, x first, that correspond.
        labels: label maps of the fixed and of the moving image.
        request: the files and settings that were asked for.

    Returns:
        The report, whose warnings begin with the registration's notices, and the arrays
        of the images that were compared, on one grid.
    """
    coarse = _coarsen(registration)
    if coarse.error_estimate is not None:
        coarse = replace(coarse, error_estimate=coarse.error_estimate.on(coarse.frame))
    arrays = _make_canonical_arrays(coarse)
    similarity = _compare_images(coarse, arrays)
    measures = evaluate_before_and_after(
        registration.transform,
        landmarks=landmarks,
        labels=labels,
        moving_frame=registration.moving.frame,
    )
    determinant = arrays.determinant
    after = replace(
        measures.after,
        similarity=similarity[1],
        jacobian=None if determinant is None else jacobian_statistics(determinant),
    )
    shown, _ = canonicalise(coarse.shown.fixed, coarse.frame)
    warnings = [*registration.notices, *list_warnings(registration)]
    warnings += _warn_of_result(registration, arrays.fixed[shown], after)
    unlike = _warn_of_likeness(*(each.correlation for each in similarity))
    unlike = unlike or _warn_of_contrast(coarse, arrays)
    if unlike and registration.error_estimate is not None:
        unlike.append(
            "the estimated errors take for granted that the images match; they mean"
            " nothing where these do not"
        )
    warnings += unlike
    warnings += describe_overlap(measures.after.overlap or {})
    total = sum(registration.seconds.values())
    report = RegistrationReport(
        model=registration.parameters["model"],
        seconds=registration.seconds | {"total": total},
        before=replace(measures.before, similarity=similarity[0]),
        after=after,
        unmatched_fraction=registration.shown.unmatched,
        affine=tuple(map(tuple, registration.affine.tolist())),
        parameters=coarse.parameters,
        versions=_versions(),
        warnings=tuple(warnings),
        request=request,
        confidence=_state_confidence(coarse),
    )
    return report, arrays


def _state_confidence(registration: Registration) -> dict[str, float] | None:
    """Return the distance within which 95 % of each region lies, by the estimate."""
    errors = registration.error_estimate
    if errors is None:
        return None
    bounds = {"body": errors.bound_within(errors.known)}
    lungs = find_lungs(registration.fixed)
    if lungs is not None:
        inside = errors.on(lungs.frame)
        bounds["lungs"] = inside.bound_within(lungs.array > 0)
    return bounds


def _compare_images(
    registration: Registration, arrays: CanonicalArrays
) -> tuple[Similarity, Similarity]:
    """Return the similarity to the fixed image before and after."""
    shown, transform = registration.shown, registration.transform
    masks = (shown.fixed, shown.before, shown.after)
    own, *others = (canonicalise(mask, registration.frame)[0] for mask in masks)
    images = (registration.fixed, registration.moving)
    lungs = segment_lungs(transform, *images) or (None,) * 3
    before, after = (
        image_similarity(arrays.fixed, image, own & other, lungs[0], other_lungs)
        for image, other, other_lungs in zip(
            (arrays.moving, arrays.warped), others, lungs[1:], strict=True
        )
    )
    return before, after


def list_warnings(registration: Registration) -> list[str]:
    """Return warnings about guessed properties and about measures that are missing.

    Args:
        registration: from ``register``.

    Returns:
        Sentences for the user.
    """
    warnings = []
    voxel = registration.parameters.get("voxel_size", {})
    if voxel.get("adapted"):
        warnings.append(
            "the size of the images is not that of a human body, so they were"
            f" registered with voxels of {voxel['mm']:.3g} mm instead of"
            f" {voxel['network']:g}; check their spacing, or set --voxel_size"
        )
    unmatched = registration.shown.unmatched
    if unmatched > _LARGEST_UNMATCHED_FRACTION:
        warnings.append(
            f"the moving image shows nothing at {unmatched:.0%} of the fixed image; the"
            " field is continued smoothly there and measures no motion"
        )
    presets = registration.parameters.get("intensity", {})
    images = {name: presets[name] for name in ("fixed", "moving") if name in presets}
    trained = presets.get("network", "auto")
    others = sorted({preset for preset in images.values() if preset != trained})
    if others and trained != "auto":
        warnings.append(
            f"the network has learned from images under --intensity {trained}, and"
            f" these were mapped by {' and '.join(others)}"
        )
    shifted = [name for name, preset in images.items() if preset == "ct+1024"]
    if shifted and not presets.get("given"):
        warnings.append(
            f"the values of the {' and the '.join(shifted)} image were taken for"
            " Hounsfield units + 1024; if they are not, set --intensity"
        )
    are_ct = {name: preset in _HOUNSFIELD for name, preset in images.items()}
    if len(set(are_ct.values())) > 1:
        (ct,) = (name for name, is_ct in are_ct.items() if is_ct)
        (other,) = set(are_ct) - {ct}
        warnings.append(
            f"the {ct} image looks like CT in Hounsfield units and the {other} one does"
            " not, so their intensities do not correspond; if both are CT, set"
            " --intensity ct"
        )
    both = {"fixed": registration.fixed, "moving": registration.moving}
    for name, image in both.items():
        share = _share_of_largest(image.array)
        if share > _CUT_OFF:
            warnings.append(
                f"{share:.0%} of the voxels of the {name} image have its largest value,"
                f" {image.array.max():g}, as if a window ended there; nothing is seen"
                " in them, so give the image without that window"
            )
    sizes = [_extent(image.frame) for image in both.values()]
    if max(sizes) > _LARGEST_SIZE_RATIO * min(sizes):
        warnings.append(
            f"the fixed image is {sizes[0]:.3g} mm long and the moving image"
            f" {sizes[1]:.3g} mm; check their spacings"
        )
    return warnings


def _share_of_largest(image: np.ndarray) -> float:
    """Return the share of the voxels, without padding, that have the largest value.

    It is 0 for images of two values, such as masks, which no window has cut off.
    """
    largest = image == image.max()
    share = float(largest.mean())
    if share <= _CUT_OFF:
        return share
    # Seldom, so that neither of these is searched in vain.
    if np.all(largest | (image == image.min())):
        return 0.0
    padding = find_padding(image)
    if padding is None or padding.all():
        return share
    return float(largest[~padding].mean())


def _extent(frame: Frame) -> float:
    """Return the length of the longest side, mm."""
    return float(np.max(np.multiply(frame.shape[::-1], frame.spacing)))


def _warn_of_result(registration: Registration, fixed, after: Measures) -> list[str]:
    """Return the warnings that need measures, or values of the fixed image."""
    warnings = []
    presets = registration.parameters.get("intensity", {})
    is_ct = presets.get("fixed") in _HOUNSFIELD or looks_like_ct(fixed)
    learned_from_ct = presets.get("network", "auto") in ("auto", *_HOUNSFIELD)
    if is_ct and not learned_from_ct:
        warnings.append(
            "the fixed image looks like CT in Hounsfield units, and the network has"
            " learned from other images"
        )
    if not is_ct and learned_from_ct:
        warnings.append(
            "the fixed image does not look like CT in Hounsfield units, which is what"
            " the network has learned from"
        )
    if after.jacobian is not None and after.jacobian.min <= 0:
        warnings.append("the field folds in places; see the Jacobian map")
    likeness = after.similarity and after.similarity.lung_correlation
    if likeness is not None and math.isnan(likeness):
        warnings.append(
            "nothing in the lungs could be compared: the moving image does not show"
            " them, or one of the images has a single value there, as in a window of"
            " soft tissue; give images that show the lungs"
        )
    elif likeness is not None and likeness < _LEAST_LUNG_CORRELATION:
        warnings.append(
            f"the lungs are still unlike after the registration (correlation"
            f" {likeness:.2f}); check that both scans are of one patient and show the"
            " same part"
        )
    return warnings


def _warn_of_likeness(before: float, after: float) -> list[str]:
    """Return a warning if the correlation of the images does not speak for a result."""
    if math.isnan(after):
        return [NOTHING_COMPARED]
    if after < before - _LOST_CORRELATION:
        return [
            f"the images are less alike after the registration (correlation"
            f" {before:.2f} before, {after:.2f} after); check --initial, and that both"
            " show the same part"
        ]
    if after < _LEAST_CORRELATION:
        return [
            f"the images are still unlike after the registration (correlation"
            f" {after:.2f}); check that they show the same part in the same contrast"
        ]
    return []


def _warn_of_contrast(registration: Registration, arrays: CanonicalArrays) -> list[str]:
    """Return a warning if the images have opposite contrasts beside their backgrounds.

    A dark background in both makes a high correlation, whatever else they show.
    """
    both = registration.shown.fixed & registration.shown.after
    shown, _ = canonicalise(both, registration.frame)
    every = max(1, shown.size // _SAMPLED)
    images = [array[shown][::every] for array in (arrays.fixed, arrays.warped)]
    inside = np.ones(images[0].shape, bool)
    for values in images:
        low, high = np.percentile(values, (1, 99))
        inside &= values > low + _BACKGROUND * (high - low)
    found = correlation(images[0], images[1], inside)
    if not found < _OPPOSITE_CORRELATION:
        return []
    return [
        "the images have opposite contrasts beside their backgrounds (correlation"
        f" {found:.2f}), which the network cannot match; give images of one contrast"
    ]


def _versions() -> dict[str, str]:
    """Return the versions of the software, by name."""
    return {
        "regnet_jax": regnet_jax.__version__,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "SimpleITK": metadata.version("SimpleITK"),
    }
