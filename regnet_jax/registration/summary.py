"""What there is to say about a registration, in numbers."""

import platform
from dataclasses import asdict
from importlib import metadata
from typing import NamedTuple

import jax
import numpy as np

import regnet_jax
from regnet_jax.evaluation import Lungs, image_similarity, jacobian_statistics
from regnet_jax.geometry import jacobian_determinant
from regnet_jax.hounsfield import looks_like_ct
from regnet_jax.registration.result import Registration
from regnet_jax.spatial import (
    Image,
    canonicalise,
    displacement_from_world,
    resample,
)

# Correlation in the lung that those of two people stay below: the likest of twelve
# pairs had 0.36, and a breath of one patient has 0.7.
_UNLIKE = 0.4
# Of the fixed image, the fraction that may have no counterpart without a warning.
_UNMATCHED = 0.1


class Views(NamedTuple):
    """Arrays of a registration in canonical orientation, for measures and figures.

    Attributes:
        fixed: ``[*spatial]``.
        moving: ``[*spatial]``, before: on the fixed grid without any transform.
        warped: ``[*spatial]``, after.
        displacement: ``[*spatial, d]``, mm, array-axis order.
        determinant: ``[*spatial]``; None where an axis has a single voxel.
        spacing: mm, array-axis order.
    """

    fixed: np.ndarray
    moving: np.ndarray
    warped: np.ndarray
    displacement: np.ndarray
    determinant: np.ndarray | None
    spacing: tuple


def make_views(registration: Registration, fixed: Image, moving: Image) -> Views:
    """Brings what a registration gave into canonical orientation.

    Args:
        registration: from ``register``.
        fixed: its fixed image.
        moving: its moving image.

    Returns:
        The arrays.
    """
    frame = fixed.frame
    before = resample(moving, frame)
    total, canonical = canonicalise(registration.displacement, frame)
    voxels = displacement_from_world(canonical, total).astype(np.float32)
    spacing = canonical.spacing[::-1]
    thick = min(canonical.shape) > 1
    determinant = np.asarray(jax.jit(jacobian_determinant)(voxels)) if thick else None
    images = (fixed.array, before.array, registration.warped.array)
    fixed_view, moving_view, warped_view = (canonicalise(a, frame)[0] for a in images)
    return Views(
        fixed_view,
        moving_view,
        warped_view,
        voxels * np.float32(spacing),
        determinant,
        spacing,
    )


def summarise(
    registration: Registration, views: Views, lungs: Lungs | None, *, model: str
) -> dict:
    """The content of ``report.json``.

    Args:
        registration: from ``register``.
        views: from ``make_views``.
        lungs: from ``segment_lungs``.
        model: what to call the network.

    Returns:
        ``seconds``, ``model``, ``similarity`` before and after (of what both images
        show), ``unmatched_fraction`` (of what the fixed image shows, that the moving
        image does not), ``jacobian``, ``affine`` (homogeneous, mm, x first),
        ``parameters``, ``versions`` and ``warnings``.
    """
    shown = registration.shown
    masks = [
        canonicalise(mask, registration.frame)[0]
        for mask in (shown.fixed, shown.before, shown.after)
    ]
    seconds = dict(registration.seconds)
    seconds["total"] = sum(seconds.values())
    after = _similarity(views, masks[0] & masks[2], lungs, "warped")
    summary = {
        "model": model,
        "seconds": seconds,
        "similarity": {
            "before": _similarity(views, masks[0] & masks[1], lungs, "moving"),
            "after": after,
        },
        "unmatched_fraction": shown.unmatched,
        "affine": registration.affine.tolist(),
        "parameters": registration.parameters,
        "versions": _versions(),
        "warnings": _warnings(registration, views.fixed[masks[0]], views, after),
    }
    if views.determinant is not None:
        summary["jacobian"] = asdict(jacobian_statistics(views.determinant))
    return summary


def _similarity(views: Views, shown, lungs: Lungs | None, name: str) -> dict:
    masks = (None, None) if lungs is None else (lungs.fixed, getattr(lungs, name))
    images = views.fixed, getattr(views, name)
    return image_similarity(*images, shown, *masks).to_dict()


def warnings_of(registration: Registration) -> list[str]:
    """Say what was guessed of the images, and where nothing could be measured.

    Args:
        registration: from ``register``.

    Returns:
        A line each.
    """
    warnings = []
    voxel = registration.parameters.get("voxel_size", {})
    if voxel and not voxel["given"] and voxel["mm"] != voxel["network"]:
        warnings.append(
            "the size of the images is not that of a human body, so they were"
            f" registered with voxels of {voxel['mm']:.3g} mm instead of"
            f" {voxel['network']:g}; check their spacing, or set --voxel_size"
        )
    unmatched = registration.shown.unmatched
    if unmatched > _UNMATCHED:
        warnings.append(
            f"the moving image shows nothing at {unmatched:.0%} of the fixed image; the"
            " field is continued smoothly there and measures no motion"
        )
    presets = registration.parameters.get("intensity", {})
    shifted = [name for name, preset in presets.items() if preset == "ct+1024"]
    if shifted:
        warnings.append(
            f"the values of the {' and the '.join(shifted)} image were taken for"
            " Hounsfield units + 1024; if they are not, set --intensity"
        )
    return warnings


def _warnings(registration: Registration, fixed, views: Views, after) -> list[str]:
    """What a person should know before trusting the result."""
    warnings = warnings_of(registration)
    presets = registration.parameters.get("intensity", {})
    if presets.get("fixed") not in ("ct", "ct+1024") and not looks_like_ct(fixed):
        warnings.append(
            "the fixed image does not look like CT in Hounsfield units, which is what"
            " the network has learned from"
        )
    if views.determinant is not None and views.determinant.min() <= 0:
        warnings.append("the field folds in places; see the Jacobian map")
    likeness = after.get("lung_correlation", 1.0)
    if not likeness >= _UNLIKE:  # also where there is none
        warnings.append(
            f"the lungs are still unlike after the registration (correlation"
            f" {likeness:.2f}); check that both scans are of one patient and show the"
            " same part"
        )
    return warnings


def _versions() -> dict:
    return {
        "regnet_jax": regnet_jax.__version__,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "SimpleITK": metadata.version("SimpleITK"),
    }
