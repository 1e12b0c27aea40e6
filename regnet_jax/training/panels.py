"""Pictures of held-out pairs and of what the network makes of them."""

import matplotlib
import numpy as np

from regnet_jax.synthesis.generator_config import GeneratorConfig
from regnet_jax.synthesis.windows import Pairs

# The intensities that are shown, HU, and the displacement that is brightest, voxels.
_DARK, _BRIGHT = -1000.0, 400.0
_LONGEST = 8.0
_GAP = 2


def panel(pair: Pairs, prediction, config: GeneratorConfig) -> np.ndarray:
    """One window in a row: fixed, moving, true field, predicted field, error.

    Fields are shown by their length, on one scale up to 8 voxels. Of volumes it is
    the middle slice.

    Args:
        pair: without batch axis.
        prediction: ``[*targets, d]``, voxels.
        config: of the windows.

    Returns:
        ``[height, width, 3]`` uint8.
    """
    targets = slice(config.margin, config.window - config.margin)
    images = [
        np.asarray(image, np.float32)[(targets,) * (np.ndim(image) - 1)][..., 0]
        for image in (pair.fixed, pair.moving)
    ]
    truth, answer = (np.asarray(u, np.float32) for u in (pair.displacement, prediction))
    lengths = [np.linalg.norm(u, axis=-1) for u in (truth, answer, answer - truth)]
    grey = [_coloured(_middle(i), "gray", _DARK, _BRIGHT) for i in images]
    height, width = grey[0].shape[:2]
    fields = [
        _coloured(_enlarged(_middle(length), config.stride), "magma", 0.0, _LONGEST)
        for length in lengths
    ]
    tiles = grey + [field[:height, :width] for field in fields]
    gap = np.full((height, _GAP, 3), 255, np.uint8)
    row = [part for tile in tiles for part in (tile, gap)][:-1]
    return np.concatenate(row, axis=1)


def _middle(array: np.ndarray) -> np.ndarray:
    return array[len(array) // 2] if array.ndim == 3 else array


def _enlarged(array: np.ndarray, factor: int) -> np.ndarray:
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


def _coloured(array: np.ndarray, name: str, low: float, high: float) -> np.ndarray:
    part = np.clip((array - low) / (high - low), 0.0, 1.0)
    return matplotlib.colormaps[name](part, bytes=True)[..., :3]
