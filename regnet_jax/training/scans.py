"""Real scans to make pairs of, at each voxel size of a network."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from regnet_jax.errors import InputError
from regnet_jax.io import (
    Image,
    canonicalise,
    isotropic_frame,
    read_image,
    read_manifest,
    resample,
)
from regnet_jax.synthesis.chest import AIR
from regnet_jax.synthesis.scans import Scans
from regnet_jax.training.config import ExperimentConfig


def load_scans(config: ExperimentConfig) -> tuple[Scans, ...]:
    """Reads the scans of an experiment and brings them to its voxel sizes.

    Args:
        config: names the file that lists them.

    Returns:
        ``Scans`` for each stage, int16, in canonical orientation.

    Raises:
        InputError: if an image cannot be read or has another dimension than the
            experiment.
    """
    paths = read_manifest(config.scans)
    images = [read_image(path) for path in tqdm(paths, "reading scans", leave=False)]
    for image in images:
        if image.frame.ndim != len(config.data.shape):
            raise InputError(
                f"{image.name}: is {image.frame.ndim}D and the experiment"
                f" {len(config.data.shape)}D; take it out of {config.scans}"
            )
    return tuple(_stack(images, stage.spacing) for stage in config.data.stages)


def _stack(images: Sequence[Image], spacing: float) -> Scans:
    """The scans at one voxel size, with air behind the smaller ones."""
    arrays = [_at(image, spacing) for image in images]
    sizes = np.asarray([array.shape for array in arrays], np.int32)
    stack = np.full((len(arrays), *sizes.max(axis=0), 1), AIR, np.int16)
    for row, array in zip(stack, arrays, strict=True):
        row[tuple(slice(n) for n in array.shape)] = array[..., None]
    return Scans(jnp.asarray(stack), jnp.asarray(sizes))


def _at(image: Image, spacing: float) -> np.ndarray:
    _, frame = canonicalise(image.array, image.frame)
    array = resample(image, isotropic_frame(frame, spacing)).array
    return np.clip(np.rint(array), AIR, 3095).astype(np.int16)
