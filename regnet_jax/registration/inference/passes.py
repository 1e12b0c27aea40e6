"""The coarse-to-fine loop of a prediction, and a pass over whole images.

Each pass predicts on the moving image as warped by the earlier passes, so its field is
composed with theirs, not added. The loop takes the pass as an argument, so that whole
images (here) and tiles (``tiles``) share it.
"""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import DTypeLike

from regnet_jax.geometry import (
    ceil_div,
    compose,
    continue_smoothly,
    downsample,
    gaussian_smooth,
    upsample_field,
    warp,
)
from regnet_jax.registration.inference.network import Network, estimates_errors
from regnet_jax.registration.inference.programs import KeptProgram

# A resampled voxel counts as shown if at least this fraction of its value comes from
# voxels that are.
_SHOWN = 0.99
# Standard deviation of the surroundings that a prediction is pooled with, voxels, and
# the weight that the prediction of the voxel itself keeps.
_SURROUNDINGS, _OWN = 2.0, 0.25
# The finest passes halve a displacement of this multiple of the shrinkage times its
# error.
_DOUBT = 3.0
# Largest difference of the logarithms of errors that counts.
_LARGEST_EXCESS = 15.0


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


@functools.partial(jax.jit, static_argnames="power")
def shrink_small_displacements(displacement, half, *, power: int = 2):
    """Shrink displacements that may be noise, and keep large ones.

    Args:
        displacement: ``[*spatial, d]``, voxels.
        half: length of a displacement that is halved, voxels, a number or
            ``[*spatial, 1]``; 0 keeps all.
        power: even; the larger, the more abrupt.

    Returns:
        ``u |u|^power / (|u|^power + half^power)``.
    """
    square = jnp.sum(displacement**2, axis=-1, keepdims=True)
    raised, halved = square ** (power // 2), half**power
    return displacement * raised / jnp.maximum(raised + halved, 1e-30)


def mirror(image):
    """Reverse the last spatial axis of an image, ``[*spatial, channels]``."""
    return image[..., ::-1, :]


def join_orders(displacement, errors, back, errors_back) -> tuple[Any, Any]:
    """Return the mean of a prediction and of one from exchanged and mirrored images.

    Exchanged images move the opposite way and mirrored ones the mirrored way, but the
    errors of a network hardly follow, so that some of them cancel. The prediction of
    the smaller error has the larger weight.

    Args:
        displacement: ``[*spatial, d]``, voxels, fixed to moving.
        errors: as for ``settle``.
        back: ``[*spatial, d]``, voxels, of the mirrored images, moving to fixed. It is
            taken at the same voxels, so what is left to register must be small.
        errors_back: ``errors`` of it.

    Returns:
        ``[*spatial, d]``, voxels, and the mean of the errors, or None without errors.
    """
    signs = jnp.ones(back.shape[-1]).at[-1].set(-1.0)
    back = -mirror(back) * signs.reshape((1,) * (back.ndim - 1) + (-1,))
    if errors is None:
        return 0.5 * (displacement + back), None
    errors_back = mirror(errors_back)
    # Inverse variances, relative to each other.
    share = jax.nn.sigmoid(2.0 * (errors_back[..., :1] - errors[..., :1]))
    return share * displacement + (1.0 - share) * back, 0.5 * (errors + errors_back)


def settle(displacement, errors, shrinkage, *, pooled: bool):
    """Decide how much of a prediction to believe.

    Without estimated errors, small displacements are shrunk. With them, a coarse pass
    takes the mean over the surroundings of each voxel, weighted by the precision of the
    predictions, so that they reach from structures into uniform tissue; and the finest
    passes, whose details that would blur, shrink displacements below their errors.

    Args:
        displacement: ``[*spatial, d]``, voxels.
        errors: ``[*spatial, 2]``, of which the first is the mean of the logarithm of
            the error in voxels; None if the network estimates none.
        shrinkage: length of a displacement that is halved without errors, voxels; 0
            shrinks nothing.
        pooled: whether the pass is a coarse one.

    Returns:
        ``[*spatial, d]``, voxels.
    """
    if errors is None:
        return shrink_small_displacements(displacement, shrinkage)
    log_error = errors[..., :1]
    if not pooled:
        half = shrinkage * jnp.sqrt(1.0 + (_DOUBT * jnp.exp(log_error)) ** 2)
        return shrink_small_displacements(displacement, half, power=4)
    # Relative to the least error, and bounded, so that no sum of weights is zero.
    excess = log_error - jnp.min(log_error)
    precision = jnp.exp(-2.0 * jnp.minimum(excess, _LARGEST_EXCESS))
    sums = gaussian_smooth(
        jnp.concatenate([precision * displacement, precision], axis=-1),
        jnp.full(displacement.ndim - 1, _SURROUNDINGS),
    )
    mean = sums[..., :-1] / sums[..., -1:]
    mixed = _OWN * displacement + (1.0 - _OWN) * mean
    return shrink_small_displacements(mixed, shrinkage)


# Programs of their own: passes at the same voxel size share them, and XLA would compute
# a warp again for each of the results that depend on it.
_downsample = KeptProgram(downsample, static_argnames=("factor",))
_upsample = KeptProgram(upsample_field, static_argnames=("factor", "shape"))
warp_whole = KeptProgram(warp)
compose_whole = KeptProgram(compose)
fill_whole = KeptProgram(fill_each_other)
continue_whole = KeptProgram(continue_smoothly)
settle_whole = KeptProgram(settle, static_argnames=("pooled",))
_join_whole = KeptProgram(join_orders)
_mirror_whole = KeptProgram(mirror)


def in_both_orders(predict: Callable) -> Callable:
    """Return a prediction that is made with the images in both orders.

    Args:
        predict: as for ``whole_pass``.

    Returns:
        The same, at twice the cost: the mean of both, see ``join_orders``.
    """

    def predict_both(fixed, moving):
        back = predict(_mirror_whole(moving), _mirror_whole(fixed))
        return _join_whole(*predict(fixed, moving), *back)

    return predict_both


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
    field, last = None, 0
    for run_pass, factor in zip(passes, factors, strict=True):
        if factor != last:
            images = [_at_factor(image, factor) for image in (fixed, moving)]
        field = run_pass(*images, field, (last or factor) // factor)
        last = factor
    return bring_to(field, last, fixed.shape[:-1])


def _at_factor(image, factor: int):
    return _downsample(image, factor=factor) if factor > 1 else image


def bring_to(field, ratio: int, shape: Sequence[int]):
    """Return the field of the earlier passes at the voxels of a pass.

    Args:
        field: ``[*coarse, d]``, voxels; None for none.
        ratio: of the voxel sizes.
        shape: spatial shape of the pass.

    Returns:
        ``[*shape, d]``, voxels.
    """
    if field is None:
        return np.zeros((*shape, len(shape)), np.float32)
    return _upsample(field, factor=ratio, shape=tuple(shape)) if ratio > 1 else field


def whole_pass(
    predict: Callable, shrinkage: float = 0.0, *, pooled: bool = False
) -> Callable:
    """Build a pass over whole images, for ``run_passes``.

    Where an image shows nothing, the field is continued smoothly from the voxels that
    both images show.

    Args:
        predict: ``predict(fixed, moving) -> (displacement, errors)`` of images
            ``[*spatial, 1]``, as ``Network.predict_patch``.
        shrinkage: see ``settle``.
        pooled: the same.

    Returns:
        ``run_pass``.
    """
    half = np.float32(shrinkage)

    def run_pass(fixed, moving, field, ratio):
        field = bring_to(field, ratio, fixed.shape[:-1])
        images, shown = (fixed, warp_whole(moving, field)), None
        if fixed.shape[-1] == 2:
            *images, shown = fill_whole(*images)
        found = settle_whole(*predict(*images), half, pooled=pooled)
        field = compose_whole(found, field)
        return field if shown is None else continue_whole(field, shown)

    return run_pass


def prepare_passes(network: Network, pool: Executor, shape: Sequence[int]) -> None:
    """Begin to compile the programs of ``run_passes`` over whole images.

    Args:
        network: that predicts, at every voxel.
        pool: of threads.
        shape: spatial shape of the images, which have two channels.
    """
    d, half, factors = len(shape), np.float32(0.0), network.config.factors

    def grid(factor: int, channels: int, dtype: DTypeLike = np.float32):
        coarse = (ceil_div(n, factor) for n in shape)
        return jax.ShapeDtypeStruct((*coarse, channels), dtype)

    passes = list(zip(network.stages, factors, strict=True))
    # The largest networks take longest.
    for stage, factor in sorted(passes, key=lambda each: each[1]):
        stage.prepare_patch(pool, grid(factor, 1).shape[:-1])
    for (stage, factor), fine in zip(passes, (*factors[1:], 1), strict=True):
        image, field = grid(factor, 2), grid(factor, d)
        errors = image if estimates_errors(stage.model) else None
        if factor > 1:
            _downsample.prepare(pool, grid(1, 2), factor=factor)
        warp_whole.prepare(pool, image, field)
        fill_whole.prepare(pool, image, image)
        if network.takes_both_orders(factor):
            _mirror_whole.prepare(pool, grid(factor, 1))
            _join_whole.prepare(pool, field, errors, field, errors)
        settle_whole.prepare(pool, field, errors, half, pooled=factor > 1)
        compose_whole.prepare(pool, field, field)
        continue_whole.prepare(pool, field, grid(factor, 1, bool))
        if factor > fine:
            finer = grid(fine, 1).shape[:-1]
            _upsample.prepare(pool, field, factor=factor // fine, shape=finer)
