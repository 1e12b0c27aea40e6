"""Diffeomorphic displacement fields: the flow of a smooth stationary velocity."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from regnet_jax.geometry import exponentiate
from regnet_jax.synthesis.deformation import Deformation, everywhere
from regnet_jax.synthesis.splines import SplineFamily, draw_part, spline_field


def diffeomorphic(
    key, shape: Sequence[int], family: SplineFamily, *, spacing: float
) -> Deformation:
    """Draws a field that does not fold, by flowing along a random velocity.

    Source of the idea: Arsigny et al., "A log-Euclidean framework for statistics on
    diffeomorphisms", MICCAI 2006. The velocity is a single-frequency field. Its
    largest component bounds that of the displacement, as a path of unit duration is
    no longer than its speed.

    Args:
        key: random key.
        shape: spatial shape, 2D or 3D.
        family: its entries may be traced.
        spacing: isotropic voxel size, mm.

    Returns:
        A ``Deformation``.
    """
    distance_key, size_key, field_key = jax.random.split(key, 3)
    distance = jax.random.uniform(
        distance_key, minval=family.finest, maxval=family.coarsest
    )
    velocity = spline_field(
        field_key, shape, distance, family.held_border, spacing=spacing
    )
    top = jnp.max(jnp.abs(velocity))
    largest = family.amplitude / spacing * draw_part(size_key, family.least)
    return everywhere(exponentiate(velocity * (largest / top)))
