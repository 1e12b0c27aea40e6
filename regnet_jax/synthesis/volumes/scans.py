"""Crops of real scans as new patients: random place, size, rotation and side."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from regnet_jax.geometry import identity_grid, sample
from regnet_jax.hounsfield import AIR

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float, Int, Num

# Largest factor by which each axis is scaled, and largest rotation about each axis,
# radians.
_SCALE = 1.2
_TURN = 0.15


class ScanBank(NamedTuple):
    """Volumes of one voxel size, stacked.

    Attributes:
        images: ``[n, *largest, 1]``, HU; each volume begins at the first voxel.
        sizes: ``[n, d]`` int32, voxels of each volume.
    """

    images: Num[Array, "n *largest 1"]
    sizes: Int[Array, "n d"]


def _map(key, dimensions: int):
    """Sample a rotation with scaling, mirrored with a probability of one half."""
    turn_key, scale_key, side_key = jax.random.split(key, 3)
    angles = jax.random.uniform(
        turn_key, (dimensions, dimensions), minval=-_TURN, maxval=_TURN
    )
    # To first order, which is close enough to a rotation for small angles.
    turn = jnp.eye(dimensions) + 0.5 * (angles - angles.T)
    scale = jnp.exp(
        jnp.log(_SCALE)
        * jax.random.uniform(scale_key, (dimensions,), minval=-1.0, maxval=1.0)
    )
    side = jnp.where(jax.random.bernoulli(side_key), 1.0, -1.0)
    return turn * scale.at[-1].multiply(side)[None, :]


def crop(
    key, scans: ScanBank, shape: Sequence[int], *, continued: bool = False
) -> Float[Array, "*spatial 1"]:
    """Sample a crop of a random scan, slightly rotated and scaled.

    Args:
        key: random key.
        scans: to choose from.
        shape: spatial shape of the crop. A 2D crop of 3D scans is a slice across one of
            their axes, which is sampled too.
        continued: whether a scan goes on beyond its border with the values there, as
            the field of view of MR ends within the body; otherwise there is air.

    Returns:
        ``[*shape, 1]``, HU.
    """
    dimensions = scans.sizes.shape[-1]
    # Arrays of the host cannot be indexed by traced numbers.
    scans = jax.tree.map(jnp.asarray, scans)
    if len(shape) == dimensions:
        return _crop_box(key, scans, shape, continued)

    axis_key, box_key = jax.random.split(key)

    def crop_slice(axis: int):
        box = [*shape[:axis], 1, *shape[axis:]]
        return jnp.squeeze(_crop_box(box_key, scans, box, continued), axis)

    axis = jax.random.randint(axis_key, (), 0, dimensions)
    branches = [functools.partial(crop_slice, a) for a in range(dimensions)]
    return jax.lax.switch(axis, branches)


def _crop_box(
    key, scans: ScanBank, shape: Sequence[int], continued: bool
) -> Float[Array, "*spatial 1"]:
    which_key, where_key, map_key = jax.random.split(key, 3)
    dimensions = len(shape)
    which = jax.random.randint(which_key, (), 0, scans.images.shape[0])
    size = scans.sizes[which].astype(jnp.float32)
    half = 0.5 * (jnp.asarray(shape, jnp.float32) - 1.0)
    middle = 0.5 * (size - 1.0)
    # Not at the ends, where there is more air than patient.
    room = 0.8 * jnp.maximum(middle - 0.5 * half, 0.0)
    place = jax.random.uniform(where_key, (dimensions,), minval=-1.0, maxval=1.0)
    centre = middle + room * place
    lead = (1,) * dimensions + (-1,)
    points = identity_grid(shape) - half.reshape(lead)
    points = points @ _map(map_key, dimensions).T + centre.reshape(lead)
    last = size.reshape(lead) - 1.0
    # Padding behind a smaller scan must not be blended in.
    image = scans.images[which].astype(jnp.float32)
    values = sample(image, jnp.clip(points, 0.0, last))
    if continued:
        return values
    inside = jnp.all((points >= -0.5) & (points <= last + 0.5), -1, keepdims=True)
    return jnp.where(inside, values, AIR)
