"""Coarse-to-fine prediction by one network at several voxel sizes."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from regnet_jax.geometry import (
    compose,
    continue_smoothly,
    downsample,
    upsample_field,
    warp,
)
from regnet_jax.hounsfield import AIR, scale_hounsfield
from regnet_jax.registration.inference.boxes import body_region
from regnet_jax.registration.inference.network import Network, program

# Compiled one by one: passes at the same voxel size then share all programs.
_downsample = jax.jit(downsample, static_argnums=1)
_upsample = jax.jit(upsample_field, static_argnums=(1, 2))
_warp, _compose = jax.jit(warp), jax.jit(compose)
continue_on_host = jax.jit(continue_smoothly)

# A displacement of so many voxels is halved: below it, networks tell noise from motion
# badly. Chosen on scans of the training.
_DOUBT = 0.2


# A voxel shows something if interpolation takes at least this fraction of its value
# from voxels that do.
SHOWN = 0.99


@jax.jit
def fill_each_other(fixed, moving):
    """Give each image the other's values where it shows nothing itself.

    A network then finds no motion there, instead of an edge that has none in the other
    image.

    Args:
        fixed: ``[*spatial, 2]``: values, and the fraction of a voxel that is shown.
        moving: of the same shape, warped.

    Returns:
        Both as ``[*spatial, 1]``, and where both show something, bool
        ``[*spatial, 1]``.
    """
    (one, one_shown), (other, other_shown) = (
        (image[..., :1], image[..., 1:] >= SHOWN) for image in (fixed, moving)
    )
    both = one_shown & other_shown
    one = jnp.where(one_shown, one, other)
    return one, jnp.where(other_shown, other, one), both


@jax.jit
def doubted(displacement, doubt):
    """Shrinks what may be noise and keeps what is large.

    Args:
        displacement: ``[*spatial, d]``, voxels.
        doubt: length of a displacement that is halved, voxels.

    Returns:
        ``u |u|^2 / (|u|^2 + doubt^2)``.
    """
    square = jnp.sum(displacement**2, axis=-1, keepdims=True)
    return displacement * square / jnp.maximum(square + doubt**2, 1e-12)


def passes(step, fixed, moving, factors: Sequence[int], *, doubt: float = 0.0):
    """Registers coarse to fine; each pass sees the moving image as warped so far.

    The fields of the passes are composed, not added: what a pass finds was found in
    the warped image. Where one image shows nothing, the field is continued smoothly
    from where both do.

    Args:
        step: ``step(fixed, moving) -> displacement``, of any voxel size.
        fixed: ``[*spatial, 1]``; or ``[*spatial, 2]`` with the fraction of each voxel
            that shows something.
        moving: of the same shape.
        factors: voxel sizes of the passes, in voxels of the images; each a multiple
            of the next.
        doubt: see ``doubted``, in voxels of each pass.

    Returns:
        ``[*spatial, d]``, voxels.
    """
    dimensions = fixed.ndim - 1
    images = {f: (_downsample(fixed, f), _downsample(moving, f)) for f in set(factors)}
    field = jnp.zeros((*images[factors[0]][0].shape[:-1], dimensions))
    last = None
    for factor in factors:
        one, other = images[factor]
        if last not in (None, factor):
            field = _upsample(field, last // factor, one.shape[:-1])
        one, other, shown = _seen(one, _warp(other, field))
        field = _compose(doubted(step(one, other), doubt), field)
        field = field if shown is None else continue_on_host(field, shown)
        last = factor
    return field if last == 1 else _upsample(field, last, fixed.shape[:-1])


def _seen(fixed, moving):
    """What a network gets of both images, and where both show something."""
    if fixed.shape[-1] == 1:
        return fixed, moving, None
    return fill_each_other(fixed, moving)


@functools.partial(program, static_argnames=("model",))
def _answer(variables, fixed, moving, *, model):
    return model.apply(variables, fixed[None], moving[None], train=False)[0]


def pass_factors(network: Network) -> tuple[int, ...]:
    """The voxel sizes of the passes of a network, in its finest, coarse to fine.

    A network that has been trained on what it left itself looks once more at the
    finest, which finds a tenth of what was left where much was, and costs little.
    """
    scales = sorted(network.config.data.scales, reverse=True)
    factors = tuple(round(scale / scales[-1]) for scale in scales)
    return (*factors, 1) if network.config.residual_probability else factors


def doubt_of(network: Network) -> float:
    """The ``doubt`` of ``passes`` for a network, voxels.

    Zero for networks that were not trained on what they left themselves: they look at
    each voxel size once, and what was shrunk then no later pass would find.
    """
    return _DOUBT if network.config.residual_probability else 0.0


def with_shown(image, shown):
    """``[*spatial, 1]`` or, with where it shows something, ``[*spatial, 2]``."""
    channels = [image] if shown is None else [image, shown]
    return jnp.stack([jnp.asarray(c, jnp.float32) for c in channels], axis=-1)


def predict_in_passes(network: Network, fixed, moving, shown=(None, None)):
    """Predicts the displacement field with a network that answers at every voxel.

    Args:
        network: from ``load_network``; trained at one or several voxel sizes.
        fixed: ``[*spatial]``, HU, at the finest voxel size of the network.
        moving: ``[*spatial]``, on the same grid.
        shown: bool ``[*spatial]`` of both images, where they show something; None
            for both if that is everywhere.

    Returns:
        ``[*spatial, d]`` float32, voxels, fixed to moving.
    """
    region = body_region(fixed)
    images = (
        with_shown(
            scale_hounsfield(region.cut(image, AIR)),
            None if where is None else region.cut(where, 0.0),
        )
        for image, where in zip((fixed, moving), shown, strict=True)
    )
    step = functools.partial(_answer, network.variables, model=network.model)
    field = passes(step, *images, pass_factors(network), doubt=doubt_of(network))
    return region.restore(field)
