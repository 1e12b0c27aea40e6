"""Fields of 3D images slice by slice, with nothing moving across the slices."""

from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

from regnet_jax.geometry.slices import SLICE_AXES


def compute_by_slices(
    compute: Callable, volumes: Sequence, slice_axis: str, *, progress: bool = False
) -> np.ndarray:
    """Compute the field of each slice in 2D, and stack the fields.

    Args:
        compute: ``compute(*slices) -> displacement`` of one slice of each volume,
            ``[*slice, 2]`` voxels.
        volumes: ``[*spatial, ...]`` in canonical orientation; None is passed on.
        slice_axis: a key of ``SLICE_AXES``.
        progress: show a progress bar over the slices.

    Returns:
        ``[*spatial, 3]`` float32, voxels, zero across the slices.
    """
    axis = SLICE_AXES[slice_axis]
    (count,) = {np.shape(v)[axis] for v in volumes if v is not None}
    fields = [
        np.asarray(
            compute(*(None if v is None else np.take(v, k, axis) for v in volumes)),
            np.float32,
        )
        for k in tqdm(range(count), "predicting", unit="slice", disable=not progress)
    ]
    return np.insert(np.stack(fields, axis), axis, 0.0, axis=-1)
