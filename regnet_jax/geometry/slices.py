"""Slices of 3D volumes: their axes by name, and displacements within them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float

# Array axes (z, y, x) of volumes in canonical orientation, across each kind of slice.
SLICE_AXES = {"axial": 0, "coronal": 1, "sagittal": 2}


def drop_across(
    displacement: Float[Array, "*shape 3"], axis: int
) -> Float[Array, "*shape 2"]:
    """Return the components of 3D displacements within slices.

    Args:
        displacement: ``[..., 3]``, array-axis order.
        axis: across the slices.

    Returns:
        ``[..., 2]``, array-axis order.
    """
    return jnp.delete(displacement, axis, axis=-1)
