"""The network's estimate of the error of a displacement field."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.evaluation import ErrorEstimate
from regnet_jax.hounsfield import body_mask
from regnet_jax.models.corrnet import LOG_WIDTHS
from regnet_jax.registration.inference.network import Network, estimates_errors
from regnet_jax.registration.inference.passes import (
    fill_whole,
    shrink_small_displacements,
    warp_whole,
)
from regnet_jax.registration.inference.prediction import (
    bytes_held,
    choose_box,
    crop_and_scale,
)
from regnet_jax.registration.inference.tile_plan import (
    bytes_per_voxel,
    memory_of_a_tile,
    plan_tiles,
)
from regnet_jax.registration.inference.tiles import crop_patch, store_tile
from regnet_jax.spatial import Frame


def can_estimate(network: Network, slice_axis: str | None = None) -> bool:
    """Return whether ``estimate_errors`` can be called.

    Args:
        network: that registers.
        slice_axis: as for ``prediction.predict``; there is no estimate for slices.
    """
    return estimates_errors(network.stages[-1].model) and not slice_axis


def check_confidence(
    network: Network, name: str, slice_axis: str | None = None
) -> None:
    """Raise InputError if there is no estimate.

    Args:
        network: that registers.
        name: of the network in the message.
        slice_axis: as for ``prediction.predict``.

    Raises:
        InputError: if the network does not estimate its errors, or goes by slices.
    """
    if not can_estimate(network, slice_axis):
        reason = "by slices" if slice_axis else "its errors"
        raise InputError(
            f"confidence: {name} does not estimate {reason}; leave it out, or choose"
            " another model"
        )


def estimate_errors(
    network: Network,
    fixed,
    moving,
    field,
    frame: Frame,
    *,
    affine=None,
    shown=(None, None),
    memory: float | None = None,
) -> ErrorEstimate:
    """Estimate the error of a displacement field, whichever way it was found.

    The network looks at both images, the moving one as warped by the field. What it
    would still move, and the error that it expects to leave then, are added in squares.
    So the estimate costs a pass of the network.

    Args:
        network: for which ``can_estimate`` is true.
        fixed: ``[*spatial]``, HU, at the finest voxel size of the network.
        moving: ``[*spatial]``, on the same grid.
        field: ``[*spatial, d]``, voxels, fixed to moving.
        frame: the grid, isotropic.
        affine: homogeneous ``[d + 1, d + 1]``, applied after the field: it maps points
            of the grid to the moving image, where errors are measured. None is the
            identity.
        shown: as for ``prediction.predict``.
        memory: the same.

    Returns:
        The estimate on the grid.

    Raises:
        InputError: if not even the smallest tiles fit into the memory.
    """
    stage = network.stages[-1]
    box = choose_box(network, fixed)
    images = crop_and_scale(box, (fixed, moving), shown)
    pair = [images[0], warp_whole(images[1], box.crop(field, 0.0))]
    known = body_mask(fixed) & _stays_inside(field)
    if pair[0].shape[-1] == 2:
        *pair, both = fill_whole(*pair)
        known &= box.restore(np.asarray(both, np.float32))[..., 0] > 0.5
    room = math.inf
    if memory is not None:
        held = bytes_held(network, fixed, images[0].shape)
        room = memory_of_a_tile(memory, held=held)
    shape = images[0].shape[:-1]
    size = bytes_per_voxel(stage.model)
    plan = plan_tiles(stage.model.support, shape, bytes_per_voxel=size, memory=room)
    found = np.empty((*shape, 2), np.float32)
    pair = [np.asarray(image) for image in pair]
    for tile in plan.tiles:
        starts = [axis.start for axis in tile]
        patches = (crop_patch(image, starts, plan.patch) for image in pair)
        change, errors = stage.predict_patch(*patches)
        total = _add_change(errors, change, network.config.shrinkage)
        store_tile(found, np.asarray(total), tile)
    log_mean, log_sd = np.moveaxis(box.restore(found), -1, 0)
    log_sd = np.exp(np.clip(log_sd, *LOG_WIDTHS)) * stage.config.error_width
    # The factor by which lengths change, as root mean square over all directions.
    linear = np.eye(frame.ndim) if affine is None else np.asarray(affine)[:-1, :-1]
    scale = np.linalg.norm(linear) / math.sqrt(frame.ndim)
    log_mean = log_mean + np.log(scale * min(frame.spacing))
    return ErrorEstimate(log_mean, log_sd, known, frame)


def _stays_inside(field) -> np.ndarray:
    """Return where a field, ``[*spatial, d]`` in voxels, leads into the same grid."""
    inside = np.ones(field.shape[:-1], bool)
    for axis, n in enumerate(inside.shape):
        along = np.moveaxis(field[..., axis], axis, -1) + np.arange(n)
        inside &= np.moveaxis((along >= -0.5) & (along <= n - 0.5), -1, axis)
    return inside


@jax.jit
def _add_change(errors, change, shrinkage):
    """Add the length of a change, without its noise, to the errors left after it."""
    change = shrink_small_displacements(change, shrinkage)
    square = jnp.sum(change**2, axis=-1, keepdims=True)
    mean, width = jnp.split(errors, 2, axis=-1)
    mean = 0.5 * jnp.log(jnp.exp(2.0 * mean) + square)
    return jnp.concatenate([mean, width], axis=-1)
