"""What displacement fields are like: how large, how uneven, how fine."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from regnet_jax.geometry.fields import determinant, jacobian_matrix


class FieldStatistics(NamedTuple):
    """Numbers of one field.

    Attributes:
        mean: of the magnitudes, mm.
        upper: 95th percentile of the magnitudes, mm.
        largest: of the components, mm.
        least_jacobian: smallest determinant.
        greatest_jacobian: largest determinant.
        spread: standard deviation of the determinant.
        folding: part of the voxels with a determinant of zero or less.
        still: part of the voxels that move by less than a tenth of a millimetre.
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


def field_statistics(displacement, *, spacing: float) -> FieldStatistics:
    """Measures one field.

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
