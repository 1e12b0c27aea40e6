"""Breathing: the diaphragm descends, the chest widens, organs slide, the heart beats.

Sources: Hub et al., "A stochastic approach to estimate the uncertainty involved in
B-spline image registration", IEEE TMI 28(11), 2009, for the profile of the descent;
Sokooti et al., arXiv 1908.10235, 2019, for the same profile of the widening and for
the irregular field on top. Borders, fissures, heart and domes are additions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from regnet_jax.geometry import along_axis, gaussian_smooth, identity_grid
from regnet_jax.hounsfield import traced_body_mask, traced_lung_mask
from regnet_jax.synthesis.fields.deformation import Deformation, everywhere, rescale
from regnet_jax.synthesis.fields.splines import (
    FINEST,
    sample_spline_field,
)
from regnet_jax.synthesis.random import uniform

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Bool, Float

# Amplitude of the irregular motion as a fraction of the whole, and the fraction of it
# that is along the body.
_UNEVEN = 0.5
_UNEVEN_ALONG = 0.3
# From the back to the axis about which the chest widens, and to the front of the spine;
# width of the edge over which motion fades at the skin, mm.
_SPINE_DEPTH, _SPINE_FRONT = 50.0, 80.0
_FADE = 10.0
# Fraction of the lungs below the dome of the diaphragm, in the recesses around it.
_BELOW_DOME = 0.15
# From the domes on, the height at which the motion of the diaphragm ends, as a fraction
# of the height between the domes and the top. Beyond about 1.4 the apices move too.
_REACH = (0.8, 2.0)
# Descent from which on the chest may widen fully, mm, and the least fraction of that.
_DEEP, _LEAST_WIDENING = 30.0, 0.3
# Sigma over which the domes round off towards the wall, mm, and by how much less the
# diaphragm moves where it meets it.
_DOME_WIDTH, _FLATTENING = 25.0, 0.6
# Sigma by which vessels belong to the lungs around them, and the trachea to the tissue
# around it, mm.
_VESSELS = 8.0
# Range of the slope of a fissure, radians, width over which lobes slide, and sigma over
# which that ends at the lung's surface, mm.
_FISSURE_SLOPE, _FISSURE_WIDTH, _FISSURE_END = (0.5, 1.1), 3.0, 12.0
# Radius of the heart, mm, its height as a fraction of that from the domes to the top,
# and its distance in front of the middle of the lungs and to either side, mm.
_HEART_RADIUS, _HEART_HEIGHT, _HEART_FRONT, _HEART_SIDE = 35.0, 0.3, 15.0, 20.0


class RespiratoryFamily(NamedTuple):
    """The parameters of a family; lengths in millimetres.

    Attributes:
        amplitude: largest component of any displacement.
        least_descent: of the diaphragm, in the shallowest breath.
        most_descent: in the deepest; never more than ``amplitude``.
        widening: largest antero-posterior scaling of the chest, as a fraction.
        least_border: smallest width of the border along which lungs and the organs
            below them move past spine and ribs; they slide where it is narrow.
        most_border: largest width of it. Widths are sampled log-uniformly.
        slip: largest distance by which lobes of a lung slide on each other.
        beat: largest distance by which the wall of the heart moves.
        finest: smallest distance of control points of the irregular motion.
        coarsest: largest distance of them.
    """

    amplitude: float
    least_descent: float = 6.0
    most_descent: float = 60.0
    widening: float = 0.12
    least_border: float = 10.0
    most_border: float = 40.0
    slip: float = 5.0
    beat: float = 5.0
    finest: float = FINEST
    coarsest: float = 60.0


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
    last = jnp.sum(fraction < 1.0 - tail)
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


class _Thorax(NamedTuple):
    """The lungs of a volume; lengths in voxels.

    Attributes:
        lungs: ``[*spatial]``, 1 within the lungs with their vessels, else 0.
        bottom: height of the domes of the diaphragm.
        top: height above which 15 percent of the lungs lie, a quarter of their height
            below the apices.
        centre: ``[d]``, the middle of the lungs' extent along each axis.
    """

    lungs: Float[Array, "*spatial"]
    bottom: Float[Array, ""]
    top: Float[Array, ""]
    centre: Float[Array, " d"]


def _find_thorax(volume, *, spacing: float) -> _Thorax:
    air = traced_lung_mask(volume)[..., None].astype(jnp.float32)
    mask = gaussian_smooth(air, [_VESSELS / spacing] * (volume.ndim - 1))[..., 0] > 0.5
    bottom, top = mask_extent(mask, 0, tail=_BELOW_DOME)
    extents = [mask_extent(mask, axis) for axis in range(mask.ndim)]
    centre = jnp.stack([0.5 * (low + high) for low, high in extents])
    return _Thorax(mask.astype(jnp.float32), bottom, top, centre)


def _descent(key, thorax: _Thorax, descent, *, spacing: float):
    """Return the motion along the body, voxels, and its profile of height in [0, 1].

    The domes move most, and their middle more than their edge at the wall, as they
    flatten.
    """
    flattening_key, reach_key = jax.random.split(key)
    d = thorax.lungs.ndim
    below = jnp.max(thorax.lungs, axis=0)[..., None]
    domes = gaussian_smooth(below, [_DOME_WIDTH / spacing] * (d - 1))[None, ..., 0]
    domes /= jnp.maximum(jnp.max(domes), 1e-3)
    flattening = uniform(flattening_key, 0.0, _FLATTENING)
    reach = uniform(reach_key, _REACH[0], _REACH[1])
    end = thorax.bottom + reach * (thorax.top - thorax.bottom)
    height = jnp.arange(thorax.lungs.shape[0], dtype=jnp.float32)
    profile = descent_profile(height, thorax.bottom, end)
    along = along_axis(profile, 0, d) * (1.0 - flattening * (1.0 - domes))
    return -descent / spacing * along, profile


def _moving_organs(thorax: _Thorax, body, *, spacing: float):
    """Return what breathes: lungs, what lies between them before the spine, and below.

    In 2D nothing tells the heart from the spine, and neither moves.
    """
    organs = thorax.lungs
    if organs.ndim == 3:
        sides = (lax.cummax(organs, axis=2, reverse=r) for r in (False, True))
        _, back = mask_extent(body, 1)
        y = along_axis(jnp.arange(organs.shape[1]), 1, 3)
        before_spine = y < back - _SPINE_FRONT / spacing
        organs = jnp.maximum(organs, math.prod(sides) * before_spine)
    # The first axis points up: organs below a lung follow it.
    return lax.cummax(organs, axis=0, reverse=True)


def _slip(key, thorax: _Thorax, slip, *, spacing: float):
    """Return the motion of lobes on each other along an oblique fissure, voxels.

    The fissure is a plane through the middle of the lungs that falls to the front; the
    lobes on its two sides move in opposite directions along it.
    """
    slope_key, size_key = jax.random.split(key)
    low, high = _FISSURE_SLOPE
    slope = uniform(slope_key, low, high)
    along = jnp.stack([jnp.sin(slope), jnp.cos(slope), 0.0]).reshape(1, 1, 1, 3)
    z, y, _ = (
        along_axis(jnp.arange(n) - c, axis, 3)
        for axis, (n, c) in enumerate(
            zip(thorax.lungs.shape, thorax.centre, strict=True)
        )
    )
    above = spacing * (jnp.cos(slope) * z - jnp.sin(slope) * y)
    side = 0.5 * jnp.tanh(above / _FISSURE_WIDTH)[..., None]
    size = slip / spacing * uniform(size_key, -1.0, 1.0)
    # At the surface of a lung its lobes move with what is around it.
    smooth = gaussian_smooth(thorax.lungs[..., None], [_FISSURE_END / spacing] * 3)
    return jnp.clip(2.0 * smooth - 1.0, 0.0, 1.0) * size * side * along


def _beat(key, thorax: _Thorax, beat, *, spacing: float):
    """Return the motion of a heart that contracts or relaxes, voxels."""
    side_key, size_key = jax.random.split(key)
    d = thorax.lungs.ndim
    place = thorax.centre.at[0].set(
        thorax.bottom + _HEART_HEIGHT * (thorax.top - thorax.bottom)
    )
    side = uniform(side_key, -1.0, 1.0) * _HEART_SIDE
    place = place.at[-1].add(side / spacing)
    if d == 3:
        place = place.at[1].add(-_HEART_FRONT / spacing)
    offset = identity_grid(thorax.lungs.shape) - place.reshape((1,) * d + (d,))
    offset *= spacing / _HEART_RADIUS
    squared = jnp.sum(offset**2, axis=-1, keepdims=True)
    # At the radius the factor is one. Without lungs there is no telling where it is.
    size = beat / spacing * uniform(size_key, -1.0, 1.0)
    size *= jnp.max(thorax.lungs)
    return size * offset * jnp.exp(0.5 * (1.0 - squared))


def respiratory(
    key,
    volume: Float[Array, "*spatial 1"],
    family: RespiratoryFamily,
    *,
    spacing: float,
) -> Deformation:
    """Sample the motion of a breath, in or out.

    Lungs, the heart and the organs below move along the body and irregularly, past
    spine and ribs; lobes slide on each other; the chest widens with its wall, by the
    same profile of height as the descent; and the heart beats.

    Args:
        key: random key.
        volume: ``[*spatial, 1]`` HU, a chest; z points up and y to the back. In 2D a
            coronal slice: the first axis points up, nothing widens, and no lobe slides.
        family: its entries may be traced.
        spacing: isotropic voxel size, mm.

    Returns:
        A ``Deformation``: towards the moving image, which is a breath in or out of
        the fixed one.
    """
    keys = jax.random.split(key, 9)
    shape = volume.shape[:-1]
    d = len(shape)
    thorax = _find_thorax(volume, spacing=spacing)
    body = traced_body_mask(volume)
    skin = gaussian_smooth(body[..., None].astype(jnp.float32), [_FADE / spacing] * d)
    deepest = jnp.minimum(family.most_descent, family.amplitude)
    least = family.least_descent
    depth = uniform(keys[0], least, jnp.maximum(deepest, least))
    sign = jnp.where(jax.random.bernoulli(keys[1]), 1.0, -1.0)
    along, profile = _descent(keys[2], thorax, sign * depth, spacing=spacing)
    organs = _moving_organs(thorax, body, spacing=spacing)[..., None]
    narrowest, widest = jnp.log(family.least_border), jnp.log(family.most_border)
    border = jnp.exp(uniform(keys[3], narrowest, widest))
    moved = gaussian_smooth(organs, [border / spacing] * d)
    inner = jnp.zeros((*shape, d)).at[..., 0].set(along)
    if d == 3:
        inner += _slip(keys[4], thorax, family.slip, spacing=spacing)
    uneven = sample_spline_field(keys[7], shape, family, 0.0, spacing=spacing)
    uneven = rescale(uneven, _UNEVEN * depth * uniform(keys[8], 0.0, 1.0) / spacing)
    inner += uneven.at[..., 0].multiply(_UNEVEN_ALONG)
    inner += _beat(keys[5], thorax, family.beat, spacing=spacing)
    field = moved * inner
    if d == 3:
        widening = sign * family.widening * jnp.minimum(depth / _DEEP, 1.0)
        widening *= uniform(keys[6], _LEAST_WIDENING, 1.0)
        _, back = mask_extent(body, 1)
        lever = jnp.arange(shape[1]) - (back - _SPINE_DEPTH / spacing)
        field = field.at[..., 1].add(
            widening * along_axis(profile, 0, 3) * along_axis(lever, 1, 3)
        )
    field *= skin
    top = jnp.max(jnp.abs(field))
    return everywhere(rescale(field, jnp.minimum(top, family.amplitude / spacing)))
