"""Operations on fields that all families of artificial deformations share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from regnet_jax.geometry.fields import determinant, jacobian_matrix

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Bool, Float

# Halvings of the interval that holds the largest scale without folding.
_BISECTIONS = 20


class Deformation(NamedTuple):
    """A field and the voxels that networks are trained on.

    Attributes:
        displacement: ``[*spatial, d]``, voxels, fixed to moving.
        area: ``[*spatial]``, true at the voxels of training targets.
    """

    displacement: Float[Array, "*spatial d"]
    area: Bool[Array, "*spatial"]


def everywhere(displacement: Float[Array, "*spatial d"]) -> Deformation:
    """Return a deformation with training targets at every voxel.

    Args:
        displacement: ``[*spatial, d]``, voxels.

    Returns:
        A ``Deformation``.
    """
    return Deformation(displacement, jnp.ones(displacement.shape[:-1], bool))


def rescale(field: Float[Array, "*spatial d"], largest) -> Float[Array, "*spatial d"]:
    """Scale a field as a whole, so that no zero of it moves.

    Args:
        field: ``[*spatial, d]``.
        largest: magnitude of the largest component afterwards.

    Returns:
        An array like the field; zero stays zero.
    """
    top = jnp.max(jnp.abs(field))
    return field * jnp.where(top > 0, largest / jnp.where(top > 0, top, 1.0), 0.0)


def over_voxels(
    reduce: Callable, field: Float[Array, "*spatial d"]
) -> Float[Array, " d"]:
    """Reduce each component of a field over all voxels.

    Args:
        reduce: such as ``jnp.max``.
        field: ``[*spatial, d]``.

    Returns:
        ``[d]``.
    """
    # In two steps, the first along whole lines: a reduction that leaves two or three
    # numbers runs on one lane of a CPU otherwise.
    *_, columns, d = field.shape
    lines = reduce(field.reshape(-1, columns * d), axis=0)
    return reduce(lines.reshape(columns, d), axis=0)


def rescale_lobes(
    field: Float[Array, "*spatial d"],
    highest: Float[Array, " d"],
    lowest: Float[Array, " d"],
) -> Float[Array, "*spatial d"]:
    """Scale the positive and the negative lobe to given extremes, separately.

    Scaling both lobes together would shift the field and leave little near zero.

    Args:
        field: ``[*spatial, d]``.
        highest: ``[d]``, not negative, the maximum of each component afterwards.
        lowest: ``[d]``, not positive, the minimum.

    Returns:
        An array like the field; a component without a lobe stays without it.
    """
    top, bottom = (over_voxels(reduce, field) for reduce in (jnp.max, jnp.min))
    up = jnp.where(top > 0, highest / jnp.where(top > 0, top, 1.0), 0.0)
    down = jnp.where(bottom < 0, lowest / jnp.where(bottom < 0, bottom, 1.0), 0.0)
    shape = (1,) * (field.ndim - 1) + (-1,)
    return field * jnp.where(field > 0, up.reshape(shape), down.reshape(shape))


def _invariants(displacement):
    """Return the coefficients of the polynomial ``det(I + s grad u)``, from s^1 on."""
    d = displacement.shape[-1]
    m = jacobian_matrix(displacement)
    m = m - jnp.broadcast_to(jnp.eye(d, dtype=m.dtype), m.shape)
    trace = jnp.trace(m, axis1=-2, axis2=-1)
    if d == 2:
        return trace, determinant(m)
    # The sum of the principal minors of order two.
    square = jnp.sum(m * jnp.swapaxes(m, -1, -2), axis=(-1, -2))
    return trace, 0.5 * (trace**2 - square), determinant(m)


def limit_folding(
    displacement: Float[Array, "*spatial d"], least
) -> Float[Array, "*spatial d"]:
    """Shrink a field so that its Jacobian determinant keeps a lower bound.

    The determinant of a scaled field is a polynomial of the scale at every voxel, so
    the derivatives are taken once and the scale is found by bisection.

    Args:
        displacement: ``[*spatial, d]``, voxels.
        least: determinant to keep, as ``geometry.jacobian_determinant`` measures it;
            below one, may be traced.

    Returns:
        The field times a number in [0, 1], which is 1 where the bound holds already.
    """
    coefficients = _invariants(displacement)

    def holds(scale):
        value = 1.0 + sum(c * scale ** (i + 1) for i, c in enumerate(coefficients))
        return jnp.min(value) >= least

    def halve(_, interval):
        low, high = interval
        middle = 0.5 * (low + high)
        fits = holds(middle)
        return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

    low, _ = jax.lax.fori_loop(0, _BISECTIONS, halve, (0.0, 1.0))
    # Slightly less, as rounding differs where the determinant is computed again.
    return displacement * jnp.where(holds(1.0), 1.0, (1.0 - 1e-5) * low)
