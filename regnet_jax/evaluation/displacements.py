"""Endpoint error: how far a displacement field is from the true one."""

import numpy as np


def endpoint_errors(displacement, truth, mask=None) -> np.ndarray:
    """Length of the difference of two fields of vectors.

    Args:
        displacement: ``[*spatial, d]``, mm, in any order of components.
        truth: ``[*spatial, d]``, mm, in the same order.
        mask: bool, ``[*spatial]``; None takes every voxel.

    Returns:
        ``[n]``, mm, of the voxels in the mask.
    """
    inside = ... if mask is None else np.asarray(mask, bool)
    difference = np.asarray(displacement)[inside] - np.asarray(truth)[inside]
    return np.linalg.norm(difference, axis=-1).ravel()


def endpoint_statistics(errors) -> dict:
    """Summary of the errors of the voxels of one pair.

    Args:
        errors: ``[n]``, mm.

    Returns:
        ``mean``, ``sd``, ``median``, ``p95`` (95th percentile) and ``max``; NaN where
        there are no voxels.
    """
    errors = np.asarray(errors, np.float64)
    if not errors.size:
        return dict.fromkeys(("mean", "sd", "median", "p95", "max"), np.nan)
    return {
        "mean": float(errors.mean()),
        "sd": float(errors.std()),
        "median": float(np.median(errors)),
        "p95": float(np.percentile(errors, 95)),
        "max": float(errors.max()),
    }
