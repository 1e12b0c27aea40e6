"""Cubic B-splines: prefilter and fields given by a coarse grid of coefficients.

Source: M. Unser, "Splines: a perfect fit for signal and image processing", IEEE
Signal Processing Magazine 16(6), 1999.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from regnet_jax.geometry.smoothing import apply_separable

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float


def cubic_weights(t):
    """Return the four cubic B-spline weights at fraction ``t`` in [0, 1) past a knot.

    Args:
        t: any array type and shape.

    Returns:
        Four arrays like ``t``, for the knots at -1, 0, 1 and 2. They sum to 1.
    """
    return (
        (1 - t) ** 3 / 6,
        2 / 3 - t**2 * (2 - t) / 2,
        2 / 3 - (1 - t) ** 2 * (1 + t) / 2,
        t**3 / 6,
    )


def cubic_bspline(t):
    """Evaluate the centred cubic B-spline.

    Args:
        t: distance from its centre in control points, any shape.

    Returns:
        An array like ``t``; zero from a distance of 2 on.
    """
    t = jnp.abs(t)
    near = 2.0 / 3.0 - t**2 * (1.0 - 0.5 * t)
    return jnp.where(t < 1.0, near, jnp.maximum(2.0 - t, 0.0) ** 3 / 6.0)


def _prefilter_matrix(size: int):
    """Return the inverse of sampling a spline at its knots, mirrored at both ends."""
    if size == 1:
        return np.ones((1, 1))
    sampling = (4 * np.eye(size) + np.eye(size, k=1) + np.eye(size, k=-1)) / 6
    sampling[0, 1] = sampling[-1, -2] = 1 / 3
    return np.linalg.inv(sampling)


def prefilter(volume: Float[Array, "*spatial c"]) -> Float[Array, "*spatial c"]:
    """Return the B-spline coefficients whose cubic spline interpolates the volume.

    Args:
        volume: ``[*spatial, channel]``.

    Returns:
        Coefficients, of the same shape; mirror boundary, as
        ``scipy.ndimage.spline_filter(..., mode="mirror")``.
    """
    return apply_separable(volume, [_prefilter_matrix(n) for n in volume.shape[:-1]])


def control_points(size: int, spacing: float) -> int:
    """Return the number of control points of an axis of ``size`` voxels.

    Args:
        size: number of voxels.
        spacing: distance of control points in voxels.

    Returns:
        The count: one before the first voxel, two beyond the last knot before
        the last voxel.
    """
    return int(np.floor((size - 1) / spacing)) + 4


def _field_matrix(size: int, spacing: float):
    """Return the basis functions at the voxels: ``[size, control points]``."""
    position = np.arange(size) / spacing
    knot = np.floor(position).astype(int)
    matrix = np.zeros((size, control_points(size, spacing)))
    for offset, weight in enumerate(cubic_weights(position - knot)):
        matrix[np.arange(size), knot + offset] = weight
    return matrix


def bspline_field(
    coefficients: Float[Array, "*counts c"],
    shape: Sequence[int],
    spacing: Sequence[float],
) -> Float[Array, "*spatial c"]:
    """Return a smooth array from a coarse grid of cubic B-spline coefficients.

    Args:
        coefficients: ``[*counts, channel]`` with ``control_points(size,
            spacing)`` per axis. The coefficient 1 sits on voxel 0.
        shape: spatial shape of the result.
        spacing: distance of the control points in voxels, one for each axis.

    Returns:
        ``[*shape, channel]``.

    Raises:
        ValueError: if the grid of coefficients does not fit shape and spacing.
    """
    counts = tuple(control_points(n, s) for n, s in zip(shape, spacing, strict=True))
    if coefficients.shape[:-1] != counts:
        raise ValueError(
            f"shape {tuple(shape)} at spacing {tuple(spacing)} takes {counts} "
            f"control points, not {coefficients.shape[:-1]}"
        )
    matrices = [_field_matrix(n, s) for n, s in zip(shape, spacing, strict=True)]
    return apply_separable(coefficients, matrices)
