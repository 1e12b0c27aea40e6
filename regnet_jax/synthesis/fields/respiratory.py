"""Breathing: the diaphragm moves, the chest widens, and both are uneven.

Sources: Hub et al., "A stochastic approach to estimate the uncertainty involved in
B-spline image registration", IEEE TMI 28(11), 2009, as Sokooti et al., arXiv
1908.10235, 2019, use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from regnet_jax.geometry import gaussian_smooth
from regnet_jax.hounsfield import traced_body_mask, traced_lung_mask
from regnet_jax.synthesis.fields.deformation import Deformation, everywhere, rescale
from regnet_jax.synthesis.fields.splines import (
    FINEST,
    sample_fraction,
    sample_spline_field,
)

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Bool, Float

# Amplitude of the irregular motion as a fraction of the whole, and the fraction of it
# that is along the body.
_UNEVEN = 0.5
_UNEVEN_ALONG = 0.3
# From the back to the axis about which the chest widens, and width of the edge over
# which motion fades at the skin, mm.
_SPINE_DEPTH = 50.0
_FADE = 10.0
# Fraction of the lungs below the dome of the diaphragm, in the recesses around it.
_BELOW_DOME = 0.15
# From the dome to the top of the lungs, where the motion of the diaphragm ends.
_REACH = 0.7
# Width of the border along which organs slide, mm.
_SHEAR = (2.0, 8.0)


class RespiratoryFamily(NamedTuple):
    """The parameters of a family.

    Attributes:
        amplitude: largest component of any displacement, mm.
        descent: largest motion of the diaphragm, mm.
        widening: largest antero-posterior scaling, as a fraction.
        least: descent and widening are sampled from this fraction of the largest up.
        finest: smallest distance of control points of the irregular motion, mm.
        coarsest: largest distance of them, mm.
    """

    amplitude: float
    descent: float = 30.0
    widening: float = 0.12
    least: float = 0.2
    finest: float = FINEST
    coarsest: float = 80.0


def mask_extent(
    mask: Bool[Array, "*spatial"], axis: int, *, tail: float = 0.02
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the positions along an axis between which a mask lies, without its tails.

    Args:
        mask: ``[*spatial]`` bool.
        axis: the axis.
        tail: fraction of the mask that may lie before the first position, and after
            the last.

    Returns:
        First and last position, voxels; the ends of the axis for an empty mask.
    """
    others = tuple(a for a in range(mask.ndim) if a != axis)
    counts = jnp.sum(mask, axis=others, dtype=jnp.float32)
    fraction = jnp.cumsum(counts) / jnp.maximum(jnp.sum(counts), 1.0)
    end = mask.shape[axis] - 1
    first = jnp.sum(fraction < tail)
    last = end - jnp.sum(fraction > 1.0 - tail)
    occupied = jnp.any(mask)
    return (
        jnp.where(occupied, first, 0).astype(jnp.float32),
        jnp.where(occupied, jnp.maximum(last, first), end).astype(jnp.float32),
    )


def descent_profile(
    position: Float[Array, "*heights"], bottom, end
) -> Float[Array, "*heights"]:
    """Return the fraction of the diaphragm's motion at a height.

    Args:
        position: heights, any unit and shape.
        bottom: height of the diaphragm, from which downwards the fraction is one.
        end: height from which upwards it is zero.

    Returns:
        An array like ``position`` in [0, 1], falling off logarithmically.
    """
    height = jnp.clip((position - bottom) / jnp.maximum(end - bottom, 1.0), 0.0, 1.0)
    return 1.0 - jnp.log1p((jnp.e - 1.0) * height)


def _regular(volume, descent, widening, *, spacing: float):
    """Return the motion of diaphragm and chest wall for an inhalation, voxels."""
    shape = volume.shape[:-1]
    dimensions = len(shape)
    bottom, top = mask_extent(traced_lung_mask(volume), 0, tail=_BELOW_DOME)
    end = bottom + _REACH * (top - bottom)
    height = jnp.arange(shape[0], dtype=jnp.float32)
    profile = descent_profile(height, bottom, end)
    along = -descent / spacing * profile.reshape((-1,) + (1,) * (dimensions - 1))
    parts = [jnp.broadcast_to(along, shape)]
    if dimensions == 3:
        _, back = mask_extent(traced_body_mask(volume), 1)
        depth = jnp.arange(shape[1], dtype=jnp.float32)
        depth = depth - (back - _SPINE_DEPTH / spacing)
        parts.append(jnp.broadcast_to(widening * depth[None, :, None], shape))
    parts.append(jnp.zeros(shape))
    return jnp.stack(parts, axis=-1)


def respiratory(
    key,
    volume: Float[Array, "*spatial 1"],
    family: RespiratoryFamily,
    *,
    spacing: float,
) -> Deformation:
    """Sample the motion of a breath, in or out.

    Args:
        key: random key.
        volume: ``[*spatial, 1]`` HU, a chest; z points up and y to the back. In 2D a
            coronal slice: the first axis points up and nothing widens.
        family: its entries may be traced.
        spacing: isotropic voxel size, mm.

    Returns:
        A ``Deformation``: towards the moving image, which is a breath in or out of
        the fixed one.
    """
    keys = jax.random.split(key, 4)
    shape = volume.shape[:-1]
    sign = jnp.where(jax.random.bernoulli(keys[0]), 1.0, -1.0)
    fraction = sign * sample_fraction(keys[1], family.least)
    field = _regular(
        volume, fraction * family.descent, fraction * family.widening, spacing=spacing
    )
    uneven = sample_spline_field(keys[2], shape, family, 0.0, spacing=spacing)
    largest = _UNEVEN * family.amplitude * sample_fraction(keys[3], family.least)
    uneven = rescale(uneven, largest / spacing)
    field += uneven.at[..., 0].multiply(_UNEVEN_ALONG)
    body = traced_body_mask(volume)[..., None].astype(jnp.float32)
    field *= gaussian_smooth(body, [_FADE / spacing] * len(shape))
    top = jnp.max(jnp.abs(field))
    return everywhere(rescale(field, jnp.minimum(top, family.amplitude / spacing)))


def sliding(
    key,
    volume: Float[Array, "*spatial 1"],
    family: RespiratoryFamily,
    *,
    spacing: float,
) -> Deformation:
    """Sample a breath that moves the lungs and the organs below them, along the ribs.

    Spine and ribs stay where they are, so the field is steep along the chest wall, as
    it is in the body.

    Args:
        key: random key.
        volume: as for ``respiratory``.
        family: its entries may be traced.
        spacing: isotropic voxel size, mm.

    Returns:
        A ``Deformation``; zero where there is no lung at or above.
    """
    field_key, width_key = jax.random.split(key)
    field, area = respiratory(field_key, volume, family, spacing=spacing)
    lungs = traced_lung_mask(volume).astype(jnp.float32)
    # The first axis points up: organs below a lung follow it.
    organs = lax.cummax(lungs, axis=0, reverse=True)[..., None]
    width = jax.random.uniform(width_key, minval=_SHEAR[0], maxval=_SHEAR[1])
    return Deformation(
        field * gaussian_smooth(organs, [width / spacing] * (volume.ndim - 1)), area
    )
