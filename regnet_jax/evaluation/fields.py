"""Measures of a displacement field: error against the truth, local volume changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import numpy as np

from regnet_jax.evaluation.statistics import sample_deviation
from regnet_jax.geometry import jacobian_determinant
from regnet_jax.spatial import Frame, displacement_from_world, split_frame

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Bool, Float


def endpoint_error(
    displacement: Float[Array | np.ndarray, "*shape d"],
    truth: Float[Array | np.ndarray, "*shape d"],
) -> Float[Array | np.ndarray, "*shape"]:
    """Return the length of the difference of two displacement fields.

    The gradient at zero is zero, so that the length can be a loss.

    Args:
        displacement: ``[..., d]``, NumPy or JAX, in any unit and order of components.
        truth: ``[..., d]``, in the same unit and order.

    Returns:
        ``[...]``, in the unit of the fields.
    """
    difference = displacement - truth
    xp = difference.__array_namespace__()
    square = xp.sum(difference**2, axis=-1)
    # The derivative of the root at zero is infinite; NaN stays NaN.
    same = square == 0
    return xp.where(same, 0.0, xp.sqrt(xp.where(same, 1.0, square)))


def local_volume_change(
    frame: Frame, displacement: Float[np.ndarray, "*spatial d"]
) -> Float[np.ndarray, "*spatial"] | None:
    """Return the Jacobian determinant of a displacement in the world.

    Args:
        frame: the grid, of any orientation.
        displacement: ``[*frame.shape, d]`` vectors, mm, x first.

    Returns:
        ``[*frame.shape]`` float32, zero or negative where the map folds; None where an
        axis has a single voxel, along which there is no derivative.
    """
    if min(frame.shape) < 2:
        return None
    result = np.empty(frame.shape, np.float32)
    for rows, _ in split_frame(frame):
        # One more row on each side, for central differences.
        first, last = max(rows.start - 1, 0), min(rows.stop + 1, len(result))
        around = displacement[first:last]
        voxels = displacement_from_world(frame, around).astype(np.float32)
        found = jax.jit(jacobian_determinant)(voxels)
        result[rows] = np.asarray(found)[rows.start - first : rows.stop - first]
    return result


@dataclass(frozen=True)
class JacobianStatistics:
    """Summary of the Jacobian determinant, the local change of volume.

    Attributes:
        min: the smallest.
        max: the largest.
        folding_fraction: fraction of voxels at which it is zero or negative.
        sd_log: sample standard deviation of its logarithm where it is positive.
    """

    min: float
    max: float
    folding_fraction: float
    sd_log: float


def jacobian_statistics(
    determinant: Float[Array | np.ndarray, "*spatial"],
    mask: Bool[Array | np.ndarray, "*spatial"] | None = None,
) -> JacobianStatistics:
    """Summarise local volume changes.

    Args:
        determinant: ``[*spatial]``, from ``geometry.jacobian_determinant``.
        mask: bool, of the same shape; None takes every voxel.

    Returns:
        The statistics; NaN where no voxel is taken.
    """
    values = np.asarray(determinant, np.float64)
    values = values.ravel() if mask is None else values[np.asarray(mask, bool)]
    if not values.size:
        return JacobianStatistics(*[float("nan")] * 4)
    return JacobianStatistics(
        min=float(values.min()),
        max=float(values.max()),
        folding_fraction=float(np.mean(values <= 0)),
        sd_log=sample_deviation(np.log(values[values > 0])),
    )
