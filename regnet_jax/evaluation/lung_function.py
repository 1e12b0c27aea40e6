"""Regional ventilation of the lungs from two CTs and the map between them.

Both measures are changes from the fixed to the moving image as a fraction of what is in
the fixed image, at its points: of volume the first, of air the second. With exhale as
the fixed image they are positive where air comes in.

- From the map: ``J - 1`` with the Jacobian determinant ``J`` of the transform, the
  specific volume change (Reinhardt et al., "Registration-based estimates of local lung
  tissue expansion compared to xenon CT measures of specific ventilation", Medical Image
  Analysis 12(6), 2008).
- From the Hounsfield units ``F`` of the fixed and ``M`` of the moving image at
  corresponding points: ``1000 (M - F) / (F (M + 1000))``, the change of the volume of
  air as a fraction of the air, if lung is a mixture of air and of tissue like water and
  no tissue comes or goes (Simon, "Non-invasive imaging of regional lung function using
  x-ray computed tomography", Journal of Clinical Monitoring and Computing 16, 2000;
  Guerrero et al., "Dynamic ventilation imaging from four-dimensional computed
  tomography", Physics in Medicine and Biology 51, 2006).

Ding et al., "Comparison of image registration based measures of regional lung
ventilation from dynamic spiral CT with Xe-CT", Medical Physics 39(8), 2012, derive the
one from the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.evaluation.similarity import Lungs, segment_lungs
from regnet_jax.hounsfield import AIR, hounsfield_offset
from regnet_jax.spatial import Image, canonical_frame, resample

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Num

# Darker voxels are air alone, as in the airways, where the ratio has no bound.
_AIRWAYS = AIR + 20.0


@dataclass(frozen=True)
class Ventilation:
    """Ventilation at the voxels of the fixed image, zero outside of the lungs.

    Attributes:
        jacobian: ``[*shape]`` float32, by the Jacobian determinant.
        hounsfield: ``[*shape]`` float32, by Hounsfield units; zero in airways too.
        lungs: ``[*shape]`` bool, the lungs of both images.
    """

    jacobian: np.ndarray
    hounsfield: np.ndarray
    lungs: np.ndarray


def ventilation(
    fixed: Image,
    moving: Image,
    transform,
    determinant: Float[np.ndarray, "*shape"],
) -> Ventilation:
    """Return the ventilation of the lungs from the fixed to the moving image.

    Nothing is smoothed: noise of the scans is in the measure by Hounsfield units.

    Args:
        fixed: chest CT, HU or HU + 1024, usually at exhale.
        moving: chest CT, likewise, at inhale.
        transform: SimpleITK's, from fixed points to moving points.
        determinant: ``[*fixed.frame.shape]``, its Jacobian determinant.

    Returns:
        The maps, on the grid of the fixed image.

    Raises:
        InputError: unless both images show lungs.
    """
    images = [_in_hounsfield(image) for image in (fixed, moving)]
    found = _lungs_of(images, transform)
    canonical = canonical_frame(fixed.frame)
    both = Image((found.fixed & found.warped).astype(np.uint8), canonical, fixed.name)
    lungs = resample(both, fixed.frame, interpolation="nearest").array > 0
    warped = resample(images[1], fixed.frame, transform, smooth=False).array
    by_units = air_change(images[0].array, warped, lungs)
    by_map = np.where(lungs, determinant - 1.0, 0.0)
    return Ventilation(by_map.astype(np.float32), by_units.astype(np.float32), lungs)


def require_lungs(fixed: Image, moving: Image, transform=None) -> Lungs:
    """Return the lungs of two chest CTs, see ``segment_lungs``.

    Args:
        fixed: as for ``ventilation``.
        moving: likewise.
        transform: likewise; None is the identity.

    Returns:
        Their masks in the canonical orientation of the fixed image.

    Raises:
        InputError: unless both images show lungs.
    """
    return _lungs_of([_in_hounsfield(image) for image in (fixed, moving)], transform)


def _lungs_of(images: list[Image], transform) -> Lungs:
    found = segment_lungs(transform, *images)
    if found is None:
        names = " and ".join(image.name for image in images)
        raise InputError(
            f"ventilation: {names} do not both show lungs in Hounsfield units; leave it"
            " out"
        )
    return found


def _in_hounsfield(image: Image) -> Image:
    """Return a CT in Hounsfield units, where it is stored as HU + 1024."""
    offset = hounsfield_offset(image.array)
    if not offset:
        return image
    return replace(image, array=image.array.astype(np.float32) + offset)


def air_change(
    fixed: Num[np.ndarray, "*shape"],
    moving: Num[np.ndarray, "*shape"],
    lungs: Bool[np.ndarray, "*shape"],
) -> Float[np.ndarray, "*shape"]:
    """Return the change of the volume of air as a fraction of the air, from HU.

    Args:
        fixed: HU.
        moving: HU at the corresponding points.
        lungs: where it is computed; airways are left out.

    Returns:
        An array of the same shape, zero elsewhere.
    """
    f, m = (np.asarray(image, np.float64) for image in (fixed, moving))
    valid = lungs & (f > _AIRWAYS) & (m > _AIRWAYS) & (f < 0.0)
    f, m = (np.where(valid, image, AIR / 2) for image in (f, m))
    return np.where(valid, -AIR * (m - f) / (f * (m - AIR)), 0.0)
