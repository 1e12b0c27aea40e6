"""Which slices of a volume to show, how to orient them, in which window.

Volumes are ``[z, y, x]`` in the canonical (LPS) orientation: z grows towards
the head, y towards the back, x towards the patient's left. Axial slices are
drawn with y downwards, coronal and sagittal ones with the head up. An image
``[y, x]`` is its own single plane, drawn with y downwards. ``spacing`` is in
array order, (z, y, x) or (y, x), in mm.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regnet_jax.hounsfield import DISPLAY_WINDOW, looks_like_ct

Window = tuple[float, float]

_NAMES = ("axial", "coronal", "sagittal")
_EDGES = ("RLAP", "RLSI", "APSI")  # left, right, top, bottom of the drawing


@dataclass(frozen=True)
class Plane:
    """One slice of a volume, or a whole 2D image.

    ``axis`` is the array axis that the slice is perpendicular to and
    ``index`` its position on it; both are None for a 2D image. ``size`` is
    (rows, columns) in pixels, ``spacing`` the same in mm a pixel. With
    ``up`` the first row is drawn at the bottom. ``edges`` are the anatomical
    letters of the left, right, top and bottom side, empty in 2D.
    """

    name: str
    axis: int | None
    index: int | None
    size: tuple[int, int]
    spacing: tuple[float, float]
    up: bool
    edges: str = ""

    @property
    def label(self) -> str:
        """Name and position for a person, such as ``axial, z = 63``."""
        if self.axis is None:
            return self.name
        return f"{self.name}, {'zyx'[self.axis]} = {self.index}"

    @property
    def origin(self) -> str:
        """Matplotlib's ``origin`` for this plane."""
        return "lower" if self.up else "upper"

    @property
    def aspect(self) -> float:
        """Width over height of the drawing, in mm."""
        (rows, columns), (dy, dx) = self.size, self.spacing
        return (columns * dx) / (rows * dy)

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Matplotlib's ``extent`` in mm; pixel (i, j) is centred at i dy, j dx."""
        (rows, columns), (dy, dx) = self.size, self.spacing
        low, high = -0.5 * dy, (rows - 0.5) * dy
        bottom, top = (low, high) if self.up else (high, low)
        return (-0.5 * dx, (columns - 0.5) * dx, bottom, top)

    def take(self, array: np.ndarray) -> np.ndarray:
        """The slice ``[rows, columns, ...]`` of ``[*spatial, ...]``, a view."""
        if self.axis is None:
            return array
        return array[(slice(None),) * self.axis + (self.index,)]

    def in_plane(self, displacement: np.ndarray) -> np.ndarray:
        """The row and column components of a field at the slice.

        ``displacement`` is ``[*spatial, d]`` in array order; the result is
        ``[rows, columns, 2]`` in the same unit.
        """
        rest = [a for a in range(displacement.shape[-1]) if a != self.axis]
        return self.take(displacement)[..., rest]


def as_image(array: np.ndarray, ndim: int, name: str = "image") -> np.ndarray:
    """``array`` as ``[*spatial]`` with ``ndim`` axes; one channel is dropped."""
    array = np.asarray(array)
    if array.ndim == ndim + 1 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != ndim:
        raise ValueError(f"{name} has shape {array.shape}, not {ndim} spatial axes")
    return array


def auto_window(image: np.ndarray) -> Window:
    """The intensities (low, high) drawn black and white.

    An image with values under -500 is taken for a CT in Hounsfield units,
    (-1000, 400); any other gets its 1st to 99th percentile.
    """
    values = _thin(np.asarray(image)).ravel()
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    if looks_like_ct(values):
        return DISPLAY_WINDOW
    low, high = (float(v) for v in np.percentile(values, (1, 99)))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low, low + 1.0)


def windowed(image: np.ndarray, window: Window | None) -> np.ndarray:
    """A float32 copy of ``image`` clipped to ``window``, black where it is NaN."""
    copy = np.array(image, np.float32)
    if window is not None:
        np.clip(copy, *window, out=copy)
    if np.isnan(copy.sum()):
        copy[np.isnan(copy)] = 0.0 if window is None else window[0]
    return copy


def choose_index(
    image: np.ndarray, window: Window | None = None
) -> tuple[int, int, int]:
    """The position (z, y, x) whose three planes show the most.

    Along each axis this is the slice with the largest sum of absolute
    deviations from its own mean, of the image ``[z, y, x]`` clipped to
    ``window``; the middle where all slices are alike.
    """
    thin, steps = _coarse(image, window)
    means = [thin.mean(axis=others, keepdims=True) for others in _others(3)]
    contents = [
        np.abs(thin - mean).sum(axis=others)
        for mean, others in zip(means, _others(3), strict=True)
    ]
    return _fullest(contents, steps, image.shape)


def differing_index(
    first: np.ndarray, second: np.ndarray, window: Window | None = None
) -> tuple[int, int, int]:
    """The position (z, y, x) whose three planes differ most between two images.

    Along each axis this is the slice with the largest sum of absolute
    differences of the images ``[z, y, x]`` clipped to ``window``, the outer
    tenths left out, where one may end; where they are equal, the choice of
    ``choose_index`` for the first.
    """
    (a, steps), (b, _) = _coarse(first, window), _coarse(second, window)
    difference = np.abs(a - b)
    for axis, size in enumerate(difference.shape):
        border = np.moveaxis(difference, axis, 0)
        border[: size // 10] = 0.0
        border[size - size // 10 :] = 0.0
    if not difference.any():
        return choose_index(first, window)
    contents = [difference.sum(axis=others) for others in _others(3)]
    return _fullest(contents, steps, first.shape)


def choose_planes(
    shape: Sequence[int], spacing: Sequence[float], index: Sequence[int] | None = None
) -> tuple[Plane, ...]:
    """The planes to draw of a grid: one in 2D, three in 3D.

    ``shape`` and ``spacing`` (mm) are in array order; ``index`` is the
    position (z, y, x) that the three planes pass through, by default the
    middle.
    """
    shape, spacing = tuple(shape), tuple(float(s) for s in spacing)
    if len(shape) != len(spacing) or len(shape) not in (2, 3):
        raise ValueError(f"shape {shape} and spacing {spacing} are not both 2D or 3D")
    if len(shape) == 2:
        return (Plane("image", None, None, shape, spacing, up=False),)
    index = tuple(n // 2 for n in shape) if index is None else tuple(index)
    planes = []
    for axis, (name, edges) in enumerate(zip(_NAMES, _EDGES, strict=True)):
        rest = [a for a in range(3) if a != axis]
        position = min(max(int(index[axis]), 0), shape[axis] - 1)
        size = (shape[rest[0]], shape[rest[1]])
        pixel = (spacing[rest[0]], spacing[rest[1]])
        planes.append(Plane(name, axis, position, size, pixel, axis > 0, edges))
    return tuple(planes)


def planes_of(
    image: np.ndarray,
    spacing: Sequence[float],
    window: Window | None = None,
    index: Sequence[int] | None = None,
) -> tuple[Plane, ...]:
    """The planes of ``image`` ``[*spatial]`` at ``index``, or where it shows most."""
    if index is None and image.ndim == 3:
        index = choose_index(image, window)
    return choose_planes(image.shape, spacing, index)


def _coarse(image: np.ndarray, window: Window | None):
    """A finite, windowed copy of every n-th voxel of a volume, and those steps."""
    steps = [max(1, n // 128) for n in image.shape]
    thin = image[tuple(slice(None, None, s) for s in steps)]
    return windowed(thin, window), steps


def _others(ndim: int) -> list[tuple[int, ...]]:
    """For each axis all the others."""
    return [tuple(a for a in range(ndim) if a != axis) for axis in range(ndim)]


def _fullest(contents, steps, shape) -> tuple[int, ...]:
    """The place of the largest content along each axis, the middle if all alike."""
    result = []
    for content, step, size in zip(contents, steps, shape, strict=True):
        alike = np.ptp(content) <= 1e-6 * float(content.max())
        result.append(size // 2 if alike else int(np.argmax(content)) * step)
    return tuple(result)


def _thin(array: np.ndarray, limit: int = 2_000_000) -> np.ndarray:
    """Every n-th voxel, so that at most about ``limit`` remain."""
    step = int(np.ceil((array.size / limit) ** (1 / max(array.ndim, 1))))
    return array[(slice(None, None, max(step, 1)),) * array.ndim]
