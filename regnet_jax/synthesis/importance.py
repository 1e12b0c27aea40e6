"""The weight of each voxel of a chest in the loss, by what there is to match."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from regnet_jax.geometry import gaussian_smooth
from regnet_jax.hounsfield import AIR_BELOW, traced_body_mask, traced_lung_mask

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float

# Sigma in voxels, by which air around the body is told from noise.
_EMPTY_SIGMA = 1.5
# Voxels belong to a lung with what it encloses where the mask of its air, smoothed by
# this, mm, is above a half; vessels and walls are what is brighter there, HU.
_ENCLOSED, _VESSEL = 4.0, -600.0


def voxel_importance(
    volume: Float[Array, "*spatial 1"],
    *,
    spacing: float,
    unseen: float = 1.0,
    lung: float = 1.0,
    vessel: float = 1.0,
    dark: float = AIR_BELOW,
) -> Float[Array, "*spatial 1"]:
    """Return the weight of each voxel of a chest CT in the loss.

    Air around the body shows nothing. Air in the body does: lungs with emphysema are as
    dark as air, but have vessels and borders.

    Args:
        volume: ``[*spatial, 1]`` HU, without noise.
        spacing: isotropic voxel size, mm.
        unseen: weight of air around the body.
        lung: weight of the lungs, without their vessels.
        vessel: weight of vessels and airway walls in the lungs.
        dark: what is darker than this, HU, without noise, is air around the body.

    Returns:
        ``[*spatial, 1]``; all other voxels have weight 1.
    """
    d = volume.ndim - 1
    body = traced_body_mask(volume)[..., None]
    seen = body | (gaussian_smooth(volume, [_EMPTY_SIGMA] * d) > dark)
    result = jnp.where(seen, 1.0, unseen)
    if lung == vessel == 1.0:
        return result
    air = traced_lung_mask(volume)[..., None].astype(jnp.float32)
    lungs = gaussian_smooth(air, [_ENCLOSED / spacing] * d) > 0.5
    weight = jnp.where(volume > _VESSEL, vessel, lung)
    return jnp.where(body & lungs, weight, result)
