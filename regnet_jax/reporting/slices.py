"""Choose the slices of a volume to show, their orientation and intensity window.

Volumes are ``[z, y, x]`` in the canonical (LPS) orientation: z grows towards the
head, y towards the back, x towards the patient's left. Axial slices are drawn with y
downwards, coronal and sagittal ones with the head up. An image ``[y, x]`` is its own
single plane, drawn with y downwards. Spacing is in array order, (z, y, x) or (y, x),
in mm.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from regnet_jax.hounsfield import DISPLAY_WINDOW, looks_like_ct

IntensityWindow = tuple[float, float]

_NAMES = ("axial", "coronal", "sagittal")
_EDGES = ("RLAP", "RLSI", "APSI")  # left, right, top, bottom of the drawing


@dataclass(frozen=True)
class Plane:
    """One slice of a volume, or a whole 2D image.

    Attributes:
        name: ``axial``, ``coronal``, ``sagittal`` or ``image``.
        axis: the array axis that the slice is perpendicular to; None in 2D.
        index: its position on that axis; None in 2D.
        size: rows and columns, pixels.
        spacing: of rows and of columns, mm.
        up: whether the first row is drawn at the bottom.
        edges: anatomical letters of the left, right, top and bottom side; empty in 2D.
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
        """Name and position, such as ``axial, z = 63``."""
        if self.axis is None:
            return self.name
        return f"{self.name}, {'zyx'[self.axis]} = {self.index}"

    @property
    def origin(self) -> Literal["lower", "upper"]:
        """Matplotlib's ``origin`` for this plane."""
        return "lower" if self.up else "upper"

    @property
    def aspect(self) -> float:
        """Width over height of the drawing, both in mm."""
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
        """Return the slice of an array.

        Args:
            array: ``[*spatial, ...]``.

        Returns:
            ``[rows, columns, ...]``, a view.
        """
        if self.axis is None:
            return array
        return array[(slice(None),) * self.axis + (self.index,)]

    def in_plane(self, displacement: np.ndarray) -> np.ndarray:
        """Return the row and column components of a field at the slice.

        Args:
            displacement: ``[*spatial, d]``, components in array order.

        Returns:
            ``[rows, columns, 2]`` in the same unit.
        """
        rest = [a for a in range(displacement.shape[-1]) if a != self.axis]
        return self.take(displacement)[..., rest]


@dataclass(frozen=True)
class View:
    """How the images of one grid are drawn.

    Attributes:
        spacing: mm, array order.
        window: intensities drawn black and white; None takes ``choose_window`` of the
            fixed image.
        index: position (z, y, x) that the three planes of a volume pass through; None
            lets the figure choose it.
    """

    spacing: Sequence[float]
    window: IntensityWindow | None = None
    index: Sequence[int] | None = None

    def resolve(self, fixed: np.ndarray, moving: np.ndarray | None = None) -> "View":
        """Fill in the window and the index where they are None.

        Args:
            fixed: ``[*spatial]``; the window is chosen from it.
            moving: ``[*spatial]``; if given, the planes pass through the largest
                differences from the fixed image, else through its most detail.

        Returns:
            The complete view; in 2D its index stays None.
        """
        window, index = self.window, self.index
        window = choose_window(fixed) if window is None else tuple(window)
        window = cast(IntensityWindow, window)
        if index is None and fixed.ndim == 3:
            index = (
                choose_index(fixed, window)
                if moving is None
                else choose_differing_index(fixed, moving, window)
            )
        return dataclasses.replace(self, window=window, index=index)

    def planes(self, shape: Sequence[int]) -> tuple[Plane, ...]:
        """Return the planes of a grid of this shape, see ``choose_planes``."""
        return choose_planes(shape, self.spacing, self.index)


def as_image(array: np.ndarray, ndim: int, name: str = "image") -> np.ndarray:
    """Return an array without its channel axis.

    Args:
        array: ``[*spatial]`` or ``[*spatial, 1]``.
        ndim: number of spatial axes.
        name: of the array, for the message.

    Returns:
        ``[*spatial]``.

    Raises:
        ValueError: if the array has other axes.
    """
    array = np.asarray(array)
    if array.ndim == ndim + 1 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != ndim:
        raise ValueError(f"{name} has shape {array.shape}, not {ndim} spatial axes")
    return array


def choose_window(image: np.ndarray) -> IntensityWindow:
    """Choose the intensities that are drawn black and white.

    Args:
        image: any shape.

    Returns:
        Low and high: ``DISPLAY_WINDOW`` for a CT in Hounsfield units, the 1st and the
        99th percentile of any other image.
    """
    values = _subsample(np.asarray(image)).ravel()
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    if looks_like_ct(values):
        return DISPLAY_WINDOW
    low, high = (float(v) for v in np.percentile(values, (1, 99)))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low, low + 1.0)


def clip_to_window(image: np.ndarray, window: IntensityWindow | None) -> np.ndarray:
    """Return a clipped copy of an image without NaN.

    Args:
        image: any shape.
        window: low and high; None does not clip.

    Returns:
        A float32 array; NaN becomes low, or zero without a window.
    """
    copy = np.array(image, np.float32)
    if window is not None:
        np.clip(copy, *window, out=copy)
    if np.isnan(copy.sum()):
        copy[np.isnan(copy)] = 0.0 if window is None else window[0]
    return copy


def choose_index(
    image: np.ndarray, window: IntensityWindow | None = None
) -> tuple[int, int, int]:
    """Choose the position whose three planes show the most detail.

    Along each axis this is the slice with the largest sum of absolute deviations from
    its own mean.

    Args:
        image: ``[z, y, x]``.
        window: intensities to which the image is clipped first.

    Returns:
        (z, y, x); the middle of an axis along which all slices are alike.
    """
    coarse, steps = _coarse(image, window)
    means = [coarse.mean(axis=others, keepdims=True) for others in _OTHER_AXES]
    contents = [
        np.abs(coarse - mean).sum(axis=others)
        for mean, others in zip(means, _OTHER_AXES, strict=True)
    ]
    return _argmax_or_middle(contents, steps, image.shape)


def choose_differing_index(
    first: np.ndarray, second: np.ndarray, window: IntensityWindow | None = None
) -> tuple[int, int, int]:
    """Choose the position whose three planes differ most between two images.

    Along each axis this is the slice with the largest sum of absolute differences. The
    outer tenths are left out, since an image may end there.

    Args:
        first: ``[z, y, x]``.
        second: ``[z, y, x]``, of the same shape.
        window: intensities to which the images are clipped first.

    Returns:
        (z, y, x); of equal images, ``choose_index`` of the first.
    """
    (a, steps), (b, _) = _coarse(first, window), _coarse(second, window)
    difference = np.abs(a - b)
    for axis, size in enumerate(difference.shape):
        border = np.moveaxis(difference, axis, 0)
        border[: size // 10] = 0.0
        border[size - size // 10 :] = 0.0
    if not difference.any():
        return choose_index(first, window)
    contents = [difference.sum(axis=others) for others in _OTHER_AXES]
    return _argmax_or_middle(contents, steps, first.shape)


def choose_planes(
    shape: Sequence[int], spacing: Sequence[float], index: Sequence[int] | None = None
) -> tuple[Plane, ...]:
    """Return the planes of a grid to draw: one in 2D, three in 3D.

    Args:
        shape: of the grid, array order.
        spacing: mm, array order.
        index: position (z, y, x) that the three planes pass through; None takes the
            middle. A position outside of the grid is moved to its border.

    Returns:
        The image, or the axial, the coronal and the sagittal plane.

    Raises:
        ValueError: if shape and spacing are not both 2D or both 3D.
    """
    shape, spacing = tuple(shape), tuple(float(s) for s in spacing)
    if len(shape) != len(spacing) or len(shape) not in (2, 3):
        raise ValueError(f"shape {shape} and spacing {spacing} are not both 2D or 3D")
    if len(shape) == 2:
        pixel = (spacing[0], spacing[1])
        return (Plane("image", None, None, shape, pixel, up=False),)
    index = tuple(n // 2 for n in shape) if index is None else tuple(index)
    planes = []
    for axis, (name, edges) in enumerate(zip(_NAMES, _EDGES, strict=True)):
        rest = [a for a in range(3) if a != axis]
        position = min(max(int(index[axis]), 0), shape[axis] - 1)
        size = (shape[rest[0]], shape[rest[1]])
        pixel = (spacing[rest[0]], spacing[rest[1]])
        planes.append(Plane(name, axis, position, size, pixel, axis > 0, edges))
    return tuple(planes)


# For each axis of a volume the two others.
_OTHER_AXES = ((1, 2), (0, 2), (0, 1))


def _coarse(image: np.ndarray, window: IntensityWindow | None):
    """Return a clipped copy of every n-th voxel without NaN, and n for each axis."""
    steps = [max(1, n // 128) for n in image.shape]
    coarse = image[tuple(slice(None, None, s) for s in steps)]
    return clip_to_window(coarse, window), steps


def _argmax_or_middle(contents, steps, shape) -> tuple[int, int, int]:
    """Return each axis' position of the largest content; the middle if all agree."""
    result = []
    for content, step, size in zip(contents, steps, shape, strict=True):
        alike = np.ptp(content) <= 1e-6 * float(content.max())
        result.append(size // 2 if alike else int(np.argmax(content)) * step)
    return cast(tuple[int, int, int], tuple(result))


def _subsample(array: np.ndarray, limit: int = 2_000_000) -> np.ndarray:
    """Return every n-th voxel, so that at most about ``limit`` remain."""
    step = int(np.ceil((array.size / limit) ** (1 / max(array.ndim, 1))))
    return array[(slice(None, None, max(step, 1)),) * array.ndim]
