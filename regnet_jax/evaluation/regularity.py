"""How regular a displacement field is."""

import numpy as np


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
