"""The simplest displacement fields: none, a shift, an affine map.

The first two are in Sokooti et al., arXiv 1908.10235, 2019.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from regnet_jax.geometry import identity_grid
from regnet_jax.synthesis.fields.deformation import Deformation, everywhere, rescale


class LinearFamily(NamedTuple):
    """What sets one family apart.

    Attributes:
        amplitude: largest component of any displacement, mm.
    """

    amplitude: float


def zero(key, shape: Sequence[int], family: tuple, *, spacing: float) -> Deformation:
    """The field that moves nothing: what lies right must be left so.

    Args:
        key: not used, as there is nothing to draw.
        shape: spatial shape.
        family: empty.
        spacing: isotropic voxel size, mm.

    Returns:
        A ``Deformation``.
    """
    del key, family, spacing
    return everywhere(jnp.zeros((*shape, len(shape))))


def translation(
    key, shape: Sequence[int], family: LinearFamily, *, spacing: float
) -> Deformation:
    """Draws a shift, each component uniform in +-amplitude.

    Args:
        key: random key.
        shape: spatial shape.
        family: its entries may be traced.
        spacing: isotropic voxel size, mm.

    Returns:
        A ``Deformation``.
    """
    dimensions = len(shape)
    shift = jax.random.uniform(key, (dimensions,), minval=-1.0, maxval=1.0)
    shift *= family.amplitude / spacing
    return everywhere(jnp.broadcast_to(shift, (*shape, dimensions)))


def affine(
    key, shape: Sequence[int], family: LinearFamily, *, spacing: float
) -> Deformation:
    """Draws an affine map about the middle of the volume.

    The matrix has normal entries, which rotate, scale and shear alike; the field is
    then scaled to a largest component that is uniform up to the amplitude.

    Args:
        key: random key.
        shape: spatial shape.
        family: its entries may be traced.
        spacing: isotropic voxel size, mm.

    Returns:
        A ``Deformation``.
    """
    matrix_key, size_key = jax.random.split(key)
    dimensions = len(shape)
    middle = jnp.asarray([(n - 1) / 2 for n in shape])
    points = identity_grid(shape) - middle.reshape((1,) * dimensions + (-1,))
    matrix = jax.random.normal(matrix_key, (dimensions, dimensions))
    largest = family.amplitude / spacing * jax.random.uniform(size_key)
    return everywhere(rescale(points @ matrix, largest))
