"""Table and arms, which lie beside the patient and differ from scan to scan.

Both are intensity models like those of ``scanners``: they change one of two images of
a pair, so that table and arms do not move with the patient. Volumes of which pairs are
made are to show the trunk alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import lax

from regnet_jax.geometry import along_axis
from regnet_jax.hounsfield import TISSUE_THRESHOLD
from regnet_jax.synthesis.random import uniform
from regnet_jax.synthesis.volumes.shapes import blend, inside

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float

# The axis of a volume to the patient's back, and that to the side.
_BACK, _SIDE = 1, 2
# Less tissue than this fraction of a plane is noise.
_TRACE = 0.01


def _is_free(tissue, axis: int, *, forwards: bool):
    """Return the voxels from which on, along an axis, there is no more tissue."""
    return lax.cummax(tissue, axis=axis, reverse=forwards) == 0


def _reach(tissue, axis: int):
    """Return the first and the last position along an axis that shows tissue."""
    others = tuple(a for a in range(tissue.ndim) if a != axis)
    shown = jnp.mean(tissue, axis=others) > _TRACE
    places = jnp.arange(shown.size)
    first = jnp.min(jnp.where(shown, places, shown.size))
    return first, jnp.max(jnp.where(shown, places, -1))


def table(
    key, image: Float[Array, "*spatial 1"], *, spacing: float
) -> Float[Array, "*spatial 1"]:
    """Lay the patient on a table: a curved shell with foam inside, up to 15 mm below.

    Args:
        key: random key.
        image: ``[z, y, x, 1]`` HU; y to the patient's back. In an image of another
            dimension there is no table.
        spacing: isotropic voxel size, mm.

    Returns:
        An image like ``image``, changed only where there is no tissue at or behind a
        voxel.
    """
    if image.ndim != 4:
        return image
    values = image[..., 0]
    *_, depth, width = values.shape
    keys = jax.random.split(key, 6)
    tissue = (values > TISSUE_THRESHOLD).astype(jnp.float32)
    free = _is_free(tissue, _BACK, forwards=True)
    _, back = _reach(tissue, _BACK)
    y = along_axis(spacing * (jnp.arange(depth) - back), _BACK, 3)
    middle = spacing * 0.5 * (width - 1) + uniform(keys[0], -40.0, 40.0)
    x = along_axis(spacing * jnp.arange(width) - middle, _SIDE, 3)
    radius = uniform(keys[1], 250.0, 600.0)
    # The sides of the table are higher than its middle.
    below = y - uniform(keys[2], 1.0, 15.0) + x**2 / (2.0 * radius)
    thickness = uniform(keys[3], 20.0, 60.0)
    shell = uniform(keys[4], 1.5, 4.0)
    softness = 0.35 * spacing
    slab = jnp.maximum(-below, below - thickness)
    core = jnp.maximum(shell - below, below - thickness + shell)
    density = uniform(keys[5], -400.0, 150.0)
    drawn = blend(values, density, inside(slab, softness))
    drawn = blend(drawn, -920.0, inside(core, softness))
    return jnp.where(free, drawn, values)[..., None]


def arms(
    key, image: Float[Array, "*spatial 1"], *, spacing: float
) -> Float[Array, "*spatial 1"]:
    """Lay the arms beside the trunk: cylinders of muscle around bone, in air only.

    An image without them shows a patient with the arms up.

    Args:
        key: random key.
        image: ``[z, y, x, 1]`` HU; x to the side. In an image of another dimension
            there are no arms.
        spacing: isotropic voxel size, mm.

    Returns:
        An image like ``image``, changed only at the side of all tissue.
    """
    if image.ndim != 4:
        return image
    values = image[..., 0]
    *_, depth, width = values.shape
    tissue = (values > TISSUE_THRESHOLD).astype(jnp.float32)
    left_and_right = _reach(tissue, _SIDE)
    front, back = _reach(tissue, _BACK)
    softness = 0.35 * spacing
    result = values
    for number, (end, sign) in enumerate(zip(left_and_right, (-1.0, 1.0), strict=True)):
        keys = jax.random.split(jax.random.fold_in(key, number), 4)
        radius = uniform(keys[0], 30.0, 50.0)
        away = radius + uniform(keys[1], 2.0, 25.0)
        x = along_axis(spacing * sign * (jnp.arange(width) - end) - away, _SIDE, 3)
        height = front + uniform(keys[2], 0.4, 0.8) * (back - front)
        y = along_axis(spacing * (jnp.arange(depth) - height), _BACK, 3)
        distance = jnp.sqrt(x**2 + y**2 + 1e-6)
        arm = blend(result, 50.0, inside(distance - radius, softness))
        arm = blend(arm, -90.0, inside(jnp.abs(distance - radius + 4.0) - 3.0, 1.0))
        bone = uniform(keys[3], 9.0, 13.0)
        arm = blend(arm, 800.0, inside(distance - bone, softness))
        arm = blend(arm, 150.0, inside(distance - bone + 4.0, softness))
        free = _is_free(tissue, _SIDE, forwards=sign > 0)
        result = jnp.where(free, arm, result)
    return result[..., None]
