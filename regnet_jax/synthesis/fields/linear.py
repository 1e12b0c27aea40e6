"""The simplest displacement fields: zero, a shift, an affine map.

The first two are in Sokooti et al., arXiv 1908.10235, 2019.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from regnet_jax.geometry import identity_grid
from regnet_jax.synthesis.fields.deformation import Deformation, everywhere, rescale


class LinearFamily(NamedTuple):
    """The parameters of a family.

    Attributes:
        amplitude: largest component of any displacement, mm.
    """

    amplitude: float


def zero(key, shape: Sequence[int], family: tuple, *, spacing: float) -> Deformation:
    """Return the field that moves nothing: aligned images must be left as they are.

    Args:
        key: taken as by all families, and without effect, like the others below.
        shape: spatial shape.
        family: empty.
        spacing: isotropic voxel size, mm.

    Returns:
        A ``Deformation``.
    """
    return everywhere(jnp.zeros((*shape, len(shape))))


def translation(
    key, shape: Sequence[int], family: LinearFamily, *, spacing: float
) -> Deformation:
    """Sample a shift, with each component uniform in +-amplitude.

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
    """Sample an affine map about the middle of the volume.

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
