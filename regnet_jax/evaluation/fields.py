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


def jacobian_statistics(determinant, mask=None) -> dict:
    """Summary of local volume changes.

    Args:
        determinant: ``[*spatial]``, from ``geometry.jacobian_determinant``.
        mask: bool, of the same shape; None takes everything.

    Returns:
        ``min``, ``max``, ``folding_fraction`` (part of voxels at or below zero)
        and ``sd_log`` (standard deviation of the logarithm where positive).
    """
    values = np.asarray(determinant, np.float64)
    values = values.ravel() if mask is None else values[np.asarray(mask, bool)]
    positive = values[values > 0]
    return {
        "min": float(values.min()),
        "max": float(values.max()),
        "folding_fraction": float(np.mean(values <= 0)),
        "sd_log": float(np.log(positive).std()) if positive.size else float("nan"),
    }
