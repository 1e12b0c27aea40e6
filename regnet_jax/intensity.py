"""Maps of intensities to the scale of the networks, that of Hounsfield units.

A preset maps each image on its own, so the images of a pair may come from different
scanners. Training and registration share these maps, so that a network meets the same
values in both.
"""

import re

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.hounsfield import (
    AIR,
    DISPLAY_WINDOW,
    SCANNER_RANGE,
    UNSIGNED_OFFSET,
    hounsfield_offset,
    looks_like_ct,
    shows_soft_tissue,
)

# Percentiles of non-CT images that are mapped to air and bone, and what these are.
_MR = (1.0, 99.0)
MAPPED_RANGE = DISPLAY_WINDOW
_DARK, _BRIGHT = MAPPED_RANGE
# Of images that are mapped by percentiles: background is darker than a tenth of the
# range. In magnitude images of MR its noise is not zero on average.
BACKGROUND_BELOW = AIR + 0.1 * (_BRIGHT - AIR)
# Hounsfield units that are shifted to be stored as unsigned numbers.
_UNSIGNED = f"ct+{UNSIGNED_OFFSET}"
CT = "ct"
PRESETS = ("auto", CT, _UNSIGNED, "mr", "none")
# An image of fewer values is a label map or a mask; voxels that are read to tell.
FEWEST_VALUES, _SAMPLE_SIZE = 16, 1_000_000
_PERCENTILES = re.compile(r"(\d+(?:\.\d*)?),(\d+(?:\.\d*)?)")


def looks_like_labels(image) -> bool:
    """Tell whether an image has as few values as a label map or a mask.

    Args:
        image: any shape.
    """
    values = np.ravel(image)
    sample = values[:: max(values.size // _SAMPLE_SIZE, 1)]
    return len(np.unique(sample)) < FEWEST_VALUES


def is_preset(preset: str) -> bool:
    """Tell whether a text is one of ``PRESETS`` or percentiles ``LOW,HIGH``."""
    return preset in PRESETS or _percentiles(preset) is not None


def is_by_percentiles(preset: str) -> bool:
    """Tell whether a preset maps the percentiles of each image to ``MAPPED_RANGE``."""
    return preset == "mr" or _percentiles(preset) is not None


def check_intensity(preset: str) -> None:
    """Raise InputError unless ``preset`` is one of ``PRESETS`` or ``LOW,HIGH``."""
    if not is_preset(preset):
        raise InputError(
            f"{preset}: is no intensity preset; use one of {', '.join(PRESETS)}, or"
            " two percentiles such as 1,99"
        )


def resolve_intensity(preset: str, image, padding=None) -> str:
    """Choose the preset of an image where ``auto`` is given.

    Args:
        preset: checked by ``check_intensity``.
        image: ``[*spatial]``. ``auto`` takes it for CT if it looks like one in
            Hounsfield units, see ``hounsfield.looks_like_ct``, for ``ct+1024`` if these
            are shifted to be positive, else for MR.
        padding: bool, of the same shape, where the image shows nothing; or None.

    Returns:
        ``preset``, or the preset that ``auto`` chooses.
    """
    if preset != "auto":
        return preset
    if looks_like_ct(image, padding):
        return CT
    shown = image if padding is None else image[~padding]
    return _UNSIGNED if hounsfield_offset(shown) == -UNSIGNED_OFFSET else "mr"


def resolve_pair(preset: str, images, paddings) -> list[str]:
    """Choose the presets of two images where ``auto`` is given.

    Args:
        preset: checked by ``check_intensity``.
        images: two of ``[*spatial]``.
        paddings: of each, as for ``resolve_intensity``.

    Returns:
        The preset of each. Beside a CT, an image that may show soft tissue without air
        is taken for CT, too.
    """
    pairs = list(zip(images, paddings, strict=True))
    presets = [resolve_intensity(preset, *pair) for pair in pairs]
    if preset == "auto" and CT in presets:
        for number, (image, padding) in enumerate(pairs):
            shown = image if padding is None else image[~padding]
            if presets[number] == "mr" and shows_soft_tissue(shown):
                presets[number] = CT
    return presets


def intensity_map(preset: str, image) -> tuple[float, float, float, float]:
    """Return how a preset maps the intensities of an image.

    Args:
        preset: from ``resolve_intensity``: ``ct`` clips to the range of Hounsfield
            units; ``ct+1024`` subtracts 1024 first; ``mr`` and percentiles ``LOW,HIGH``
            map the image's own percentiles to air and bone, and clip there; ``none``
            changes nothing.
        image: any shape, without the padding.

    Returns:
        ``(slope, offset, low, high)`` of ``clip(slope * value + offset, low, high)``.
    """
    if preset == "none":
        return 1.0, 0.0, -np.inf, np.inf
    if preset == CT:
        return 1.0, 0.0, *SCANNER_RANGE
    if preset == _UNSIGNED:
        return 1.0, -float(UNSIGNED_OFFSET), *SCANNER_RANGE
    dark, bright = np.percentile(image, _percentiles(preset) or _MR)
    if dark == bright:
        # Almost all voxels are equal, as in a mask.
        dark, bright = np.min(image), np.max(image)
    slope = float((_BRIGHT - _DARK) / (bright - dark))
    return slope, float(_DARK - slope * dark), _DARK, _BRIGHT


def map_intensity(image, parameters) -> np.ndarray:
    """Map the intensities of an image.

    Args:
        image: ``[*spatial]``.
        parameters: from ``intensity_map``.

    Returns:
        ``[*spatial]`` float32.
    """
    slope, offset, low, high = parameters
    return np.clip(slope * np.asarray(image, np.float32) + offset, low, high)


def _percentiles(preset: str) -> tuple[float, float] | None:
    match = _PERCENTILES.fullmatch(preset)
    if match is None:
        return None
    low, high = map(float, match.groups())
    return (low, high) if low < high <= 100.0 else None
