"""The motion of a series from the displacements of its phases: amplitude, path, mean.

All displacements are from the reference phase, on its grid. The mean gives the
mid-position, in which each point lies where it is on average over time.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from regnet_jax.evaluation import find_body, find_lungs
from regnet_jax.geometry import compose
from regnet_jax.hounsfield import looks_like_ct
from regnet_jax.spatial import (
    Frame,
    Image,
    canonical_frame,
    canonicalise,
    composite,
    displacement_from_world,
    displacement_to_world,
    find_padding,
    invert_on_grid,
    resample,
    to_world,
    where_shown,
)
from regnet_jax.spatial.images import round_to
from regnet_jax.spatial.inversion import LOST

_compose = jax.jit(compose)


class Motion(NamedTuple):
    """The motion of each point of the reference, on its grid.

    Attributes:
        amplitude: ``[*frame.shape]``, mm, the largest displacement from the reference.
        path: ``[*frame.shape]``, mm, the length of the way through all phases.
        mean: ``[*frame.shape, d]``, mm, x first, the mean displacement.
    """

    amplitude: np.ndarray
    path: np.ndarray
    mean: np.ndarray


def measure_motion(fields: Iterable[np.ndarray], *, cycle: bool = True) -> Motion:
    """Measure the motion of points by their displacements in consecutive phases.

    Args:
        fields: ``[*shape, d]`` of every phase in the order of time, mm, from the
            reference, whose own field is zero. They are read one by one.
        cycle: whether the last phase is followed by the first, so that the path is
            closed.

    Returns:
        The motion, float32.
    """
    remaining = (np.asarray(field, np.float32) for field in fields)
    first = previous = next(remaining)
    amplitude, total, count = np.linalg.norm(first, axis=-1), first.copy(), 1
    path = np.zeros_like(amplitude)
    for field in remaining:
        amplitude = np.maximum(amplitude, np.linalg.norm(field, axis=-1))
        path += np.linalg.norm(field - previous, axis=-1)
        total += field
        count += 1
        previous = field
    if cycle:
        path += np.linalg.norm(first - previous, axis=-1)
    return Motion(amplitude, path, total / count)


class MidPosition(NamedTuple):
    """The grid on which all anatomy lies at its mean position over time.

    Attributes:
        frame: that of the reference.
        back: ``[*frame.shape, d]``, mm, x first: from the mean position of a point to
            its position in the reference.
        lost: number of voxels at which the mean displacement has no inverse; the
            closest point that was found is used there.
    """

    frame: Frame
    back: np.ndarray
    lost: int

    def displacement(self, field: np.ndarray) -> np.ndarray:
        """Return the displacement from the mean position to a phase.

        Args:
            field: ``[*frame.shape, d]``, mm, x first, from the reference to the phase;
                continued by its edge outside of the grid.

        Returns:
            ``[*frame.shape, d]``, mm, x first.
        """
        voxels = [
            displacement_from_world(self.frame, vectors).astype(np.float32)
            for vectors in (self.back, field)
        ]
        return displacement_to_world(self.frame, _compose(*voxels))


def find_mid_position(frame: Frame, mean: np.ndarray) -> MidPosition:
    """Find the grid of mean positions, by inversion of the mean displacement.

    Source: Wolthaus et al., "Reconstruction of a time-averaged midposition CT scan for
    radiotherapy planning of lung cancer patients using deformable registration",
    Medical Physics 35(9), 2008.

    Args:
        frame: the grid of the reference.
        mean: ``[*frame.shape, d]``, mm, x first, the mean displacement of all phases.

    Returns:
        The grid of mean positions.
    """
    transform = composite(frame, mean, np.eye(frame.ndim + 1))
    back, errors = invert_on_grid(transform, frame, frame)
    return MidPosition(frame, back, int((errors > LOST * min(frame.spacing)).sum()))


class _Average:
    """The mean of images where they show something."""

    def __init__(self, frame: Frame):
        self._frame = frame
        self._total = np.zeros(frame.shape, np.float32)
        self._count = np.zeros(frame.shape, np.float32)

    def add(self, image: Image, displacement: np.ndarray) -> None:
        """Add an image that is warped by a displacement on the grid (mm, x first)."""
        transform = composite(self._frame, displacement, np.eye(self._frame.ndim + 1))
        warped = resample(image, self._frame, transform, smooth=False).array
        padding = find_padding(image.array)
        shown = where_shown(image, padding, self._frame, transform)
        self._total += np.where(shown, warped, 0.0)
        self._count += shown

    def result(self, like: Image) -> np.ndarray:
        """Return the mean in the type of an image, whose minimum fills the rest."""
        mean = self._total / np.maximum(self._count, 1.0)
        mean = np.where(self._count > 0, mean, float(like.array.min()))
        dtype = like.array.dtype
        return round_to(mean, dtype) if dtype.kind in "iu" else mean.astype(dtype)


class Region(NamedTuple):
    """Where the motion of a series is summed up.

    Attributes:
        name: ``lungs``, ``body`` or ``image``.
        mask: ``[*frame.shape]`` bool, on the grid of the reference.
    """

    name: str
    mask: np.ndarray


def find_region(image: Image) -> Region:
    """Return the lungs of a chest CT, the body of another CT, or all that is shown.

    Args:
        image: the reference.

    Returns:
        The region, never empty.
    """
    lungs = find_lungs(image)
    if lungs is not None:
        mask = resample(lungs, image.frame, interpolation="nearest").array > 0
        return Region("lungs", mask)
    padding = find_padding(image.array)
    if looks_like_ct(image.array, padding):
        mask = find_body(image)
        if mask.any():
            return Region("body", mask)
    everywhere = np.ones(image.frame.shape, bool)
    return Region("image", everywhere if padding is None else ~padding)


class Views(NamedTuple):
    """Slices of all phases in one plane of the reference, in canonical orientation.

    Attributes:
        index: (z, y, x) of the canonical grid, where the motion is largest; the slices
            are coronal, at its y. None in 2D.
        before: of each phase as it is, ``[rows, columns]``.
        after: of each phase, registered to the reference.
    """

    index: tuple[int, ...] | None
    before: list[np.ndarray]
    after: list[np.ndarray]


class Summary(NamedTuple):
    """The motion of a series, summed up over its registrations.

    Attributes:
        motion: of each point of the reference.
        region: of the reference, in which each phase is summed up.
        phases: by name for each phase, mm: ``mean_mm``, ``p95_mm`` and ``max_mm`` of
            the lengths of its displacements in the region, and ``mean_x_mm`` and so on
            of their components (left, back, head).
        mid_position: the mean of all phases at the mean position, on the grid of the
            reference and in its type.
        views: slices of the phases.
        warnings: sentences for the user.
    """

    motion: Motion
    region: Region
    phases: list[dict[str, float]]
    mid_position: Image
    views: Views
    warnings: list[str]


def summarise(
    fixed: Image,
    images: Sequence[Callable[[], Image]],
    field: Callable[[int], np.ndarray],
    *,
    cycle: bool = True,
    progress: bool = False,
) -> Summary:
    """Sum up the registrations of all phases to one of them.

    Args:
        fixed: the reference.
        images: return the phases, the reference among them.
        field: returns the displacement of a phase by its number, ``[*frame.shape, d]``,
            mm, x first, from the reference. It is called twice for each, so that not
            all must be held in memory.
        cycle: as in ``measure_motion``.
        progress: show a bar.

    Returns:
        The summary.
    """
    frame, region = fixed.frame, find_region(fixed)
    phases: list[dict[str, float]] = []

    def fields():
        for number in range(len(images)):
            vectors = field(number)
            phases.append(_summarise_field(vectors[region.mask]))
            yield vectors

    motion = measure_motion(fields(), cycle=cycle)
    position = find_mid_position(frame, motion.mean)
    index = _choose_index(np.where(region.mask, motion.amplitude, 0.0), frame)
    views, average = Views(index, [], []), _Average(frame)
    for number in tqdm(
        range(len(images)), "averaging", unit="phase", disable=not progress
    ):
        image, vectors = images[number](), field(number)
        average.add(image, position.displacement(vectors))
        transform = composite(frame, vectors, np.eye(frame.ndim + 1))
        views.before.append(_take_slice(image, frame, index))
        views.after.append(_take_slice(image, frame, index, transform))
    mid_position = Image(average.result(fixed), frame, "mid-position")
    warnings = []
    if position.lost:
        warnings.append(
            f"the mean displacement folds at {position.lost} of {region.mask.size}"
            " voxels, where the mid-position is that of the closest points"
        )
    return Summary(motion, region, phases, mid_position, views, warnings)


def _summarise_field(vectors: np.ndarray) -> dict[str, float]:
    """Summarise displacements ``[n, d]``, mm, x first."""
    lengths = np.linalg.norm(vectors, axis=-1)
    summary = {
        "mean_mm": float(lengths.mean()),
        "p95_mm": float(np.percentile(lengths, 95)),
        "max_mm": float(lengths.max()),
    }
    components = vectors.mean(axis=0, dtype=np.float64).tolist()
    return summary | {
        f"mean_{axis}_mm": value for axis, value in zip("xyz", components, strict=False)
    }


def _choose_index(amplitude: np.ndarray, frame: Frame) -> tuple[int, ...] | None:
    """Return the index of the three canonical planes with the largest motion."""
    if frame.ndim == 2:
        return None
    amplitude, _ = canonicalise(amplitude, frame)
    others = ((1, 2), (0, 2), (0, 1))
    sums = [amplitude.sum(axis=axes) for axes in others]
    # The middle of those that are almost the largest: all, where all moves alike.
    near = [np.flatnonzero(each >= 0.99 * each.max()) for each in sums]
    return tuple(int(each[len(each) // 2]) for each in near)


def _take_slice(
    image: Image, frame: Frame, index: tuple[int, ...] | None, transform=None
) -> np.ndarray:
    """Sample an image in the coronal plane of a grid, in canonical orientation."""
    grid = canonical_frame(frame)
    if index is None:
        return resample(image, grid, transform, smooth=False).array
    first = to_world(grid, (0, index[1], 0))
    shape = (grid.shape[0], 1, grid.shape[2])
    slab = Frame(shape, grid.spacing, first, grid.direction)
    return resample(image, slab, transform, smooth=False).array[:, 0]
