"""The displacement field of two images of any size, by any network."""

import functools
import math
from collections.abc import Callable
from concurrent.futures import Executor

import jax.numpy as jnp
import numpy as np

from regnet_jax.geometry.slices import SLICE_AXES
from regnet_jax.hounsfield import AIR, scale_hounsfield
from regnet_jax.registration.inference.boxes import CropBox, body_box, cover_box
from regnet_jax.registration.inference.network import Network
from regnet_jax.registration.inference.passes import (
    in_both_orders,
    prepare_passes,
    run_passes,
    whole_pass,
)
from regnet_jax.registration.inference.slices import compute_by_slices
from regnet_jax.registration.inference.tile_plan import memory_of_a_tile
from regnet_jax.registration.inference.tiles import predict_lattice, tiled_pass


def predict(
    network: Network,
    fixed,
    moving,
    *,
    shown=(None, None),
    slice_axis: str | None = None,
    memory: float | None = None,
    progress: bool = False,
):
    """Predict the displacement field of two images.

    Args:
        network: from ``load_network``.
        fixed: ``[*spatial]``, HU, at the finest voxel size of the network.
        moving: ``[*spatial]``, on the same grid.
        shown: bool ``[*spatial]`` of both images, where they show something. Elsewhere
            the field is continued smoothly. None for both if that is everywhere.
        slice_axis: for a 2D network and 3D images in canonical orientation, of which
            it predicts the slices one by one: a key of ``geometry.slices.SLICE_AXES``;
            None for images of the network's dimension.
        memory: limit of the process, GiB, including images and interpreter; a
            prediction that needs more is computed tile by tile. None sets no limit.
        progress: show a progress bar while tiles are predicted.

    Returns:
        ``[*spatial, d]`` float32, voxels, fixed to moving.

    Raises:
        InputError: if not even the smallest tiles fit.
    """
    box = choose_box(network, fixed)
    images = crop_and_scale(box, (fixed, moving), shown)
    room = None
    if memory is not None:
        held = bytes_held(network, fixed, images[0].shape)
        room = memory_of_a_tile(memory, held=held)
    passes = _make_passes(network, room, progress=progress and not slice_axis)
    run = functools.partial(run_passes, passes, factors=network.config.factors)
    if slice_axis:
        # Not the padding of the box across the slices, which is cut off again.
        axis = SLICE_AXES[slice_axis]
        within = range(box.stop[axis] - box.start[axis])
        images = [image.take(within, axis) for image in images]
        field = compute_by_slices(run, images, slice_axis, progress=progress)
    else:
        field = run(*images)
    return box.restore(field)


def compile_ahead(
    network: Network,
    fixed,
    pool: Executor,
    *,
    slice_axis: str | None = None,
    memory: float | None = None,
) -> None:
    """Begin to compile the programs of ``predict``, while something else is done.

    They are those of images with ``shown``. Where images are predicted by slices or by
    tiles, nothing is begun.

    Args:
        network: as for ``predict``.
        fixed: the same.
        pool: of threads.
        slice_axis: as for ``predict``.
        memory: the same.
    """
    if not network.dense or slice_axis or memory is not None:
        return
    shape = choose_box(network, fixed).shape
    prepare_passes(network, pool, shape)


def _make_passes(network: Network, room: float | None, *, progress: bool) -> list:
    """Build a pass for each factor; ``room`` is the memory of a tile, GiB."""
    shrinkage, factors = network.config.shrinkage, network.config.factors

    def make_pass(stage: Network, factor: int) -> Callable:
        both, pooled = network.takes_both_orders(factor), factor > 1
        if stage.dense and room is not None:
            options = {"memory": room, "pooled": pooled, "progress": progress}
            return tiled_pass(stage, shrinkage, both_orders=both, **options)
        predict = stage.predict_patch
        if not stage.dense:
            options = {"memory": room, "progress": progress}
            predict = functools.partial(predict_lattice, stage, **options)
        if both:
            predict = in_both_orders(predict)
        return whole_pass(predict, shrinkage, pooled=pooled)

    return [
        make_pass(stage, factor)
        for stage, factor in zip(network.stages, factors, strict=True)
    ]


def bytes_held(network: Network, fixed, shape) -> float:
    """Return the bytes of images and fields that are held in addition to a tile.

    These are the two given images, the two that the network takes, the fields of the
    last two passes, and a copy of the field while it is continued. Networks with a
    margin hold the images padded and warped, and the field of the pass twice, too.
    """
    *box, channels = shape
    fields = fixed.ndim * sum(f**-fixed.ndim for f in network.config.factors[-2:])
    fields += (channels - 1) * (fixed.ndim + 1)
    if not network.dense:
        fields += 4 + 2 * fixed.ndim
    return 4 * (2 * fixed.size + (2 * channels + fields) * math.prod(box))


def choose_box(network: Network, fixed) -> CropBox:
    """Return the box of a grid ``[*spatial]`` that a network is used on."""
    # Networks with a margin are used on whole images, as in their training.
    return body_box(fixed) if network.dense else cover_box(fixed.shape)


def crop_and_scale(box: CropBox, images, shown) -> list[np.ndarray]:
    """Crop images as a network takes them.

    Args:
        box: of their grid.
        images: both, ``[*spatial]``, HU.
        shown: as for ``predict``.

    Returns:
        Both ``[*box, 1 or 2]``: scaled intensities and, where given, ``shown``.
    """
    return [
        _scaled_channels(
            box.crop(image, AIR), None if where is None else box.crop(where, 0.0)
        )
        for image, where in zip(images, shown, strict=True)
    ]


def _scaled_channels(image, shown) -> np.ndarray:
    """Stack scaled intensities and, where given, ``shown``."""
    scaled = np.asarray(scale_hounsfield(jnp.asarray(image, jnp.float32)))
    channels = [scaled] if shown is None else [scaled, np.asarray(shown, np.float32)]
    return np.stack(channels, axis=-1)
