"""Statistics of displacement fields: magnitude, volume change, wavelength."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from regnet_jax.geometry.fields import determinant, jacobian_matrix

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float


class FieldStatistics(NamedTuple):
    """The statistics of one field.

    Attributes:
        mean: of the magnitudes, mm.
        upper: 95th percentile of the magnitudes, mm.
        largest: of the components, mm.
        least_jacobian: smallest determinant.
        greatest_jacobian: largest determinant.
        spread: standard deviation of the determinant.
        folding: fraction of the voxels with a determinant of zero or less.
        still: fraction of the voxels that move by less than a tenth of a millimetre.
        wavelength: mm; that of the sine with the same ratio of slope to deviation.
            Zero for a field without slopes.
    """

    mean: jax.Array
    upper: jax.Array
    largest: jax.Array
    least_jacobian: jax.Array
    greatest_jacobian: jax.Array
    spread: jax.Array
    folding: jax.Array
    still: jax.Array
    wavelength: jax.Array


def field_statistics(
    displacement: Float[Array, "*spatial d"], *, spacing: float
) -> FieldStatistics:
    """Measure one field.

    Args:
        displacement: ``[*spatial, d]``, voxels.
        spacing: isotropic voxel size, mm.

    Returns:
        Scalars.
    """
    d = displacement.shape[-1]
    size = spacing * jnp.linalg.norm(displacement, axis=-1)
    matrix = jacobian_matrix(displacement)
    jacobian = determinant(matrix)
    slopes = matrix - jnp.broadcast_to(jnp.eye(d), matrix.shape)
    axes = tuple(range(d))
    variance = jnp.sum(jnp.var(displacement, axis=axes))
    steepness = jnp.sum(jnp.mean(slopes**2, axis=axes))
    wave = 2 * jnp.pi * jnp.sqrt(variance / jnp.where(steepness > 0, steepness, 1.0))
    return FieldStatistics(
        mean=jnp.mean(size),
        upper=jnp.percentile(size, 95),
        largest=spacing * jnp.max(jnp.abs(displacement)),
        least_jacobian=jnp.min(jacobian),
        greatest_jacobian=jnp.max(jacobian),
        spread=jnp.std(jacobian),
        folding=jnp.mean(jacobian <= 0),
        still=jnp.mean(size < 0.1),
        wavelength=jnp.where(steepness > 0, spacing * wave, 0.0),
    )
