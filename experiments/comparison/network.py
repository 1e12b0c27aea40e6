"""The methods of this project: a network, and the refinement of its prediction."""

from dataclasses import replace

import numpy as np

from experiments.comparison.methods import Setting
from regnet_jax import register as register_pair
from regnet_jax.registration import default_network, load_network
from regnet_jax.spatial import Frame, Image


def register(
    fixed: Image,
    moving: Image,
    *,
    setting: Setting,
    masks,
    model: str | None,
    refine: int,
) -> np.ndarray:
    """Register a pair; see ``experiments.comparison.methods``.

    With the setting ``default`` images may have any intensities, and coordinates are
    scaled such that the fixed image's voxels are as large as the network's, so that
    small organs are registered at their full resolution.
    """
    network = load_network(model or default_network(fixed.frame.ndim)[0])
    factor = 1.0
    if setting == "default":
        factor = network.spacing / float(np.mean(fixed.frame.spacing))
    images = [_scaled(image, factor) for image in (fixed, moving)]
    names = ("fixed_mask", "moving_mask")
    masks = [mask and _scaled(mask, factor) for mask in masks]
    registration = register_pair(
        *images,
        network,
        **dict(zip(names, masks, strict=True)),
        intensity="ct" if setting == "lung" else "auto",
        refine=refine,
    )
    return registration.displacement / factor


def _scaled(image: Image, factor: float) -> Image:
    """Return the image with its spacing and origin multiplied by a factor."""
    frame = image.frame
    spacing, origin = (factor * np.asarray(x) for x in (frame.spacing, frame.origin))
    return replace(image, frame=Frame(frame.shape, spacing, origin, frame.direction))
