"""Hounsfield units (HU): thresholds, ranges, recognition of CT, body and lung masks.

The one definition of each. Masks come in a version for the host, which is exact, and
a traced one, which runs within compiled functions.
"""

import math
from typing import cast

import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy import ndimage

AIR = -1000.0
# Halfway from air to water: brighter voxels are tissue, and an image with darker ones
# shows air.
TISSUE_THRESHOLD = -500.0
# Between lung and soft tissue. It is higher than the one above so that half of a voxel
# at the lung's surface is lung.
LUNG_THRESHOLD = -400.0

# Air around the patient is darker than this without noise, and most of the lungs are
# not.
AIR_BELOW = -960.0

# What scanners write with 12 bits; scans are clipped to it.
SCANNER_RANGE = (-1024.0, 3071.0)
# Air is brighter than this, however noisy. Scanners write darker values where they have
# not measured.
UNMEASURED_BELOW = -1100.0
# Scanners that store values without a sign add this to them.
UNSIGNED_OFFSET = 1024

# The scaling of RegNet 2017: this range becomes [0, 1].
NETWORK_RANGE = (AIR, 3095.0)
# Shown from black to white: from air to enhanced vessels and the marrow of bones.
DISPLAY_WINDOW = (AIR, 400.0)
# Intensities that are compared when images are matched by their values. It ends below
# the display window, as contrast agent and bone would outweigh soft tissue.
SOFT_TISSUE_RANGE = (AIR, 300.0)

# Without air in sight, values this low are fat, and the range of tissues is wider than
# the second value.
_FAT_BELOW, _TISSUE_SPREAD = -20.0, 100.0
# All but a hundredth of the voxels are darker, bone included.
_BONE_BELOW = 1500.0
# Fewer dark voxels may be overshoot of an interpolation instead of air.
_LEAST_AIR = 1e-3
# Voxels that are read to judge a distribution of values.
_SAMPLE_SIZE = 1_000_000
# A CT of a chest has voxels darker than the first and brighter than the second: the
# first is stricter than `TISSUE_THRESHOLD`, since the lungs themselves must be there.
_CHEST_DARKER_THAN, _CHEST_BRIGHTER_THAN = -700.0, 0.0
# Smaller pieces of air are gas in the bowel or airways.
_SMALLEST_LUNG_ML = 50.0
# Vessels of the lung are thinner than twice the first, mm, and brighter than what is
# around them by the second, HU: several times the noise of a scan.
_VESSEL_RADIUS, _VESSEL_CONTRAST = 5.0, 200.0


def looks_like_ct(image, padding=None) -> bool:
    """Tell whether an image of unknown kind is a CT in Hounsfield units.

    Args:
        image: any shape.
        padding: bool, of the same shape, where the image shows nothing; or None.

    Returns:
        True where a thousandth of the image is as dark as air, or less of it and the
        rest is soft tissue; but not if most of that is darker than air can be. Where it
        shows no air, but its padding has the value of air, true if it shows fat, below
        zero.
    """
    image = np.asarray(image)
    shown = image if padding is None else image[~padding]
    if not shown.size:
        return False
    lowest = shown.min()
    if lowest < TISSUE_THRESHOLD:
        dark = np.count_nonzero(shown < TISSUE_THRESHOLD)
        # One value alone stands for voxels that were not measured.
        impossible = np.count_nonzero((shown < UNMEASURED_BELOW) & (shown > lowest))
        if 2 * impossible > dark:
            return False
        return bool(dark >= _LEAST_AIR * shown.size) or shows_soft_tissue(shown)
    if padding is None or shown.min() > _FAT_BELOW:
        return False
    if np.ptp(shown) < _TISSUE_SPREAD:
        return False
    return bool((np.abs(image[padding] - AIR) < 100).any())


def hounsfield_offset(values) -> int | None:
    """Return the offset that turns the values of a CT into Hounsfield units.

    Unlike ``looks_like_ct``, this is for images that are claimed to be CT: an MR image
    may pass for a crop of soft tissue.

    HU are recognised by air below -500, or, where a crop shows none, by fat below and
    soft tissue about 0 in a range of more than 8 bits. HU + 1024 are recognised by air
    at 0 and soft tissue near 1024 with little between and above.

    Args:
        values: of all voxels, finite, any shape. Those of -1024 and less, such as
            padding, are ignored.

    Returns:
        0 or -1024; None where the values mean something else.
    """
    values = np.asarray(values)
    measured = values > SCANNER_RANGE[0]
    if (measured & (values < TISSUE_THRESHOLD)).any():
        return 0
    sample = values[measured]
    sample = sample[:: max(sample.size // _SAMPLE_SIZE, 1)]
    if not sample.size:
        return None
    if _is_stored_without_sign(sample):
        return -UNSIGNED_OFFSET
    # Here all air is below the range of the scanner and has one value.
    if SCANNER_RANGE[0] <= values.min() < TISSUE_THRESHOLD:
        return 0
    return 0 if shows_soft_tissue(sample) else None


def shows_soft_tissue(values) -> bool:
    """Tell whether values may be Hounsfield units of fat and soft tissue without air.

    Args:
        values: of all voxels, finite, any shape.

    Returns:
        True if they are about 0, some as low as fat, in a range of more than 8 bits.
        Values of MR are like that if they are shifted to a mean of 0.
    """
    values = np.ravel(values)
    sample = values[:: max(values.size // _SAMPLE_SIZE, 1)]
    low, middle, high = np.percentile(sample, (1, 50, 99))
    plausible = low < _FAT_BELOW and abs(middle) < 200 and 0 < high < _BONE_BELOW
    return bool(plausible and np.ptp(sample) > 255)


def _is_stored_without_sign(sample) -> bool:
    """Tell whether air is at 0 and most voxels denser than lung at 1024."""
    # Denser than lung: above about the middle between air and water.
    dense = sample[sample > 0.4 * UNSIGNED_OFFSET]
    tissue = np.abs(dense - float(UNSIGNED_OFFSET)) < 150
    air = np.abs(sample) < 150
    return bool(air.mean() > 0.05 and dense.size and tissue.mean() > 0.6)


def scale_hounsfield(image):
    """Scale Hounsfield units to [0, 1], as the networks take them.

    Source: RegNet 2017, whose input is ``(HU + 1000) / 4095``.

    Args:
        image: any shape, HU. Air outside the scanner's range and metal are clipped to
            ``NETWORK_RANGE``.

    Returns:
        An array like the image.
    """
    low, high = NETWORK_RANGE
    return jnp.clip((image - low) / (high - low), 0.0, 1.0)


def body_mask(image) -> np.ndarray:
    """Return the patient with the lungs, without the air around and most of the table.

    Args:
        image: ``[z, y, x]`` or an axial slice ``[y, x]``, HU.

    Returns:
        A mask of the same shape: the largest piece of tissue and the holes that it
        has in axial slices; empty where there is no tissue.
    """
    labelled = ndimage.label(np.asarray(image) > TISSUE_THRESHOLD)
    pieces, count = cast(tuple[np.ndarray, int], labelled)
    if not count:
        return pieces > 0
    largest = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    # Connected within slices alone, so that lungs that open at the ends are holes too.
    plane = np.zeros((3,) * largest.ndim, bool)
    plane[(1,) * (largest.ndim - 2)] = ndimage.generate_binary_structure(2, 1)
    return cast(np.ndarray, ndimage.binary_fill_holes(largest, structure=plane))


def lung_mask(image, spacing) -> np.ndarray:
    """Return the air in the body: lungs and main airways.

    Args:
        image: ``[z, y, x]``, canonical orientation.
        spacing: (z, y, x), mm.

    Returns:
        Bool, of the image's shape; empty where there is no lung, as in another organ,
        in a single slice, and in images that are not in Hounsfield units.
    """
    image = np.asarray(image)
    shows_chest = (
        image.ndim == 3
        and image.min() <= _CHEST_DARKER_THAN
        and image.max() >= _CHEST_BRIGHTER_THAN
    )
    if not shows_chest:
        return np.zeros(image.shape, bool)
    # In slices the lungs are holes of the body, also where they or the airways open to
    # the air outside at the ends of the image.
    labelled = ndimage.label((image < LUNG_THRESHOLD) & body_mask(image))
    pieces, _ = cast(tuple[np.ndarray, int], labelled)
    millilitres = np.bincount(pieces.ravel()) * np.prod(spacing) / 1000.0
    keep = millilitres >= _SMALLEST_LUNG_ML
    keep[0] = False
    return keep[pieces]


def vessel_mask(image, lungs, spacing) -> np.ndarray:
    """Return the bright, thin structures in the lungs: vessels, above all.

    These are the voxels in the closed lungs whose white top-hat (the image minus its
    grey opening) is at least 200 HU. Both the closing and the opening are by balls of
    5 mm, so that all structures narrower than 10 mm count, also nodules, fissures and
    walls of airways, but neither the chest wall nor the large vessels of the hilum.

    Args:
        image: ``[z, y, x]``, HU.
        lungs: bool, ``[z, y, x]``, from ``lung_mask``.
        spacing: (z, y, x), mm.

    Returns:
        Bool, of the image's shape; empty where there are no lungs.
    """
    image, lungs = np.asarray(image), np.asarray(lungs, bool)
    vessels = np.zeros(lungs.shape, bool)
    if not lungs.any():
        return vessels
    # All that can matter lies this near to the lungs.
    margin = [2 * math.ceil(_VESSEL_RADIUS / step) for step in spacing]
    (box,) = ndimage.find_objects(lungs.astype(np.int8))
    box = tuple(
        slice(max(s.start - m, 0), s.stop + m) for s, m in zip(box, margin, strict=True)
    )
    thick = ndimage.grey_opening(image[box], footprint=_ball(spacing))
    bright = image[box] - thick >= _VESSEL_CONTRAST
    vessels[box] = bright & close_lungs(lungs[box], spacing)
    return vessels


def _ball(spacing) -> np.ndarray:
    """Return the voxels of a ball of the radius of vessels, around the middle one."""
    reach = [int(_VESSEL_RADIUS / step) for step in spacing]
    offsets = np.mgrid[tuple(slice(-n, n + 1) for n in reach)]
    steps = np.reshape(spacing, (-1, *(1,) * len(reach)))
    return np.sum((offsets * steps) ** 2, axis=0) <= _VESSEL_RADIUS**2


def close_lungs(mask: np.ndarray, spacing) -> np.ndarray:
    """Close a mask of the air in lungs over their vessels, by balls of 5 mm.

    A threshold leaves the vessels out, so that the mask has a hole at each.

    Args:
        mask: bool, ``[*spatial]``, as from ``lung_mask``.
        spacing: of each axis, mm.

    Returns:
        Bool, of the mask's shape. The image's border does not erode it.
    """
    # By distances: a closing of scipy takes minutes for a ball of many voxels.

    def distance(inside):
        found = ndimage.distance_transform_edt(inside, sampling=spacing)
        return cast(np.ndarray, found)

    grown = distance(~mask) <= _VESSEL_RADIUS
    return grown if grown.all() else distance(grown) > _VESSEL_RADIUS


def traced_body_mask(volume):
    """Return the voxels with tissue on all four sides in the plane of the last axes.

    Where the volume ends in the lungs, the body goes on beyond. Unlike ``body_mask`` it
    has no notion of connected pieces: a table belongs to the body. Tissue begins at
    ``LUNG_THRESHOLD``, as this mask serves to bound the lungs.

    Args:
        volume: ``[*spatial, 1]``, HU.

    Returns:
        ``[*spatial]`` bool; the air in lungs and bowel belongs to the body.
    """
    tissue = (volume[..., 0] > LUNG_THRESHOLD).astype(jnp.float32)
    goes_on = (volume[..., 0] > AIR_BELOW).astype(jnp.float32)
    inside = jnp.ones_like(tissue)
    for axis in (tissue.ndim - 2, tissue.ndim - 1):
        for reverse in (False, True):
            face = (slice(None),) * axis + (-1 if reverse else 0,)
            bounds = tissue.at[face].max(goes_on[face])
            inside *= lax.cummax(bounds, axis=axis, reverse=reverse)
    return inside > 0


def traced_lung_mask(volume):
    """Return the air in the body.

    Args:
        volume: ``[*spatial, 1]``, HU.

    Returns:
        ``[*spatial]`` bool.
    """
    return traced_body_mask(volume) & (volume[..., 0] < LUNG_THRESHOLD)
