"""The network's estimate of the error of a registration."""

import functools
import math

import jax.numpy as jnp
import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.evaluation import ErrorEstimate
from regnet_jax.hounsfield import body_mask
from regnet_jax.models.corrnet import LOG_WIDTHS
from regnet_jax.registration.inference.network import Network, jit_large
from regnet_jax.registration.inference.passes import fill_each_other, warp_whole
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


def check_confidence(network: Network, name: str) -> None:
    """Raise InputError if a network does not estimate its errors.

    Args:
        network: that registers.
        name: of the network in the message.
    """
    if not getattr(network.stages[-1].model, "estimates_errors", False):
        raise InputError(
            f"confidence: {name} does not estimate its errors; leave it out, or choose"
            " another model"
        )


def estimate_errors(
    network: Network,
    fixed,
    moving,
    field,
    frame: Frame,
    *,
    shown=(None, None),
    memory: float | None = None,
) -> ErrorEstimate:
    """Estimate the error of a displacement field, whichever way it was found.

    The network looks once more at both images, the moving one as warped by the field,
    and its estimate for what it sees is taken. So it costs a pass of the network.

    Args:
        network: one that estimates errors, see ``check_confidence``.
        fixed: ``[*spatial]``, HU, at the finest voxel size of the network.
        moving: ``[*spatial]``, on the same grid.
        field: ``[*spatial, d]``, voxels, fixed to moving.
        frame: the grid, isotropic.
        shown: as for ``prediction.predict``.
        memory: as for ``prediction.predict``.

    Returns:
        The estimate.
    """
    stage = network.stages[-1]
    box = choose_box(network, fixed)
    images = crop_and_scale(box, (fixed, moving), shown)
    warped = warp_whole(images[1], box.crop(field, 0.0))
    both, pair = None, (images[0], warped)
    if images[0].shape[-1] == 2:
        *pair, both = fill_each_other(*pair)
        both = box.restore(np.asarray(both, np.float32))[..., 0] > 0.5
    room = math.inf
    if memory is not None:
        room = memory_of_a_tile(memory, held=bytes_held(network, fixed, pair[0].shape))
    fixed_image, moving_image = map(np.asarray, pair)
    plan = plan_tiles(
        stage.model.support,
        fixed_image.shape[:-1],
        bytes_per_voxel=bytes_per_voxel(stage.model),
        memory=room,
    )
    found = np.empty((*fixed_image.shape[:-1], 2), np.float32)
    for tile in plan.tiles:
        starts = [axis.start for axis in tile]
        patches = (
            crop_patch(image, starts, plan.patch)
            for image in (fixed_image, moving_image)
        )
        errors = _estimate_patch(stage.variables, *patches, model=stage.model)
        store_tile(found, np.asarray(errors), tile)
    mean, width = np.moveaxis(box.restore(found), -1, 0)
    width = np.exp(np.clip(width, *LOG_WIDTHS)) * network.config.error_width
    size = min(frame.spacing)
    known = body_mask(fixed)
    known = known if both is None else known & both
    return ErrorEstimate(mean + np.log(size), width, known, frame)


@functools.partial(jit_large, static_argnames=("model",))
def _estimate_patch(variables, fixed, moving, *, model):
    images = (jnp.asarray(image)[None] for image in (fixed, moving))
    _, said = model.apply(variables, *images, train=False, mutable=["errors"])
    return said["errors"]["logarithm"][0][0]
