"""The coarse-to-fine loop of a prediction, and a pass over whole images.

Each pass predicts on the moving image as warped by the earlier passes, so its field is
composed with theirs, not added. The loop takes the pass as an argument, so that whole
images (here) and tiles (``tiles``) share it.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from regnet_jax.geometry import (
    compose,
    continue_smoothly,
    downsample,
    upsample_field,
    warp,
)

# Compiled separately, so that passes at the same voxel size share all programs.
_downsample = jax.jit(downsample, static_argnums=1)
_upsample = jax.jit(upsample_field, static_argnums=(1, 2))
warp_whole, _compose = jax.jit(warp), jax.jit(compose)
continue_field = jax.jit(continue_smoothly)

# A resampled voxel counts as shown if at least this fraction of its value comes from
# voxels that are.
_SHOWN = 0.99


@jax.jit
def fill_each_other(fixed, moving):
    """Fill each image with the other's values where it shows nothing itself.

    A network then predicts no motion there, where it would otherwise try to match an
    edge that the other image lacks.

    Args:
        fixed: ``[*spatial, 2]``: values, and the shown fraction of each voxel.
        moving: of the same shape, warped.

    Returns:
        Both images ``[*spatial, 1]``, and the mask of voxels that both show, bool
        ``[*spatial, 1]``.
    """
    (one, one_shown), (other, other_shown) = (
        (image[..., :1], image[..., 1:] >= _SHOWN) for image in (fixed, moving)
    )
    both = one_shown & other_shown
    one = jnp.where(one_shown, one, other)
    return one, jnp.where(other_shown, other, one), both


@jax.jit
def shrink_small_displacements(displacement, half):
    """Shrink displacements that may be noise, and keep large ones.

    Args:
        displacement: ``[*spatial, d]``, voxels.
        half: length of a displacement that is halved, voxels; 0 keeps all.

    Returns:
        ``u |u|^2 / (|u|^2 + half^2)``.
    """
    square = jnp.sum(displacement**2, axis=-1, keepdims=True)
    return displacement * square / jnp.maximum(square + half**2, 1e-12)


def run_passes(passes: Sequence[Callable], fixed, moving, *, factors: Sequence[int]):
    """Register coarse to fine.

    Args:
        passes: one for each factor, ``run_pass(fixed, moving, field, ratio) -> field``:
            both images at the voxel size of the pass; the field of the earlier passes,
            ``[*coarse, d]`` in voxels that are ``ratio`` times as wide, or None in the
            first pass. The result includes that field.
        fixed: ``[*spatial, 1]``; or ``[*spatial, 2]`` with the shown fraction of each
            voxel.
        moving: of the same shape.
        factors: voxel sizes of the passes, in voxels of the images; each a multiple
            of the next.

    Returns:
        ``[*spatial, d]``, voxels, fixed to moving.
    """
    field = last = None
    for run_pass, factor in zip(passes, factors, strict=True):
        if factor != last:
            images = [_downsample(image, factor) for image in (fixed, moving)]
        field = run_pass(*images, field, (last or factor) // factor)
        last = factor
    return field if last == 1 else _upsample(field, last, fixed.shape[:-1])


def whole_pass(predict: Callable, shrinkage: float = 0.0) -> Callable:
    """Build a pass over whole images, for ``run_passes``.

    Where an image shows nothing, the field is continued smoothly from the voxels that
    both images show.

    Args:
        predict: ``predict(fixed, moving) -> displacement`` of images ``[*spatial, 1]``.
        shrinkage: see ``shrink_small_displacements``, in voxels of each pass.

    Returns:
        ``run_pass``.
    """

    def run_pass(fixed, moving, field, ratio):
        shape = fixed.shape[:-1]
        if field is None:
            field = jnp.zeros((*shape, len(shape)))
        elif ratio > 1:
            field = _upsample(field, ratio, shape)
        images, shown = (fixed, warp_whole(moving, field)), None
        if fixed.shape[-1] == 2:
            *images, shown = fill_each_other(*images)
        found = shrink_small_displacements(predict(*images), shrinkage)
        field = _compose(found, field)
        return field if shown is None else continue_field(field, shown)

    return run_pass
