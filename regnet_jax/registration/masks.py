"""Masks that limit a registration: what is not compared, and what may not move."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import jax
import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg

from regnet_jax.errors import InputError
from regnet_jax.geometry import jacobian_determinant, warp
from regnet_jax.registration.refinement import LEAST_JACOBIAN
from regnet_jax.spatial import Frame, Image, resample, to_index, to_world

_LOG = logging.getLogger(__name__)

# The effect of each mask, for reports.
EFFECTS = {
    "fixed_mask": "the linear alignment compares only these voxels of the fixed image",
    "moving_mask": "the linear alignment compares only these of the moving image",
    "ignore_fixed": "these voxels of the fixed image are not compared",
    "ignore_moving": "these voxels of the moving image are not compared",
    "immobile": "the linear alignment alone moves these voxels of the fixed image",
}
# At least this fraction of what an image shows must remain to be compared, or to move.
_LEAST_LEFT = 0.02
# A mask that covers more than this fraction may be an inverted one.
_SUSPICIOUS = 0.75
# A voxel of the working grid is ignored if more than this fraction of it is.
_IGNORED = 0.01
# Distance over which the field rises from zero beside what may not move, mm. It is
# multiplied by the second number until the Jacobian determinant is nowhere smaller than
# what the refinement penalises, or than it was.
_LEAST_WIDTH = 10.0
_WIDER = 1.5
# Points that are mapped at a time, to bound the memory.
_CHUNK = 1 << 19

_determinant, _warp = jax.jit(jacobian_determinant), jax.jit(warp)


def check_limits(
    masks: Mapping[str, Image], images: Sequence[Image], padding: Sequence
) -> None:
    """Refuse masks that leave nothing to compare, or nothing that may move.

    A warning is logged where a mask covers most of its image.

    Args:
        masks: by the names of ``EFFECTS``, zeros and ones on the grids of their images.
        images: the fixed and the moving one.
        padding: bool of their shapes, where they show nothing; or None.

    Raises:
        InputError: names the mask and its image.
    """
    for name, side, consequence in (
        ("ignore_fixed", 0, "not compared"),
        ("ignore_moving", 1, "not compared"),
        ("immobile", 0, "not deformed"),
    ):
        if name not in masks:
            continue
        mask, image, nothing = masks[name], images[side], padding[side]
        inside = mask.array > 0
        covered = float((inside if nothing is None else inside[~nothing]).mean())
        if covered > 1.0 - _LEAST_LEFT:
            raise InputError(
                f"{mask.name}: covers {covered:.0%} of {image.name}, which is then"
                f" {consequence}; give a smaller mask, or its inverse"
            )
        if covered > _SUSPICIOUS:
            _LOG.warning(
                "%s: covers %.0f%% of %s, which is then %s; if it marks the rest, give"
                " its inverse",
                *(mask.name, 100 * covered, image.name, consequence),
            )


def describe_masks(masks: Mapping[str, Image]) -> dict[str, dict]:
    """Return the effect of each mask and the fraction of its image that it covers."""
    return {
        name: {"effect": EFFECTS[name], "fraction": float((mask.array > 0).mean())}
        for name, mask in masks.items()
    }


def neutralise(image: Image, ignored: np.ndarray | None) -> Image:
    """Return an image whose ignored voxels have the value of the nearest other one.

    Args:
        image: any.
        ignored: bool of its shape, or None; the image is kept where it covers all.

    Returns:
        The image, which does not depend on the values that are ignored.
    """
    if ignored is None or ignored.all() or not ignored.any():
        return image
    box = tuple(
        slice(max(int(found.min()) - 1, 0), int(found.max()) + 2)
        for found in np.nonzero(ignored)
    )
    inside = ignored[box]
    nearest = ndimage.distance_transform_edt(
        inside,
        sampling=image.frame.spacing[::-1],
        return_distances=False,
        return_indices=True,
    )
    filled = image.array.copy()
    filled[box] = filled[box][tuple(cast(np.ndarray, nearest))]
    return replace(image, array=filled)


def unite(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
    """Return where one of two masks is true; None is false everywhere."""
    if first is None or second is None:
        return second if first is None else first
    return first | second


def ignored_on_grid(image: Image, ignored, grid: Frame, transform=None):
    """Find the voxels of a grid to whose values ignored voxels contribute.

    Args:
        image: that the mask belongs to.
        ignored: bool of its shape, or None.
        grid: of the result.
        transform: maps points of the grid to points of the image (mm).

    Returns:
        Bool ``[*grid.shape]``; None if there are none.
    """
    if ignored is None:
        return None
    marked = replace(image, array=ignored.astype(np.uint8))
    found = resample(marked, grid, transform, background=0.0).array > _IGNORED
    return found if found.any() else None


class LimitedField(NamedTuple):
    """A field that follows the masks.

    Attributes:
        field: ``[*spatial, d]``, voxels.
        mobility: ``[*spatial]``, factor from 0 to 1 of what may be added to the field;
            None is 1 everywhere.
        width: of the transition beside what may not move, voxels; None without that.
    """

    field: np.ndarray
    mobility: np.ndarray | None = None
    width: float | None = None


def limit_field(field, ignored, still, spacing: float) -> LimitedField:
    """Limit a field by masks.

    Args:
        field: ``[*spatial, d]``, voxels, fixed to moving.
        ignored: bool ``[*spatial]`` of both images; each may be None.
        still: bool ``[*spatial]``, where nothing may move; or None.
        spacing: isotropic voxel size, mm, for which the network takes it.

    Returns:
        The field: continued smoothly where it is ignored, then held where it is still.
    """
    field = continue_into_ignored(field, ignored)
    return LimitedField(field) if still is None else hold(field, still, spacing)


def continue_into_ignored(field, ignored) -> np.ndarray:
    """Replace a field where it is ignored by its harmonic continuation.

    Args:
        field: ``[*spatial, d]``, voxels, fixed to moving.
        ignored: bool ``[*spatial]`` of the fixed and of the moving image, each may be
            None. That of the moving image is warped by the field.

    Returns:
        ``[*spatial, d]`` float32.
    """
    here, there = ignored
    if there is not None:
        marked = there[..., None].astype(np.float32)
        there = np.asarray(_warp(marked, field))[..., 0] > _IGNORED
    hole = unite(here, there)
    return np.asarray(field) if hole is None else fill_harmonically(field, hole)


def fill_harmonically(values, hole) -> np.ndarray:
    """Replace values in a hole by the solution of Laplace's equation.

    Each value becomes the mean of its neighbours along the axes; nothing flows through
    the border of the grid. A linear field is restored where the hole does not reach the
    border.

    Args:
        values: ``[*spatial, channel]``; those in the hole are a first guess.
        hole: bool, ``[*spatial]``; where it covers all, the values are kept.

    Returns:
        ``[*spatial, channel]`` float32.
    """
    values, hole = np.array(values, np.float32), np.asarray(hole)
    if hole.all() or not hole.any():
        return values
    places = np.argwhere(hole)
    index = np.full(hole.shape, -1)
    index[hole] = np.arange(len(places))
    degree = np.zeros(len(places))
    known = np.zeros((len(places), values.shape[-1]))
    rows, columns = [], []
    for axis, step in itertools.product(range(hole.ndim), (-1, 1)):
        beside = places.copy()
        beside[:, axis] += step
        (row,) = np.nonzero(
            (beside[:, axis] >= 0) & (beside[:, axis] < hole.shape[axis])
        )
        neighbour = tuple(beside[row].T)
        degree[row] += 1
        column = index[neighbour]
        unknown = column >= 0
        known[row] += np.where(unknown[:, None], 0.0, values[neighbour])
        rows.append(row[unknown])
        columns.append(column[unknown])
    row, column = np.concatenate(rows), np.concatenate(columns)
    links = sparse.csr_array((np.ones(len(row)), (row, column)), (len(places),) * 2)
    matrix = sparse.diags_array(degree) - links
    for channel in range(values.shape[-1]):
        guess = values[hole, channel]
        solution, _ = cg(matrix, known[:, channel], x0=guess, rtol=1e-6)
        values[hole, channel] = solution
    return values


def immobile_on_grid(mask: Image, grid: Frame) -> np.ndarray:
    """Find the voxels of a grid where a field must be zero.

    Args:
        mask: zeros and ones.
        grid: of the field.

    Returns:
        Bool ``[*grid.shape]``: what lies in the mask, and all voxels that contribute to
        a linear interpolation at one of its voxels.
    """
    still = resample(mask, grid, interpolation="nearest").array > 0
    places = np.argwhere(mask.array)
    last = np.asarray(grid.shape) - 1
    for first in range(0, len(places), _CHUNK):
        points = to_world(mask.frame, places[first : first + _CHUNK])
        points = to_index(grid, points)
        # Rounding must not hide the neighbour of a voxel on the grid.
        ends = np.floor(points - 1e-6), np.ceil(points + 1e-6)
        for corner in itertools.product(*np.stack(ends).transpose(2, 0, 1)):
            corner = np.clip(np.stack(corner, -1).astype(int), 0, last)
            still[tuple(corner.T)] = True
    return still


def hold(field, still, spacing: float) -> LimitedField:
    """Make a field zero where nothing may move, with a smooth transition outside.

    The transition is as wide as it needs to be so that nothing folds there that did not
    fold before.

    Args:
        field: ``[*spatial, d]``, voxels.
        still: bool ``[*spatial]``, from ``immobile_on_grid``.
        spacing: as for ``limit_field``.

    Returns:
        The field, by what it was multiplied, and the width of the transition.
    """
    field = np.asarray(field, np.float32)
    distance = spacing * cast(np.ndarray, ndimage.distance_transform_edt(~still))
    before, width = _jacobian(field), _LEAST_WIDTH
    while True:
        fraction = np.clip(distance / width, 0.0, 1.0)
        mobility = (fraction**2 * (3.0 - 2.0 * fraction)).astype(np.float32)
        held = mobility[..., None] * field
        around = distance <= width + spacing
        least = min(LEAST_JACOBIAN, float(before[around].min()))
        if float(_jacobian(held)[around].min()) >= least:
            return LimitedField(held, mobility, width / spacing)
        width *= _WIDER


def _jacobian(field) -> np.ndarray:
    """Return the Jacobian determinant, without the axes of a single voxel."""
    axes = [axis for axis, n in enumerate(field.shape[:-1]) if n > 1]
    thick = field.reshape(*(field.shape[a] for a in axes), -1)[..., axes]
    return np.asarray(_determinant(thick)).reshape(field.shape[:-1])
