"""The coarse-to-fine loop of a prediction, and a pass over whole images.

Each pass takes the moving image as warped by the passes before, and its field is
composed with theirs, not added: its displacements were found in the warped image. How a
pass is made is an argument, so that whole images (here) and tiles (``tiles``) share the
loop.
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

# Compiled one by one: passes at the same voxel size then share all programs.
_downsample = jax.jit(downsample, static_argnums=1)
_upsample = jax.jit(upsample_field, static_argnums=(1, 2))
_warp, _compose = jax.jit(warp), jax.jit(compose)
continue_field = jax.jit(continue_smoothly)

# A voxel shows something if interpolation takes at least this fraction of its value
# from voxels that do.
_SHOWN = 0.99


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


def run_passes(run_pass: Callable, fixed, moving, factors: Sequence[int]):
    """Register coarse to fine.

    Args:
        run_pass: ``run_pass(fixed, moving, field, ratio) -> field``: both images at the
            voxel size of the pass; the field of the passes before, ``[*coarse, d]`` in
            voxels that are ``ratio`` times as wide, or None in the first pass. What it
            returns includes that field.
        fixed: ``[*spatial, 1]``; or ``[*spatial, 2]`` with the fraction of each voxel
            that shows something.
        moving: of the same shape.
        factors: voxel sizes of the passes, in voxels of the images; each a multiple
            of the next.

    Returns:
        ``[*spatial, d]``, voxels, fixed to moving.
    """
    field = last = None
    for factor in factors:
        if factor != last:
            images = [_downsample(image, factor) for image in (fixed, moving)]
        field = run_pass(*images, field, (last or factor) // factor)
        last = factor
    return field if last == 1 else _upsample(field, last, fixed.shape[:-1])


def whole_pass(predict: Callable, shrinkage: float = 0.0) -> Callable:
    """Build a pass over whole images, for ``run_passes``.

    Where one image shows nothing, the field is continued smoothly from where both do.

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
        images, shown = (fixed, _warp(moving, field)), None
        if fixed.shape[-1] == 2:
            *images, shown = fill_each_other(*images)
        found = shrink_small_displacements(predict(*images), shrinkage)
        field = _compose(found, field)
        return field if shown is None else continue_field(field, shown)

    return run_pass
