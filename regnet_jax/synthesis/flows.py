"""Diffeomorphic displacement fields: the flow of a smooth stationary velocity."""

from collections.abc import Sequence

from regnet_jax.geometry import exponentiate
from regnet_jax.synthesis.deformation import Deformation, everywhere
from regnet_jax.synthesis.splines import SplineFamily, single_frequency


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
    velocity = single_frequency(key, shape, family, spacing=spacing).displacement
    return everywhere(exponentiate(velocity))
