"""Coarse-to-fine prediction by one network at several voxel sizes."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from regnet_jax.geometry import compose, downsample, upsample_field, warp
from regnet_jax.models.preprocessing import scale_hounsfield
from regnet_jax.registration.network import Network
from regnet_jax.registration.region import body_region
from regnet_jax.synthesis.chest import AIR


def passes(step, fixed, moving, factors: Sequence[int]):
    """Registers coarse to fine; each pass sees the moving image as warped so far.

    The fields of the passes are composed, not added: what a pass finds was found in
    the warped image.

    Args:
        step: ``step(fixed, moving) -> displacement``, of any voxel size.
        fixed: ``[*spatial, 1]``.
        moving: of the same shape.
        factors: voxel sizes of the passes, in voxels of the images; each a multiple
            of the next.

    Returns:
        ``[*spatial, d]``, voxels.
    """
    dimensions = fixed.ndim - 1
    images = [(downsample(fixed, f), downsample(moving, f)) for f in factors]
    field = jnp.zeros((*images[0][0].shape[:-1], dimensions))
    last = factors[0]
    for factor, (one, other) in zip(factors, images, strict=True):
        if factor != last:
            field = upsample_field(field, last // factor, one.shape[:-1])
        field = compose(step(one, warp(other, field)), field)
        last = factor
    return field if last == 1 else upsample_field(field, last, fixed.shape[:-1])


@functools.partial(jax.jit, static_argnames=("model", "factors"))
def _predict(variables, fixed, moving, *, model, factors):
    def step(fixed, moving):
        return model.apply(variables, fixed[None], moving[None], train=False)[0]

    fixed, moving = (scale_hounsfield(i[..., None]) for i in (fixed, moving))
    return passes(step, fixed, moving, factors)


def pass_factors(network: Network) -> tuple[int, ...]:
    """The voxel sizes of the passes of a network, in its finest, coarse to fine."""
    scales = sorted(network.config.data.scales, reverse=True)
    return tuple(round(scale / scales[-1]) for scale in scales)


def predict_in_passes(network: Network, fixed, moving):
    """Predicts the displacement field with a network that answers at every voxel.

    Args:
        network: from ``load_network``; trained at one or several voxel sizes.
        fixed: ``[*spatial]``, HU, at the finest voxel size of the network.
        moving: ``[*spatial]``, on the same grid.

    Returns:
        ``[*spatial, d]`` float32, voxels, fixed to moving.
    """
    factors = pass_factors(network)
    region = body_region(fixed)
    images = (region.cut(image, AIR) for image in (fixed, moving))
    field = _predict(network.variables, *images, model=network.model, factors=factors)
    return region.restore(field)
